package inside_test

import (
	"encoding/hex"
	"encoding/json"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/blocksd/blocksd/e2e/internal/system"
)

// agents that are served, by the handlers of the same names.
var agents = []string{"adder", "echo", "hostile", "sleeper"}

// handler is a row of `handlers --json`.
type handler struct {
	Name, State, Reason, Isolation string
	SkippedLimits, IsolationOpen   []string
	Processes                      []struct{ PID int }
	Crash                          *struct{ Reason, Message string }
}

func handlerRows(t testing.TB) []handler {
	t.Helper()
	var rows []handler
	if err := json.Unmarshal([]byte(ok(t, "blocksd", "handlers", "--json")), &rows); err != nil {
		t.Fatal(err)
	}
	return rows
}

func status(t testing.TB) system.Status {
	t.Helper()
	var s system.Status
	if err := json.Unmarshal([]byte(ok(t, "blocksd", "status", "--json")), &s); err != nil {
		t.Fatal(err)
	}
	return s
}

// ready: the unit is active at its first start, and all that is there is served.
func ready(t *testing.T) {
	awaitReady(t)
	if kind, restarts := property(t, "Type"), property(t, "NRestarts"); kind != "notify" || restarts != "0" {
		t.Errorf("type %s, %s restarts", kind, restarts)
	}
	s := status(t)
	for _, h := range s.Handlers {
		if h.State != "ready" {
			t.Errorf("handler %s is %s: %s", h.Name, h.State, h.Reason)
		}
	}
	var online []string
	for _, a := range s.Agents {
		if a.State == "online" {
			online = append(online, a.Name)
		}
	}
	if slices.Sort(online); !slices.Equal(online, agents) {
		t.Errorf("online are %q", online)
	}
	if pid := property(t, "MainPID"); pid != strconv.Itoa(s.PID) {
		t.Errorf("systemd says that the daemon is %s, the daemon %d", pid, s.PID)
	}
}

// awaitReady waits as the manual has a script wait. A handler that has failed too often does not come back for ten minutes.
func awaitReady(t testing.TB) {
	t.Helper()
	for end := time.Now().Add(deadline); ; {
		r := run(t, "blocksd", "status", "--wait", "READY", "--timeout", "1m")
		if r.code == 0 {
			return
		}
		gaveUp := strings.Contains(run(t, "blocksd", "handlers", "--json").out, `"quarantined"`)
		if gaveUp || time.Now().After(end) || property(t, "ActiveState") == "failed" {
			t.Fatalf("the daemon is not ready: %d %s%s\n%s", r.code, r.out, r.err, run(t, "systemctl", "status", "--no-pager", "blocksd").out)
		}
	}
}

// call sends a task with `blocksd call` and returns the text that it answered.
func call(t testing.TB, agent, text string) string {
	t.Helper()
	out := command{name: "blocksd", args: []string{"call", agent, "--text", text, "--json", "--timeout", "4m"}, env: network}.ok(t)
	var answer strings.Builder
	for _, e := range system.ParseEvents(t, out+"\n") {
		if e.Type == "artifact" {
			answer.WriteString(decode(e.Artifact.Data))
		}
	}
	return answer.String()
}

// called: a task goes through.
func called(t *testing.T) {
	if got := call(t, "echo", "hello"); !strings.Contains(got, "hello") {
		t.Errorf("echo answers %q", got)
	}
}

// whoMayAsk: members of the group read and do not change, others do neither.
func whoMayAsk(t *testing.T) {
	ok(t, "useradd", "-m", "-G", "blocksd", "alice")
	ok(t, "useradd", "-m", "bob")
	as := func(user string, args ...string) result {
		return run(t, "runuser", append([]string{"-u", user, "--", "blocksd"}, args...)...)
	}
	var s system.Status
	if r := as("alice", "status", "--json"); r.code != 0 || json.Unmarshal([]byte(r.out), &s) != nil || !s.Ready {
		t.Errorf("status for a member of the group: %d %s%s", r.code, r.out, r.err)
	}
	if r := as("alice", "restart", "echo"); r.code == 0 {
		t.Errorf("a member of the group may restart a handler: %s", r.out)
	}
	if r := as("bob", "status"); r.code == 0 {
		t.Errorf("somebody outside of the group may ask: %s", r.out)
	}
}

// ofAnOlderKernel is what this Debian's kernel cannot keep, and is no fault of the unit.
var ofAnOlderKernel = regexp.MustCompile(`landlock has version \d`)

// limitsKept: what is configured is enforced under the unit.
func limitsKept(t *testing.T) {
	for _, h := range handlerRows(t) {
		for _, skipped := range h.SkippedLimits {
			if !ofAnOlderKernel.MatchString(skipped) {
				t.Errorf("%s: %s", h.Name, skipped)
			}
		}
		if h.Isolation != "user" {
			t.Errorf("%s has the isolation %q, %q", h.Name, h.Isolation, h.IsolationOpen)
		}
		if h.Name != "hostile" {
			continue
		}
		group, err := os.ReadFile("/proc/" + strconv.Itoa(h.Processes[0].PID) + "/cgroup")
		if err != nil {
			t.Fatal(err)
		}
		dir := "/sys/fs/cgroup" + strings.TrimSpace(strings.TrimPrefix(string(group), "0::"))
		for file, want := range map[string]string{"memory.max": strconv.Itoa(96 << 20), "pids.max": "60", "cpu.max": "150000 100000"} {
			if b, err := os.ReadFile(dir + "/" + file); err != nil || strings.TrimSpace(string(b)) != want {
				t.Errorf("%s is %q, want %s (%v)", file, b, want, err)
			}
		}
	}
}

// keyHidden: a handler cannot read what is the daemon's, and nothing shows the key to others.
func keyHidden(t *testing.T) {
	key := network.Get("BLOCKS_API_KEY")
	journal, err := os.ReadFile("/var/lib/blocksd/journal.key")
	if err != nil || len(journal) < 16 {
		t.Fatalf("the journal's key: %v", err)
	}
	daemon := property(t, "MainPID")
	got := call(t, "hostile", "sh cat /etc/hostname /run/credentials/blocksd.service/* /etc/blocksd/api-key /proc/"+daemon+"/environ "+
		"/proc/"+daemon+"/root/run/credentials/blocksd.service/*; cat /var/lib/blocksd/journal.key | od -An -v -tx1 | tr -d ' \\n'")
	if !strings.Contains(got, "debian") {
		t.Errorf("the handler did not do what it was told: %q", got)
	}
	for _, secret := range []string{key, hex.EncodeToString(journal)[:16]} {
		if strings.Contains(got, secret) {
			t.Errorf("a handler reads a key: %q", got)
		}
	}
	for what, text := range map[string]string{
		"the journal": ok(t, "journalctl", "-u", "blocksd", "--no-pager"), "systemctl show": ok(t, "systemctl", "show", "blocksd"),
		"its environment": ok(t, "cat", "/proc/"+daemon+"/environ"), "its arguments": ok(t, "cat", "/proc/"+daemon+"/cmdline"),
	} {
		if strings.Contains(text, key) {
			t.Errorf("the key is in %s", what)
		}
	}
}

// restartLosesNothing: tasks that run end, tasks that wait run afterwards, each once.
func restartLosesNothing(t *testing.T) {
	ctx, c := consumer(t)
	var tasks []system.Submitted
	for i := range 12 {
		agent, text := "sleeper", "2s"
		if i%3 == 2 {
			agent, text = "echo", "hello"
		}
		task, err := c.Submit(ctx, agent, text)
		if err != nil {
			t.Fatal(err)
		}
		tasks = append(tasks, task)
	}
	before := property(t, "MainPID")
	ok(t, "systemctl", "restart", "blocksd")
	if after := property(t, "MainPID"); after == before {
		t.Error("it is the same process")
	}
	for _, task := range tasks {
		end, err := c.Await(ctx, task)
		if err != nil {
			t.Fatal(err)
		}
		if end.State != "completed" {
			t.Errorf("task %s: %s %s", task.ID, end.State, end.Error)
		}
	}
	awaitReady(t)
	for _, task := range tasks {
		once(ctx, t, c, task)
	}
}

// reloads: a change is taken by the daemon that runs, and a mistake is reported and changes nothing.
func reloads(t *testing.T) {
	before := property(t, "MainPID")
	write(t, settings, configuration("drain: 31s\n"))
	ok(t, "systemctl", "reload", "blocksd")
	running := func() string { return ok(t, "blocksd", "config", "show", "--running") }
	if !strings.Contains(running(), "31s") {
		t.Errorf("the change does not count:\n%s", running())
	}
	since := now()
	write(t, settings, configuration("drian: 32s\n"))
	if r := run(t, "systemctl", "reload", "blocksd"); r.code == 0 {
		t.Error("a reload with a bad configuration succeeds")
	}
	if said := errorsSince(t, since); !strings.Contains(said, "drian") {
		t.Errorf("the journal does not say what is wrong: %q", said)
	}
	if !strings.Contains(running(), "31s") || property(t, "MainPID") != before || property(t, "ActiveState") != "active" {
		t.Errorf("a refused reload has changed something: %s", property(t, "ActiveState"))
	}
	write(t, settings, configuration(""))
	ok(t, "systemctl", "reload", "blocksd")
	awaitReady(t)
}

// badConfiguration: one start, status 78, the reason where the manual says; a corrected file starts at once.
func badConfiguration(t *testing.T) {
	since := now()
	write(t, settings, configuration("drian: 32s\n"))
	if r := run(t, "systemctl", "restart", "blocksd"); r.code == 0 {
		t.Error("a restart with a bad configuration succeeds")
	}
	rests(t, "78", since, "drian")
	write(t, settings, configuration(""))
	ok(t, "systemctl", "start", "blocksd")
	awaitReady(t)
}

// rests sees that the unit has failed with a status, without a second try, and that the journal has the reason.
func rests(t *testing.T, code, since, reason string) {
	t.Helper()
	eventually(t, "the unit rests", func() bool { return property(t, "ActiveState") == "failed" })
	if got, restarts := property(t, "ExecMainStatus"), property(t, "NRestarts"); got != code || restarts != "0" {
		t.Errorf("status %s and %s restarts, want %s and none", got, restarts, code)
	}
	if said := errorsSince(t, since); !strings.Contains(said, reason) {
		t.Errorf("the journal does not say %q: %q", reason, said)
	}
}

// maxExposure is the highest score of `systemd-analyze security` that we accept.
var maxExposure = map[string]float64{"blocksd": 1.7, "blocksd-launcher": 2.2}

// hardened: the scores of the units that are loaded.
func hardened(t *testing.T) {
	for unit, most := range maxExposure {
		out := ok(t, "systemd-analyze", "security", "--no-pager", unit)
		m := regexp.MustCompile(`exposure level for \S+: ([0-9.]+)`).FindStringSubmatch(out)
		if m == nil {
			t.Fatalf("no score in\n%s", out)
		}
		if score, err := strconv.ParseFloat(m[1], 64); err != nil || score > most {
			t.Errorf("exposure of %s is %s, at most %.1f is accepted\n%s", unit, m[1], most, out)
		}
	}
}
