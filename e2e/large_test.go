package e2e

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/blocksd/blocksd/e2e/internal/system"
	"github.com/blocksd/blocksd/internal/testutil"
)

// TestLargeStream: a hundred megabytes arrive as they were written, through the daemon, a network that needs 20 or 100 ms for
// each message, delivers one in a hundred twice and two in a hundred in another order, and `call --stream`. The network keeps
// a hundred messages, as PubNub does. When the reader alone stands still for half a second, the network drops some, and then a
// gap is reported; it must not be so time after time.
func TestLargeStream(t *testing.T) {
	for _, delay := range []string{"20ms", "100ms"} {
		t.Run(delay, func(t *testing.T) {
			_, env := bin.Sandbox(t, bin.TestPlugins())
			bin.Daemon(t, env, system.PluginDir(t, map[string]string{"scripted": filepath.Join(bin.TestPlugins(), "scripted")}, nil))
			l := newLarge(t, env)
			l.unreliable(delay)
			const attempts = 10
			for n := 1; !l.transfer(); n++ {
				if n == attempts {
					t.Fatalf("something was lost in each of %d attempts", attempts)
				}
			}
			l.wasUnreliable()
		})
	}
}

// large is a hundred megabytes on an unreliable network.
type large struct {
	t      *testing.T
	env    system.Env
	admin  string
	client *http.Client
	script string
	digest string
	total  int64
}

func newLarge(t *testing.T, env system.Env) *large {
	l := &large{
		t: t, env: env, admin: "http://" + env.Get("BLOCKSD_PUBNUB_ORIGIN") + "/_sandbox/faults",
		client: &http.Client{Transport: &http.Transport{DisableKeepAlives: true}},
	}
	// Of different sizes, so that two messages that change places change the whole.
	sizes, repeat := []int{65536, 1000, 40000, 16385, 8150}, 800
	sum := sha256.New()
	var chunks []map[string]int
	for _, size := range sizes {
		chunks = append(chunks, map[string]int{"size": size})
	}
	for range repeat {
		for _, size := range sizes {
			b := make([]byte, size)
			for i := range b {
				b[i] = byte(i * 7 % 251)
			}
			sum.Write(b)
			l.total += int64(size)
		}
	}
	l.digest = hex.EncodeToString(sum.Sum(nil))
	script, err := json.Marshal([]any{map[string]any{"write": map[string]any{"name": "log", "chunks": chunks, "repeat": repeat}}})
	if err != nil {
		t.Fatal(err)
	}
	l.script = string(script)
	return l
}

// unreliable begins the faults of the network.
func (l *large) unreliable(delay string) {
	l.t.Helper()
	for _, rule := range []map[string]any{
		{"endpoint": "publish", "channel": "stream.*", "delay": delay},
		{"action": "duplicate", "channel": "stream.*", "every": 100},
		{"action": "reorder", "channel": "stream.*", "every": 50},
	} {
		if err := system.Exchange(l.t.Context(), l.client, http.MethodPost, l.admin, l.env.Get("BLOCKSD_SANDBOX_TOKEN"), rule, &struct{}{}); err != nil {
			l.t.Fatal(err)
		}
	}
}

// transfer sends everything through one stream and reports whether all of it arrived. What was lost must have been said.
func (l *large) transfer() bool {
	t := l.t
	t.Helper()
	got, read := sha256.New(), int64(0)
	cmd := exec.Command(bin.Blocksd(), "call", "scripted", "--stream", "--text", l.script, "--timeout", "5m")
	cmd.Env = append(system.CleanEnv(), l.env...)
	var stderr testutil.Buffer
	cmd.Stderr = &stderr
	cmd.Stdout = writerFunc(func(p []byte) (int, error) {
		read += int64(len(p))
		return got.Write(p)
	})
	began := time.Now()
	if err := cmd.Run(); err != nil {
		t.Fatalf("call: %v\n%s", err, stderr.String())
	}
	t.Logf("%.0f of %.0f MB in %s", float64(read)/1e6, float64(l.total)/1e6, time.Since(began).Round(10*time.Millisecond))
	reported := strings.Contains(stderr.String(), "gap")
	switch {
	case read != l.total && !reported:
		t.Fatalf("%d of %d bytes arrived, and nothing was said of it\n%s", read, l.total, stderr.String())
	case read == l.total && (reported || hex.EncodeToString(got.Sum(nil)) != l.digest):
		t.Fatalf("other bytes arrived than were sent\n%s", stderr.String())
	}
	return read == l.total
}

// wasUnreliable checks that the faults have happened.
func (l *large) wasUnreliable() {
	l.t.Helper()
	var rules struct {
		Faults []struct {
			Action string
			Hits   int
		}
	}
	if err := system.Exchange(l.t.Context(), l.client, http.MethodGet, l.admin, l.env.Get("BLOCKSD_SANDBOX_TOKEN"), nil, &rules); err != nil {
		l.t.Fatal(err)
	}
	for _, r := range rules.Faults {
		l.t.Logf("%q hit %d", r.Action, r.Hits)
		if r.Hits < 10 {
			l.t.Errorf("the network did %q only %d times", r.Action, r.Hits)
		}
	}
}

type writerFunc func(p []byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }
