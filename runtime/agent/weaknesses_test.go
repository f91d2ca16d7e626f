package agent

// Tests of docs/provider-weaknesses.md that fit nowhere else.

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/blocksd/blocksd/dispatch"
	"github.com/blocksd/blocksd/internal/testutil"
	"github.com/blocksd/blocksd/network/backend"
	"github.com/blocksd/blocksd/network/card"
	"github.com/blocksd/blocksd/network/wire"
	"github.com/blocksd/blocksd/sandbox/fault"
)

// TestDeadlineByTheNetworksClock: the end of a pipe task is stated in the network's time, whatever ours says.
func TestDeadlineByTheNetworksClock(t *testing.T) {
	n, st := newNetwork(t, true), newStage()
	wrong := &shifted{}
	wrong.by.Store(int64(-3 * time.Hour))
	a := n.serve(cardOf(t, "worker", 8, ""), st, func(c *Config) { c.Now = wrong.now })
	a.await(StateOnline)
	eventually(t, "the network's clock is known", func() bool { return a.offset() > time.Hour })
	a.control(startTask("p1", fmt.Sprintf(`,"taskKind":"pipe","duration":60,"durationExpiresAtMs":%d`, time.Now().Add(time.Hour).UnixMilli())))
	c := st.next(t)
	left := a.Tasks()[0].Deadline.Sub(wrong.now())
	if left < 50*time.Minute || left > 61*time.Minute {
		t.Errorf("the task has %v left, not an hour", left)
	}
	// One whose time is over by the network's clock ends at once, though ours says that it has two hours.
	a.control(startTask("p2", fmt.Sprintf(`,"taskKind":"pipe","duration":60,"durationExpiresAtMs":%d`, time.Now().Add(-time.Hour).UnixMilli())))
	second := st.next(t)
	<-second.ctx.Done()
	second.result <- nil
	if e := n.terminal("p2"); e.State != wire.Completed {
		t.Errorf("%+v", e)
	}
	c.result <- nil
	a.control(`{"type":"TerminateTask","taskId":"p1"}`)
	n.terminal("p1")
}

// TestDetachedPipeHoldsItsSlot: a pipe task costs a slot until its terminal, also after its handler returned.
func TestDetachedPipeHoldsItsSlot(t *testing.T) {
	n, st := newNetwork(t, true), newStage()
	a := n.serve(cardOf(t, "worker", 1, ""), st, nil)
	a.await(StateOnline)
	a.control(startTask("p1", fmt.Sprintf(`,"taskKind":"pipe","duration":60,"durationExpiresAtMs":%d`, time.Now().Add(time.Hour).UnixMilli())))
	st.next(t).result <- nil
	a.control(startTask("t1", ""))
	n.terminal("t1")
	n.same("t1", "failed:agent_at_capacity")
	a.control(`{"type":"CancelTask","taskId":"p1"}`)
	n.terminal("p1")
	a.control(startTask("t2", ""))
	st.next(t).result <- nil
	n.terminal("t2")
	n.same("t2", "running completed")
}

// TestBroadcastRefusalIsSaidOnce: of many instances that would all say that a broadcast task makes no sense one does.
func TestBroadcastRefusalIsSaidOnce(t *testing.T) {
	n, st := newNetwork(t, true), newStage()
	c := cardOf(t, "worker", 4, "")
	var refusing atomic.Bool
	said := make(chan struct{})
	for i := range 3 {
		a := n.serve(c, st, func(cfg *Config) {
			cfg.Jitter = func() float64 {
				if i > 0 && refusing.Load() { // its turn comes behind that of the first, however slow that one is
					<-said
				}
				return float64(i) / 2
			}
			cfg.Timeouts.Spread = 10 * time.Millisecond
		})
		a.await(StateOnline)
		if i == 2 {
			refusing.Store(true)
			a.broadcast(startTask("b1", `,"taskKind":"pipe"`))
			n.terminal("b1")
			close(said)
			eventually(t, "all have answered or let it be", func() bool {
				a.mu.Lock()
				defer a.mu.Unlock()
				return a.counts.Refused == 1 && a.tasks.refusing == 0
			})
		}
	}
	n.same("b1", "failed:invalid_start_task")
}

// TestUndeclaredInputs: what a task brings and lacks against the card is logged, and the task runs.
func TestUndeclaredInputs(t *testing.T) {
	n, st := newNetwork(t, true), newStage()
	var undeclared, missing atomic.Int32
	a := n.serve(cardOf(t, "worker", 4, ""), st, func(c *Config) {
		c.Log = slog.New(&counter{Handler: &counter{Handler: slog.DiscardHandler, text: "lacks an input", count: &missing}, text: "does not declare", count: &undeclared, next: true})
	})
	a.await(StateOnline)
	a.control(`{"type":"StartTask","taskId":"t1","orgId":"org","requestParts":[{"partId":"surprise","text":"x"}]}`)
	st.next(t).result <- nil
	n.terminal("t1")
	n.same("t1", "running completed")
	if undeclared.Load() != 1 || missing.Load() != 1 {
		t.Errorf("%d and %d warnings", undeclared.Load(), missing.Load())
	}
}

// TestInputLimit: a file larger than the card allows never reaches the handler, announced or not.
func TestInputLimit(t *testing.T) {
	n := newNetwork(t, false)
	raw := strings.Replace(string(cardOf(t, "worker", 4, "").Raw), `"description": "A file."`, `"description": "A file.", "maxSizeBytes": 1000`, 1)
	c, err := card.Parse([]byte(raw))
	if err != nil {
		t.Fatal(err)
	}
	result := make(chan error, 1)
	a := n.serve(c, NewFuncDispatcher(func(ctx context.Context, task *wire.Task, port dispatch.TaskPort) error {
		task.Parts[1].File.Size = 0 // as if the sender had not said
		in, err := port.Input(ctx, 1)
		if err == nil {
			_, err = io.Copy(io.Discard, in.Body)
			err = errors.Join(err, in.Body.Close())
		}
		result <- err
		return nil
	}), nil)
	a.await(StateOnline)
	consumer := n.api.NewConsumer(n.sb.APIKey())
	session, err := consumer.UploadInput(t.Context(), backend.Upload{
		AgentName: "worker", PartID: "doc", FileName: "large.pdf", MIMEType: "application/pdf", Size: 5000,
		Open: func() (io.ReadCloser, error) { return io.NopCloser(io.LimitReader(zeros{}, 5000)), nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	_, events := n.send(consumer, backend.SendRequest{
		AgentName: "worker", BillingMode: wire.Free, UploadSessionID: session,
		Parts: []wire.Part{text("request", "hi"), {PartID: "doc", ContentType: "application/pdf"}},
	})
	if _, last := ending(t, events); last.State != wire.Completed {
		t.Fatalf("%s %s", last.State, last.Error)
	}
	if err := <-result; err == nil || !strings.Contains(err.Error(), "more than 1000 bytes") {
		t.Errorf("the handler got: %v", err)
	}

	b := &bounded{ReadCloser: io.NopCloser(strings.NewReader("12345")), left: 4, err: errTaskOver}
	if _, err := io.ReadAll(b); !errors.Is(err, errTaskOver) {
		t.Errorf("five bytes of four: %v", err)
	}
	b = &bounded{ReadCloser: io.NopCloser(strings.NewReader("1234")), left: 4, err: errTaskOver}
	if got, err := io.ReadAll(b); err != nil || string(got) != "1234" {
		t.Errorf("four bytes of four: %q, %v", got, err)
	}
}

// TestStorageAnswerStaysInside: what the storage says to an upload that it refuses reaches neither handler, nor consumer,
// nor log: only its status does.
func TestStorageAnswerStaysInside(t *testing.T) {
	n := newNetwork(t, false)
	if _, err := n.sb.Faults().Add(fault.Rule{Endpoint: "blob", Status: http.StatusForbidden, Body: "<Code>secret</Code>"}); err != nil {
		t.Fatal(err)
	}
	refused := make(chan error, 1)
	var log testutil.Buffer
	a := n.serve(cardOf(t, "worker", 4, ""), NewFuncDispatcher(func(ctx context.Context, _ *wire.Task, port dispatch.TaskPort) error {
		err := port.Artifact(ctx, wire.Artifact{OutputID: "reply", Data: make([]byte, wire.DefaultInlineLimit+1)})
		refused <- err
		return err
	}), func(c *Config) {
		c.Log = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	})
	a.await(StateOnline)
	_, events := n.submit(n.api.NewConsumer(n.sb.APIKey()), "worker", text("request", "hi"))
	if _, last := ending(t, events); last.State != wire.Failed || strings.Contains(last.Error, "secret") {
		t.Errorf("%s %s", last.State, last.Error)
	}
	if err := <-refused; err == nil || !strings.Contains(err.Error(), "403") || strings.Contains(err.Error(), "secret") {
		t.Errorf("the handler reads: %v", err)
	}
	a.stop()
	if err := a.ended(); err != nil { // nothing is logged any more
		t.Error(err)
	}
	if text := log.String(); strings.Contains(text, "secret") || !strings.Contains(text, "403") {
		t.Errorf("the log says: %s", text)
	}
}
