package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"go.uber.org/goleak"

	"github.com/blocksd/blocksd/daemon/config"
	"github.com/blocksd/blocksd/network/backend"
	"github.com/blocksd/blocksd/network/card"
	controlv1 "github.com/blocksd/blocksd/proto/blocks/control/v1"
	"github.com/blocksd/blocksd/runtime/journal"
	"github.com/blocksd/blocksd/supervisor/catalog"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const day = 24 * time.Hour

// TestVerdicts: what is found is judged as it should be, and whatever is not in order comes with what to do.
func TestVerdicts(t *testing.T) {
	now := time.Date(2026, 12, 1, 12, 0, 0, 0, time.UTC)
	f := config.FoundKey{Key: "bk_secret", Source: "file /k"}
	ends := func(in time.Duration) backend.Account {
		return backend.Account{OrgName: "One", KeyExpires: now.Add(in)}
	}
	refused := &backend.Error{Op: "check", Status: http.StatusUnauthorized, Code: "API_KEY_INVALID"}
	stored := f
	stored.Expires = now.Add(day)
	c := card.Card{AgentName: "echo", Raw: []byte(minimalCard("1"))}
	entry := backend.Agent{Name: "echo", OrgID: "o1", Listing: "public", BillingMode: "free", Card: []byte(minimalCard("1"))}
	older, foreign, unreadable := entry, entry, entry
	older.Card, foreign.OrgID, foreign.OrgName, unreadable.Card = []byte(minimalCard("2")), "o2", "Two", []byte("{}")
	dir := directory{path: "/s", isDir: true, mode: 0o700, ours: true, room: 10 << 30}
	with := func(change func(*directory)) directory { d := dir; change(&d); return d }
	all := []string{"cpu", "memory", "pids"}
	ready := &controlv1.StatusResponse{Version: "1", Pid: 7, Ready: true, Agents: []*controlv1.Agent{{Name: "echo"}}}
	busy := &controlv1.StatusResponse{Version: "1", Pid: 7, Ready: true, Reasons: []string{"the API key ends"}}
	unready := &controlv1.StatusResponse{Version: "1", Pid: 7, Reasons: []string{"agent echo is connecting"}}

	for _, v := range []struct {
		name string
		got  Result
		want State
		part string // of the detail
	}{
		{"configuration", aboutConfiguration("/c", nil, nil, nil), OK, "/c can be used"},
		{"configuration, wrong", aboutConfiguration("/c", config.Problems{{Message: "one"}, {Message: "two"}}, nil, nil), Fail, "one; and 1 further problem"},
		{"configuration, missing", aboutConfiguration("", nil, []string{"no file"}, nil), Fail, "no file"},
		{"configuration, warnings", aboutConfiguration("", nil, nil, []string{"unknown"}), Warn, "unknown"},

		{"no key", aboutNoKey(config.ErrNoKey), Fail, "there is no API key"},
		{"a key that may not be read", aboutNoKey(fmt.Errorf("read: %w", fs.ErrPermission)), Skip, "permission"},
		{"a quoted key", aboutNoKey(errors.New("the key is in quotes")), Fail, "quotes"},
		{"key, refused", aboutKey(f, backend.Account{}, refused, now), Fail, "refuses the API key from file /k"},
		{"key, nobody answers", aboutKey(f, backend.Account{}, errors.New("no answer"), now), Warn, "no answer"},
		{"key, without an end", aboutKey(f, backend.Account{OrgName: "One"}, nil, now), OK, "does not say when it ends"},
		{"key, long", aboutKey(f, ends(15*day), nil, now), OK, "ends in 15 days"},
		{"key, 14 days", aboutKey(f, ends(14*day), nil, now), Warn, "ends in 14 days"},
		{"key, an hour", aboutKey(f, ends(time.Minute), nil, now), Warn, "less than an hour"},
		{"key, over", aboutKey(f, ends(-time.Second), nil, now), Fail, "has ended"},
		{"key, as the login knows", aboutKey(stored, backend.Account{OrgName: "One"}, nil, now), Warn, "24 hours"},

		{"clock", aboutClock([]reading{{"PubNub", time.Second}, {"the API", 0}}), OK, "within 1s"},
		{"clock, behind", aboutClock([]reading{{"PubNub", 90 * time.Second}}), Warn, "1m30s behind that of PubNub"},
		{"clock, ahead", aboutClock([]reading{{"the API", -time.Hour}}), Fail, "1h0m0s ahead of that of the API"},
		{"clock, alone", aboutClock(nil), Skip, "no other clock"},

		{"pubnub", aboutPubNub(30*time.Millisecond, nil), OK, "30ms"},
		{"pubnub, slow", aboutPubNub(3*time.Second, nil), Warn, "3s"},
		{"pubnub, unreachable", aboutPubNub(0, errors.New("refused")), Fail, "refused"},
		{"pubnub, unknown", aboutPubNub(0, errNoNetwork), Skip, ""},

		{"registry", aboutEntry("/c", c, entry, "o1", nil), OK, "public, free"},
		{"registry, unknown", aboutEntry("/c", c, backend.Agent{}, "o1", backend.ErrNotFound), Fail, "not registered"},
		{"registry, drift", aboutEntry("/c", c, older, "o1", nil), Warn, "differs from the registered one in /identity/version"},
		{"registry, another's", aboutEntry("/c", c, foreign, "o1", nil), Fail, "belongs to Two"},
		{"registry, unreadable", aboutEntry("/c", c, unreadable, "o1", nil), Warn, "cannot be read"},
		{"registry, no answer", aboutEntry("/c", c, backend.Agent{}, "o1", errors.New("no answer")), Warn, "no answer"},

		{"plugins", aboutPlugins("/p", []catalog.Found{{Name: "echo"}}, nil), OK, "1 handler in /p: echo"},
		{"plugins, none", aboutPlugins("/p", nil, nil), Warn, "no handler"},
		{"plugins, one skipped", aboutPlugins("/p", []catalog.Found{{Name: "echo"}}, []catalog.Skip{{Path: "/p/x", Name: "x", Reason: "handler x"}}), Warn, "handler x"},
		{"plugins, untrusted", aboutPlugins("/p", nil, []catalog.Skip{{Path: "/p", Reason: "plugins directory /p is not used"}}), Fail, "is not used"},

		{"state", aboutState(dir), OK, "/s, mode 0700, 10.0 GiB free"},
		{"state, another's", aboutState(with(func(d *directory) { d.ours, d.owner = false, 9 })), OK, "belongs to user 9"},
		{"state, missing", aboutState(directory{path: "/s", missing: true, room: -1}), OK, "made at the first start"},
		{"state, a file", aboutState(directory{path: "/s", room: -1}), Fail, "not a directory"},
		{"state, writable", aboutState(with(func(d *directory) { d.mode = 0o770 })), Fail, "may write"},
		{"state, readable", aboutState(with(func(d *directory) { d.mode = 0o750 })), Warn, "look into"},
		{"state, full", aboutState(with(func(d *directory) { d.room = 1 << 20 })), Fail, "only 1 MiB free"},
		{"state, nearly full", aboutState(with(func(d *directory) { d.room = 100 << 20 })), Warn, "only 100 MiB free"},
		{"state, read-only", aboutState(with(func(d *directory) { d.readOnly = true })), Fail, "read-only"},
		{"state, noexec", aboutState(with(func(d *directory) { d.noExec = true })), Warn, "noexec"},

		{"journal", aboutJournal("/j", journal.Condition{Size: 5 << 20}, nil), OK, "/j is sound, 5 MiB"},
		{"journal, none", aboutJournal("/j", journal.Condition{Missing: true}, nil), OK, "none yet"},
		{"journal, in use", aboutJournal("/j", journal.Condition{InUse: true}, nil), OK, "in use by a daemon"},
		{"journal, no key", aboutJournal("/j", journal.Condition{NoKey: true}, nil), Warn, "journal.key"},
		{"journal, damaged", aboutJournal("/j", journal.Condition{}, errors.New("damaged")), Fail, "damaged"},
		{"journal, closed", aboutJournal("/j", journal.Condition{}, fs.ErrPermission), Skip, "may not be read"},

		{"landlock", aboutLandlock(3, "", true), OK, "version 3"},
		{"landlock, old", aboutLandlock(2, "", true), Warn, "version 2"},
		{"landlock, none", aboutLandlock(0, "the kernel has no landlock", false), Warn, "no landlock"},
		{"landlock, none and needed", aboutLandlock(0, "the kernel has no landlock", true), Fail, "read_paths"},

		{"unit, none", aboutUnit("", false, ""), Skip, "not installed"},
		{"unit", aboutUnit("/u", true, "active"), OK, "/u is active"},
		{"unit without systemd", aboutUnit("/u", true, ""), OK, "does not run here"},
		{"unit, changed", aboutUnit("/u", false, "active"), Warn, "not the one"},
		{"unit, stopped", aboutUnit("/u", true, "inactive"), Warn, "does not run"},
		{"unit, failed", aboutUnit("/u", false, "failed"), Fail, "has failed"},

		{"daemon, none", aboutDaemon("/d", nil, errors.New("ask: there is no such socket"), "1"), Skip, "none runs at /d"},
		{"daemon, closed", aboutDaemon("/d", nil, errors.New("this user may not open the socket"), "1"), Skip, "may not open"},
		{"daemon, silent", aboutDaemon("/d", nil, errors.New("it did not answer in time"), "1"), Fail, "did not answer"},
		{"daemon", aboutDaemon("/d", ready, nil, "1"), OK, "ready with 1 agent"},
		{"daemon, another version", aboutDaemon("/d", ready, nil, "2"), Warn, "this program has version 2"},
		{"daemon, with reasons", aboutDaemon("/d", busy, nil, "1"), Warn, "the API key ends"},
		{"daemon, not ready", aboutDaemon("/d", unready, nil, "1"), Warn, "agent echo is connecting"},
		{"cgroups", aboutCgroups("auto", all, true, nil), OK, "memory, pids and cpu"},
		{"cgroups, version 1", aboutCgroups("auto", nil, false, nil), Warn, "version 2 is not there"},
		{"cgroups, less", aboutCgroups("auto", []string{"memory"}, true, nil), Warn, "pids, cpu"},
		{"cgroups, off", aboutCgroups("off", nil, false, nil), Skip, "switched off"},
		{"cgroups, limits", aboutCgroups("auto", all, true, []string{"handler x: no"}), Warn, "handler x: no"},
	} {
		if v.got.State != v.want || !strings.Contains(v.got.Detail, v.part) || v.got.Detail == "" {
			t.Errorf("%s: got %+v, want %s with %q", v.name, v.got, v.want, v.part)
		}
		if (v.got.Fix == "") != (v.got.State == OK) {
			t.Errorf("%s is %s, and the fix is %q", v.name, v.got.State, v.got.Fix)
		}
		if strings.Contains(v.got.Detail+v.got.Fix, "bk_secret") {
			t.Errorf("%s shows the key: %+v", v.name, v.got)
		}
	}
}

func minimalCard(version string) string {
	return `{"identity":{"agentName":"echo","displayName":"E","description":"","version":"` + version + `","provider":{"organization":"o"}},
"capabilities":{"taskKinds":["request"]},"tags":[{"id":"t","name":"T"}],"runtime":{"handler":"h"}}`
}

func TestDrift(t *testing.T) {
	for _, c := range []struct{ a, b, want string }{
		{`{"a":1,"b":{"c":[1,2]}}`, `{"b":{"c":[1,2]},"a":1.0}`, ""},
		{`{"a":1,"b":{"c":[1,2]}}`, `{"b":{"c":[2,1],"d":0}}`, "/a /b/c /b/d"},
		{`{"a":{}}`, `{"a":[]}`, "/a"},
		{`x`, `{}`, "/"},
	} {
		if got := strings.Join(drift([]byte(c.a), []byte(c.b)), " "); got != c.want {
			t.Errorf("%s, %s: %q, want %q", c.a, c.b, got, c.want)
		}
	}
}

// TestPrintFits: no line is wider than the report may be, nothing is lost, and colors come only when they are wanted.
func TestPrintFits(t *testing.T) {
	rs := []Result{
		{"configuration", Fail, strings.Repeat("word ", 60) + strings.Repeat("x", 200), strings.Repeat("ünïcödé ", 30)},
		{"daemon", OK, "fine", ""},
	}
	for _, c := range []struct {
		width  int
		colors bool
	}{{50, false}, {80, false}, {80, true}} {
		width, colors := c.width, c.colors
		var b strings.Builder
		if err := Print(&b, rs, width, colors); err != nil {
			t.Fatal(err)
		}
		text := b.String()
		if strings.Contains(text, "\x1b") != colors {
			t.Errorf("colors %v:\n%s", colors, text)
		}
		if strings.Count(text, "word") != 60 || strings.Count(text, "x") != 200 || !strings.Contains(text, "1 ok, 1 failed") {
			t.Errorf("something is lost:\n%s", text)
		}
		for line := range strings.Lines(text) {
			if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > width && !colors {
				t.Errorf("%d characters: %s", n, line)
			}
		}
	}
}

// TestCheckThatHangs: it fails when its time is over, and the others are not held up.
func TestCheckThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		end := make(chan struct{})
		c := check{"stuck", func(context.Context, *world) []Result { <-end; return nil }}
		begin := time.Now()
		rs := c.within(t.Context(), nil, Limit)
		if len(rs) != 1 || rs[0].State != Fail || rs[0].Check != "stuck" || time.Since(begin) > 2*Limit {
			t.Errorf("%+v after %s", rs, time.Since(begin))
		}
		close(end)
	})
}
