package task

import (
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/blocksd/blocksd/dispatch"
	"github.com/blocksd/blocksd/network/wire"
)

// TestOneOutcome drives the machine with arbitrary events in arbitrary order, as a shell would: timers fire only
// when armed (or late, after they were stopped), everything else whenever it likes. The rules must hold at each step.
func TestOneOutcome(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		cfg := Config{
			Kind:  rapid.SampledFrom([]wire.TaskKind{wire.Request, wire.Pipe}).Draw(t, "kind"),
			Grace: time.Duration(rapid.IntRange(0, 3000).Draw(t, "grace")) * time.Millisecond,
			Limit: time.Duration(rapid.IntRange(0, 5).Draw(t, "limit")) * time.Second,
		}
		if cfg.Kind == wire.Pipe {
			cfg.Expires = epoch.Add(time.Duration(rapid.IntRange(-1, 10).Draw(t, "expires")) * time.Second)
		}
		w := &world{t: t, s: New(cfg), now: epoch}
		w.step(Start{})
		for range rapid.IntRange(0, 60).Draw(t, "steps") {
			w.now = w.now.Add(time.Duration(rapid.IntRange(0, 1500).Draw(t, "ms")) * time.Millisecond)
			w.step(w.draw())
		}
		w.wind()
	})
}

// world is the shell of the machine under test and the judge of what it does.
type world struct {
	t   *rapid.T
	s   *State
	now time.Time

	timers     [Timers]time.Time
	called     bool
	returned   bool
	ended      bool // the call was ended by the machine
	artifacts  int
	answered   map[int]bool
	published  []Action
	statusAt   []time.Time
	noted      *wire.Terminal // what the daemon would say after a crash
	freed      int
	finished   int
	terminalAt int // number of actions seen when the terminal was published, 0 before
	seen       int
}

func (w *world) draw() Event {
	t := w.t
	switch rapid.IntRange(0, 12).Draw(t, "event") {
	case 0:
		return Dispatched{PID: 4711}
	case 1, 2, 3:
		return Status{Text: rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "text")}
	case 4:
		w.artifacts++
		return Artifact{ID: w.artifacts}
	case 5:
		if w.called && !w.returned && rapid.Bool().Draw(t, "returns") {
			return w.handlerReturns()
		}
		return Status{Text: "late"}
	case 6:
		return Cancel{Reason: rapid.SampledFrom([]dispatch.CancelReason{dispatch.CancelUser, dispatch.CancelExpired, dispatch.CancelTerminated,
			dispatch.CancelDeadline, dispatch.CancelDrain, dispatch.CancelShutdown}).Draw(t, "reason")}
	case 7, 8:
		// A timer that is due, or one that fires although it was stopped.
		timer := Timer(rapid.IntRange(0, int(Timers)-1).Draw(t, "timer"))
		if at := w.timers[timer]; !at.IsZero() && w.now.Before(at) {
			w.now = at
		}
		w.timers[timer] = time.Time{}
		return TimerFired{Timer: timer}
	case 9:
		if w.called && !w.returned {
			return Detached{}
		}
		return End{}
	case 11:
		if rapid.IntRange(0, 3).Draw(t, "stream fails") > 0 {
			return Status{Text: "from a stream"}
		}
		return StreamFailed{Reason: rapid.SampledFrom([]string{"", "The feed broke off."}).Draw(t, "reason")}
	case 10:
		return End{Failure: rapid.SampledFrom([]*dispatch.TaskFailure{nil, {Kind: dispatch.HandlerError, Public: "no more"}}).Draw(t, "end")}
	default:
		if w.terminalAt > 0 {
			return TerminalDone{}
		}
		return Start{}
	}
}

func (w *world) handlerReturns() Event {
	w.returned = true
	if rapid.Bool().Draw(w.t, "fails") {
		return HandlerDone{Failure: &dispatch.TaskFailure{
			Kind:    dispatch.FailureKind(rapid.IntRange(0, 6).Draw(w.t, "failure")),
			Public:  strings.Repeat("x", rapid.SampledFrom([]int{0, 1, wire.MaxTextBytes + 1}).Draw(w.t, "length")),
			Private: "private",
		}}
	}
	return HandlerDone{}
}

func (w *world) step(ev Event) {
	t := w.t
	if a, ok := ev.(Artifact); ok && w.answered[a.ID] {
		t.Fatalf("artifact %d answered before it was brought", a.ID)
	}
	for _, a := range w.s.Step(ev, w.now) {
		w.seen++
		if _, refusal := a.(RefuseArtifact); w.finished > 0 && !refusal { // whoever comes too late gets an answer at any time
			t.Fatalf("%s after finished", actionText(a))
		}
		if w.seen == 1 && a != (PublishRunning{}) {
			t.Fatalf("first action is %s, not publish running", actionText(a))
		}
		w.take(a)
	}
	if s := w.s; s.Phase() == Canceling && (w.noted == nil || *w.noted != s.verdict(nil)) {
		t.Fatalf("noted %v, but the handler that obeys now leads to %v", w.noted, s.verdict(nil))
	}
	if a, ok := ev.(Artifact); ok && !w.answered[a.ID] {
		t.Fatalf("artifact %d neither published nor refused", a.ID)
	}
}

func (w *world) take(a Action) {
	t := w.t
	publish := false
	switch a := a.(type) {
	case PublishRunning:
		publish = true
		if len(w.published) > 0 {
			t.Fatal("running published again")
		}
	case PublishStatus:
		publish = true
		w.statusAt = append(w.statusAt, w.now)
	case PublishArtifact:
		publish = true
		w.answer(a.ID)
	case RefuseArtifact:
		w.answer(a.ID)
	case PublishTerminal:
		publish = true
		if w.freed != 1 {
			t.Fatal("terminal published before the slot was freed")
		}
		if !a.Terminal.State.Final() {
			t.Fatalf("terminal with state %q", a.Terminal.State)
		}
		if (a.Terminal.State == wire.Failed) != (a.Terminal.Error != "") || len(a.Terminal.Error) > wire.MaxTextBytes {
			t.Fatalf("state %s with %d bytes of error", a.Terminal.State, len(a.Terminal.Error))
		}
		if w.called && !w.returned && !w.ended {
			t.Fatal("terminal published while the handler is still being called")
		}
		for timer, at := range w.timers {
			if !at.IsZero() {
				t.Fatalf("%v timer armed after the decision", Timer(timer))
			}
		}
	case CallHandler:
		if w.called {
			t.Fatal("handler called again")
		}
		w.called = true
	case NotifyHandler, EndCall:
		if !w.called || w.returned {
			t.Fatalf("%s without a call", actionText(a))
		}
		_, end := a.(EndCall)
		w.ended = w.ended || end
	case NoteOutcome:
		if w.terminalAt > 0 {
			t.Fatalf("%s after the terminal", actionText(a))
		}
		w.noted = &a.Terminal
	case SetTimer:
		if !w.timers[a.Timer].IsZero() {
			t.Fatalf("%v timer armed twice", a.Timer)
		}
		w.timers[a.Timer] = a.At
	case StopTimer:
		w.timers[a.Timer] = time.Time{}
	case FreeSlot:
		w.freed++
		if w.freed > 1 {
			t.Fatal("slot freed twice")
		}
	case Finished:
		w.finished++
		if !w.returned {
			t.Fatal("finished while the handler is still being called")
		}
	}
	if !publish {
		return
	}
	if w.terminalAt > 0 {
		t.Fatalf("%s after the terminal", actionText(a))
	}
	w.published = append(w.published, a)
	if _, ok := a.(PublishTerminal); ok {
		w.terminalAt = w.seen
	}
	w.checkRhythm()
}

func (w *world) answer(id int) {
	if w.answered == nil {
		w.answered = map[int]bool{}
	}
	if w.answered[id] {
		w.t.Fatalf("artifact %d answered twice", id)
	}
	w.answered[id] = true
}

// checkRhythm: of two statuses within the window the later one must have been flushed, so an artifact or the terminal
// follows it at once.
func (w *world) checkRhythm() {
	n := len(w.published)
	if n < 2 {
		return
	}
	if _, ok := w.published[n-2].(PublishStatus); !ok {
		return
	}
	statuses := len(w.statusAt)
	if _, again := w.published[n-1].(PublishStatus); again {
		statuses-- // judge the one before; the last is judged when its successor is known
	}
	if statuses < 2 || w.statusAt[statuses-1].Sub(w.statusAt[statuses-2]) >= StatusWindow {
		return
	}
	if _, ok := w.published[n-1].(PublishStatus); ok {
		w.t.Fatalf("two statuses within %v and nothing that the second had to precede", w.statusAt[statuses-1].Sub(w.statusAt[statuses-2]))
	}
}

// wind brings the task to its end: it is canceled, its timers run out, the handler returns, the terminal is sent.
func (w *world) wind() {
	w.step(Cancel{Reason: dispatch.CancelShutdown})
	for i := 0; w.terminalAt == 0; i++ {
		if i > 10 {
			w.t.Fatal("no terminal although the grace is over")
		}
		for timer, at := range w.timers {
			if at.IsZero() {
				continue
			}
			w.timers[timer] = time.Time{}
			if w.now.Before(at) {
				w.now = at
			}
			w.step(TimerFired{Timer: Timer(timer)})
		}
	}
	if !w.returned {
		w.step(w.handlerReturns())
	}
	w.step(TerminalDone{})
	w.step(Status{Text: "too late"})
	w.step(Cancel{Reason: dispatch.CancelUser})
	if w.finished != 1 || w.freed != 1 || w.s.Phase() != Done {
		w.t.Fatalf("finished %d times, slot freed %d times, phase %v", w.finished, w.freed, w.s.Phase())
	}
	last := w.published[len(w.published)-1]
	if _, ok := last.(PublishTerminal); !ok {
		w.t.Fatalf("last publish is %s", actionText(last))
	}
}
