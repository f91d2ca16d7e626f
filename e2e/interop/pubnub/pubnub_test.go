// Package pubnub drives the sandbox with PubNub's own clients, unmodified and pinned.
package pubnub

import (
	"context"
	"encoding/json"
	"flag"
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
	"github.com/blocksd/blocksd/internal/sources"
)

var bin system.Binaries

// TestSources makes the results of this package depend on what its programs are built from.
func TestSources(t *testing.T) {
	if err := sources.Track(); err != nil {
		t.Fatal(err)
	}
}

func TestMain(m *testing.M) {
	if os.Getenv(driverVariable) != "" {
		goDriver()
		return
	}
	// Waits dominate: more tests at a time than there are cores, unless someone says how many.
	flag.Parse()
	if f := flag.Lookup("test.parallel"); f.Value.String() == f.DefValue {
		_ = f.Value.Set("6")
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
// artifact and the terminal, in this order. The task is canceled, and so ends, only when the subscription stands.
func TestNodeWatchesTask(t *testing.T) {
	node, err := exec.LookPath("node")
	if err != nil {
		t.Skip("node is not installed")
	}
	if _, err := os.Stat("node_modules/pubnub"); err != nil {
		t.Skip("the npm package pubnub is not installed: run make test")
	}
	n := bin.Dev(t, bin.TestPlugins())
	ctx, cancel := context.WithTimeout(t.Context(), 3*patience)
	defer cancel()
	consumer, err := system.NewConsumer(ctx, n.Env)
	if err != nil {
		t.Fatal(err)
	}
	defer consumer.Close()
	task, err := consumer.Submit(ctx, "scripted", `[{"status":"waiting"},{"await_cancel":600},{"return":{"text":"done","mimeType":"text/plain"}}]`)
	if err != nil {
		t.Fatal(err)
	}
	// A token for the task's channel, as any consumer gets it.
	watch, err := n.ReadGrant(t, task.ID)
	if err != nil {
		t.Fatal(err)
	}
	watch.ReadyFile = filepath.Join(t.TempDir(), "ready")
	arg, err := json.Marshal(watch)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(ctx, node, "watch.mjs", string(arg))
	cmd.Stderr = os.Stderr
	var out []byte
	ended := make(chan error, 1)
	go func() {
		var err error
		out, err = cmd.Output()
		ended <- err
	}()
	defer func() { cancel(); <-ended }()
	system.Eventually(t, patience, "watch.mjs has subscribed", func() bool {
		_, err := os.Stat(watch.ReadyFile)
		return err == nil
	})
	if r := n.Run(t, n.Env, "cancel", task.ID); r.Code != 0 {
		t.Fatalf("cancel: %+v", r)
	}
	err = <-ended
	ended <- nil
	if err != nil {
		t.Fatalf("watch.mjs: %v\n%s", err, out)
	}
	events := system.ParseEvents(t, string(out))
	if newest, err := os.ReadFile(watch.ReadyFile); err != nil || events[len(events)-1].Timetoken <= string(newest) {
		t.Errorf("the terminal %+v is not newer than the history's end %s (%v)", events[len(events)-1], newest, err)
	}
	var got []string
	for _, e := range events {
		got = append(got, e.Type+" "+e.State+e.Message)
	}
	want := []string{"request ", "progress running", "progress waiting", "artifact ", "terminal canceled"}
	if !slices.Equal(got, want) {
		t.Errorf("events %q, want %q", got, want)
	}
	n.Stop(t)
}
