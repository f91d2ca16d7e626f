package supervisor

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/blocksd/blocksd/dispatch"
	"github.com/blocksd/blocksd/event"
	"github.com/blocksd/blocksd/supervisor/unit"
)

// record is what a test compares of an event.
func record(e event.Event) string {
	words := []string{e.Type.String(), e.State, e.Level.String()}
	if e.PID > 0 {
		words = append(words, "pid")
	}
	if e.Duration > 0 {
		words = append(words, "took")
	}
	for _, a := range e.Details {
		words = append(words, a.Key)
	}
	return strings.Join(words, " ") + ": " + e.Reason
}

// until reads events up to one of this type and state.
func until(t *testing.T, r *event.Reader, typ event.Type, state string) (records []string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for {
		item, err := r.Next(ctx)
		if err != nil {
			t.Fatalf("no %v %s within %v, after %q", typ, state, patience, records)
		}
		if item.Handler != "h" || item.Missed > 0 {
			t.Fatalf("event %+v", item)
		}
		records = append(records, record(item.Event))
		if item.Type == typ && item.State == state {
			return records
		}
	}
}

func same(t *testing.T, what string, want, got []string) {
	t.Helper()
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("%s (-want +got):\n%s", what, d)
	}
}

// What happens to a handler is on the bus: its states, its processes, and what becomes of another program.
func TestEvents(t *testing.T) {
	bus := event.NewBus(event.Config{})
	r := bus.Follow()
	defer r.Close()
	good := HandlerConfig{Name: "h", Path: plugins.Path(t, "badhandler"), Content: "good"}
	bad := HandlerConfig{Name: "h", Path: plugins.Path(t, "badhandler"), Content: "other", SHA256: strings.Repeat("0", 64)}
	f := fleet(t, Config{
		Events: bus, Handlers: []HandlerConfig{good}, Jitter: func() float64 { return 0 },
		Timeouts: Timeouts{ExitDrain: patience},
	})
	same(t, "start", []string{
		"handler_state starting DEBUG: ",
		"process_started  INFO pid took generation: ",
		"handler_state ready DEBUG: ",
	}, until(t, r, event.HandlerState, "ready"))

	p, result := begin(t, f, context.Background(), "h", "t1", "hang")
	_ = unix.Kill(p.pid, syscall.SIGKILL)
	failure(t, ended(t, result))
	down := "handler h is down because it was ended by signal 9 (killed)"
	same(t, "crash", []string{
		"process_exited  ERROR pid reason: " + down,
		"handler_state starting DEBUG: " + down,
		"process_started  INFO pid took generation: ",
		"handler_state ready DEBUG: ",
	}, until(t, r, event.HandlerState, "ready"))

	apply(t, f, bad)
	rejected := until(t, r, event.Rollout, rolloutRejected)
	notice := f.Status()[0].Notice
	exit := notice[strings.Index(notice, "handler h is not started"):]
	same(t, "a program that does not start", []string{
		"rollout starting INFO sha256 generation: a new generation of the handler is started alongside the current one",
		"process_exited  ERROR reason: " + exit,
		"rollout rejected ERROR: " + notice,
	}, rejected)

	apply(t, f, good)
	changed := good
	changed.Content = "new"
	apply(t, f, changed)
	if err := f.Await(t.Context(), "h"); err != nil {
		t.Fatal(err)
	}
	same(t, "a program that takes over", []string{
		"rollout starting INFO sha256 generation: a new generation of the handler is started alongside the current one",
		"process_started  INFO pid took generation: ",
		"rollout done INFO sha256 generation: the new generation of the handler takes the tasks from now on",
		"handler_state ready DEBUG: ",
		"process_exited  INFO pid: ",
	}, until(t, r, event.ProcessExited, ""))

	apply(t, f)
	until(t, r, event.HandlerState, "stopped")
}

// TestEventsOfQuarantine: a handler that fails too often says so once.
func TestEventsOfQuarantine(t *testing.T) {
	bus := event.NewBus(event.Config{})
	r := bus.Follow(event.Notice, event.HandlerState)
	defer r.Close()
	fleet(t, Config{Events: bus, Jitter: func() float64 { return 0 }, Handlers: []HandlerConfig{{
		Name: "h", Path: plugins.Alias(t, "badhandler", "badhandler-exit-at-start"), Restart: unit.Policy{MaxRestarts: 1},
	}}})
	got := until(t, r, event.HandlerState, "quarantined")
	if n := len(got); !strings.Contains(got[n-1], "handler h could not be started because ") || got[n-2] != "notice quarantined ERROR reason next_try: handler is quarantined because it failed too often" {
		t.Errorf("events %q", got)
	}
}

// TestEventsOfASecondProcess: another process that takes tasks is an event, although the state stays.
func TestEventsOfASecondProcess(t *testing.T) {
	bus := event.NewBus(event.Config{})
	r := bus.Follow(event.HandlerState)
	defer r.Close()
	fleet(t, Config{Events: bus, Handlers: []HandlerConfig{{Name: "h", Path: plugins.Path(t, "echo"), Instances: 2}}})
	until(t, r, event.HandlerState, "ready")
	same(t, "the second one", []string{"handler_state ready DEBUG: "}, until(t, r, event.HandlerState, "ready"))
}

// TestSupersededRollouts: each program that was started is decided about, also when others are asked for meanwhile.
func TestSupersededRollouts(t *testing.T) {
	bus := event.NewBus(event.Config{})
	r := bus.Follow(event.Rollout)
	defer r.Close()
	c := HandlerConfig{Name: "h", Path: plugins.Path(t, "echo"), Content: "0"}
	f := fleet(t, Config{Events: bus, Handlers: []HandlerConfig{c}})
	become(t, f, "h", dispatch.Available)
	for i := range 5 {
		c.Content = fmt.Sprint(i + 1)
		apply(t, f, c)
	}
	waiting, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := f.Await(waiting, "h"); err != nil {
		t.Fatal(err)
	}
	starting, decided := 0, 0
	for item, ok := r.TryNext(); ok; item, ok = r.TryNext() {
		switch item.State {
		case rolloutStarting:
			starting++
		default:
			decided++
		}
	}
	if starting != 5 || decided != 5 {
		t.Errorf("%d were started and %d decided about", starting, decided)
	}
}

// TestAwaitEnds: who waits for a handler that does not get ready waits no longer than asked to.
func TestAwaitEnds(t *testing.T) {
	f := fleet(t, Config{Timeouts: Timeouts{Handshake: time.Minute}}, "badhandler-never-answers")
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	err := f.Await(ctx, "badhandler-never-answers")
	if err == nil || err.Error() != "handler badhandler-never-answers is not ready yet: context deadline exceeded" {
		t.Errorf("error %v", err)
	}
}

// stuckLog is a log that takes no more once a record with a text has come, until it is released.
type stuckLog struct {
	slog.Handler
	text     string
	stuck    chan struct{} // closed when it is
	released chan struct{}
}

func (l *stuckLog) Enabled(context.Context, slog.Level) bool { return true }

func (l *stuckLog) WithAttrs([]slog.Attr) slog.Handler { return l }

func (l *stuckLog) Handle(_ context.Context, r slog.Record) error {
	if strings.Contains(r.Message, l.text) {
		close(l.stuck)
		<-l.released
	}
	return nil
}

// A log that blocks holds up no task, cancellation, status or process.
func TestStuckLog(t *testing.T) {
	log := &stuckLog{Handler: slog.DiscardHandler, text: "is down because", stuck: make(chan struct{}), released: make(chan struct{})}
	bus := event.NewBus(event.Config{})
	events := bus.Follow(event.States()...)
	logging, stopLogging := context.WithCancel(context.Background())
	logged := make(chan struct{})
	go func() {
		defer close(logged)
		event.Log(logging, events, slog.New(log))
	}()
	defer func() {
		close(log.released)
		stopLogging()
		<-logged
		events.Close()
	}()
	f := fleet(t, Config{Log: slog.New(log), Events: bus, Timeouts: Timeouts{ExitNotice: patience}, Handlers: []HandlerConfig{{Name: "badhandler", Path: plugins.Path(t, "badhandler"), Instances: 2}}})
	eventually(t, "both processes are ready", func() bool {
		ps := f.Status()[0].Processes
		return len(ps) == 2 && ps[0].State == "ready" && ps[1].State == "ready"
	})
	_, hanging := begin(t, f, context.Background(), "badhandler", "t1", "hang")
	if got := failure(t, give(t.Context(), f, "badhandler", request("t2", "kill"), newPort())); got.Kind != dispatch.HandlerCrash {
		t.Fatalf("crash: %+v", got)
	}
	within(t, "the log is stuck", log.stuck)
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := f.CancelTask(context.Background(), "t1", dispatch.CancelUser, time.Second); err != nil {
			t.Errorf("cancel: %v", err)
		}
		if err := <-hanging; err == nil {
			t.Error("the canceled task has no error")
		}
		if err := give(context.Background(), f, "badhandler", request("t3", "none"), newPort()); err != nil {
			t.Errorf("another task: %v", err)
		}
		f.Status()
	}()
	within(t, "all goes on while the log is stuck", done)
}

// Nor does one that blocks when a task is tried again hold up more than that task.
func TestStuckLogOfRetry(t *testing.T) {
	log := &stuckLog{Handler: slog.DiscardHandler, text: "tried on another process", stuck: make(chan struct{}), released: make(chan struct{})}
	f := fleet(t, Config{Log: slog.New(log), Handlers: []HandlerConfig{{
		Name: "badhandler", Path: plugins.Path(t, "badhandler"), Idempotent: true, Concurrency: 1,
		Restart: unit.Policy{MaxRestarts: 100, MaxDelay: time.Millisecond},
	}}})
	repeated := make(chan error, 1)
	go func() { repeated <- give(context.Background(), f, "badhandler", request("t1", "kill"), newPort()) }()
	within(t, "the log is stuck", log.stuck)
	other := make(chan error, 1)
	go func() { other <- give(context.Background(), f, "badhandler", request("t2", "none"), newPort()) }()
	select {
	case err := <-other:
		if err != nil {
			t.Errorf("another task: %v", err)
		}
	case <-time.After(patience):
		t.Error("another task waits for the log")
	}
	close(log.released)
	if got := failure(t, ended(t, repeated)); got.Kind != dispatch.HandlerCrash {
		t.Errorf("the task: %+v", got)
	}
}
