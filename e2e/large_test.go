package e2e

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/blocksd/blocksd/e2e/internal/system"
	"github.com/blocksd/blocksd/internal/testutil"
)

// TestLargeStream: a hundred megabytes arrive as they were written, through the daemon, a network that needs 20 ms for each
// message, delivers one in a hundred twice and two in a hundred in another order, and `call --stream`. The network keeps
// more messages than PubNub does, so that a reader that a busy machine holds up is not what decides.
func TestLargeStream(t *testing.T) {
	_, env := bin.Sandbox(t, bin.TestPlugins(), "--ring-size", "10000")
	bin.Daemon(t, env, system.PluginDir(t, map[string]string{"scripted": filepath.Join(bin.TestPlugins(), "scripted")}, nil))
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	admin := "http://" + env.Get("BLOCKSD_PUBNUB_ORIGIN") + "/_sandbox/faults"
	for _, rule := range []map[string]any{
		{"endpoint": "publish", "channel": "stream.*", "delay": "20ms"},
		{"action": "duplicate", "channel": "stream.*", "every": 100},
		{"action": "reorder", "channel": "stream.*", "every": 50},
	} {
		if err := system.Exchange(t.Context(), client, http.MethodPost, admin, env.Get("BLOCKSD_SANDBOX_TOKEN"), rule, &struct{}{}); err != nil {
			t.Fatal(err)
		}
	}

	// Of different sizes, so that two messages that change places change the whole.
	sizes, repeat := []int{65536, 1000, 40000, 16385, 8150}, 800
	want, total := sha256.New(), int64(0)
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
			want.Write(b)
			total += int64(size)
		}
	}
	text, err := json.Marshal([]any{map[string]any{"write": map[string]any{"name": "log", "chunks": chunks, "repeat": repeat}}})
	if err != nil {
		t.Fatal(err)
	}
	got, read := sha256.New(), int64(0)
	cmd := exec.Command(bin.Blocksd(), "call", "scripted", "--stream", "--text", string(text), "--timeout", "5m")
	cmd.Env = append(system.CleanEnv(), env...)
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
	t.Logf("%.0f MB in %s", float64(total)/1e6, time.Since(began).Round(10*time.Millisecond))
	if read != total || hex.EncodeToString(got.Sum(nil)) != hex.EncodeToString(want.Sum(nil)) {
		t.Errorf("%d of %d bytes arrived, or other ones\n%s", read, total, stderr.String())
	}
	var rules struct {
		Faults []struct {
			Action string
			Hits   int
		}
	}
	if err := system.Exchange(t.Context(), client, http.MethodGet, admin, env.Get("BLOCKSD_SANDBOX_TOKEN"), nil, &rules); err != nil {
		t.Fatal(err)
	}
	for _, r := range rules.Faults {
		t.Logf("%q hit %d", r.Action, r.Hits)
		if r.Hits < 10 {
			t.Errorf("the network did %q only %d times", r.Action, r.Hits)
		}
	}
}

type writerFunc func(p []byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }
