package sandbox

import (
	"context"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/blocksd/blocksd/network/wire"
	"github.com/blocksd/blocksd/sandbox/switches"
)

// runIn runs a sandbox in a directory for the duration of do.
func runIn(t *testing.T, dir, listen string, do func(b *bed)) (addr string) {
	t.Helper()
	s, err := New(Config{Log: slog.New(slog.DiscardHandler), PresenceScan: 10 * time.Millisecond, StateDir: dir, Listen: listen, Blocks: switches.Blocks{SafetyNet: 2 * time.Second}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	transport := &http.Transport{MaxIdleConnsPerHost: 64}
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
		transport.CloseIdleConnections()
	}()
	do(&bed{s, t, &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}})
	return s.Addr()
}

func TestKeptNetwork(t *testing.T) {
	dir := t.TempDir()
	var (
		env                     []EnvVar
		finished, open, waiting sent
		again                   sent
		token, keyID, fileURL   string
		worker                  *worker
		idempotent              = object{"idempotencyKey": "k"}
	)
	addr := runIn(t, dir, "", func(b *bed) {
		env = b.Env()
		b.register("echo", 1, `{}`)
		b.registerWith("mine", 1, `{"listing":"private"}`, "")
		token = b.consumer(b.APIKey())
		worker = b.work("echo", "AG-echo-1", 1)
		worker.state(0)
		finished = b.send(token, "echo", "done", idempotent)
		first := worker.next()
		worker.running(first)
		fileURL = b.upload(worker, finished.TaskID, "result.txt", "the result")
		worker.end(first, wire.Completed)
		worker.state(0)
		open = b.send(token, "echo", "open", nil)
		second := worker.next()
		worker.running(second)
		waiting = b.send(token, "echo", "waiting", nil)
		k, err := b.CreateKey("org_2", "ci", 0)
		if err != nil {
			t.Fatal(err)
		}
		keyID = k.ID
		if err := b.RevokeKey(k.ID); err != nil {
			t.Fatal(err)
		}
		if _, err := New(Config{StateDir: dir}); err == nil || !strings.Contains(err.Error(), "another sandbox uses the directory") {
			t.Errorf("second sandbox: %v", err)
		}
		worker.stop()
	})
	info, err := os.Stat(filepath.Join(dir, stateFile))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("%v, %v", info, err)
	}

	runIn(t, dir, addr, func(b *bed) {
		if diff := cmp.Diff(env, b.Env()); diff != "" {
			t.Errorf("another identity: %s", diff)
		}
		if diff := cmp.Diff([]string{"request", "progress running", "artifact", "terminal completed"}, b.events(finished)); diff != "" {
			t.Error(diff)
		}
		// The JWT of before still counts, and so does the idempotency key.
		if state := b.taskState(token, finished.TaskID); state != "completed" {
			t.Errorf("state %s", state)
		}
		again = b.send(token, "echo", "done", idempotent)
		if !again.Idempotent || again.TaskID != finished.TaskID {
			t.Errorf("%+v", again)
		}
		if status, body, _ := b.do("GET", fileURL, "", ""); status != 200 || body != "the result" {
			t.Errorf("file: %d %s", status, body)
		}
		if status, _, _ := b.do("GET", "/api/v1/registry/agents?agentName=mine", "", ""); status != 404 {
			t.Errorf("private agent: %d", status)
		}
		revoked := false
		for _, k := range b.blocks.Keys() {
			revoked = revoked || k.ID == keyID && k.Revoked
		}
		if !revoked {
			t.Error("the key is not revoked any more")
		}
		// The instance goes on where it was, with its old token and cursor.
		w := *worker
		w.bed, w.done, w.messages = b, make(chan struct{}), make(chan object, 16)
		ctx, cancel := context.WithCancel(context.Background())
		w.cancel = cancel
		go w.poll(ctx)
		defer w.stop()
		b.await("the instance is back", func() bool { return b.blocks.Stats().Instances == 1 })
		w.state(1)
		w.end(object{"taskId": open.TaskID, "orgId": open.OrgID, "writeToken": worker.token}, wire.Completed)
		w.state(0)
		if got := w.next()["taskId"]; got != waiting.TaskID {
			t.Errorf("got the task %v, want the one that waited, %s", got, waiting.TaskID)
		}
		if diff := cmp.Diff([]string{"request", "progress running", "terminal completed"}, b.events(open)); diff != "" {
			t.Error(diff)
		}
	})

	// Nobody comes back: the task that runs fails, the one that waits waits.
	runIn(t, dir, addr, func(b *bed) {
		b.await("the safety net", func() bool { return b.taskState(b.consumer(b.APIKey()), waiting.TaskID) != "running" })
	})
}

func TestUnreadableState(t *testing.T) {
	for _, content := range []string{"", "{", `{"Version":99}`} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, stateFile), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := New(Config{StateDir: dir})
		want := "keep the sandbox in " + dir + ": network.json cannot be read by this version: delete it to start over, or choose another directory"
		if err == nil || err.Error() != want {
			t.Errorf("%q: %v", content, err)
		}
		if got, err := os.ReadFile(filepath.Join(dir, stateFile)); err != nil || string(got) != content {
			t.Errorf("%q was changed to %q, %v", content, got, err)
		}
	}
}
