// Package pubnub drives the sandbox with PubNub's own clients, unmodified and pinned.
package pubnub

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"go.uber.org/goleak"

	"github.com/blocksd/blocksd/e2e/internal/system"
)

var bin system.Binaries

func TestMain(m *testing.M) {
	if os.Getenv(driverVariable) != "" {
		goDriver()
		return
	}
	var err error
	if bin, err = system.Build("../../.."); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		os.RemoveAll(bin.Dir)
		os.Exit(code)
	}))
}

// get fetches a path of the sandbox, for what no SDK sends.
func get(t *testing.T, origin, path string) (int, string) {
	t.Helper()
	res, err := http.Get("http://" + origin + path)
	if err != nil {
		t.Fatal(err)
	}
	defer http.DefaultClient.CloseIdleConnections()
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(body)
}

// TestNodeWatchesTask: the npm package pubnub subscribes to a running task's channel and sees running, the status, the
// artifact and the terminal, in this order.
func TestNodeWatchesTask(t *testing.T) {
	node, err := exec.LookPath("node")
	if err != nil {
		t.Skip("node is not installed")
	}
	if _, err := os.Stat("node_modules/pubnub"); err != nil {
		t.Skip("the npm package pubnub is not installed: run make test")
	}
	n := bin.Dev(t, bin.TestPlugins())

	// A token for the task's channel, as any consumer gets it.
	_, id, result := n.StartCall(t, "sleeper", "--text", "2s")
	watch, err := n.ReadGrant(t, id)
	if err != nil {
		t.Fatal(err)
	}
	watch.ReadyFile = filepath.Join(t.TempDir(), "ready")
	arg, err := json.Marshal(watch)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(node, "watch.mjs", string(arg))
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("watch.mjs: %v\n%s", err, out)
	}
	result()
	// The subscription was live when the end came: it was made before, or the test would prove history only.
	if b, err := os.ReadFile(watch.ReadyFile); err != nil {
		t.Fatal("the task ended before the subscription was made")
	} else if last := system.ParseEvents(t, string(out)); last[len(last)-1].Timetoken <= string(b) {
		t.Errorf("terminal %s is not newer than the history's end %s", last[len(last)-1].Timetoken, b)
	}

	var got []string
	for _, e := range system.ParseEvents(t, string(out)) {
		got = append(got, e.Type+" "+e.State+e.Message)
	}
	want := []string{"request ", "progress running", "progress sleeping", "artifact ", "terminal completed"}
	if !slices.Equal(got, want) {
		t.Errorf("events %q, want %q", got, want)
	}
	n.Stop(t)
}
