package lifecycle

import (
	"errors"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/blocksd/blocksd/dispatch"
)

// TestRules drives the machine with arbitrary events in arbitrary order.
func TestRules(t *testing.T) {
	why := errors.New("because")
	rapid.Check(t, func(t *rapid.T) {
		now := epoch
		initial := rapid.SampledFrom([]dispatch.Availability{dispatch.Available, dispatch.Recovering, dispatch.Unavailable}).Draw(t, "initially")
		ready := initial == dispatch.Available // since the handler was unavailable
		m := New(Config{Handler: "echo", Moved: moved}, initial, nil)
		shown, _ := m.State()
		_, reason := m.State()
		var failed, gaveUp, drained, stoppedNow bool
		for range rapid.IntRange(0, 60).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.IntRange(0, 20_000).Draw(t, "ms")) * time.Millisecond)
			ev := rapid.SampledFrom([]Event{
				Handler{dispatch.Available}, Handler{dispatch.Recovering}, Handler{dispatch.Unavailable}, Journal{}, Journal{why},
				Unreachable{NoConnect, why, false}, Unreachable{Lost, why, true}, Unreachable{Denied, why, false}, Unreachable{NoToken, why, false},
				Granted{}, Subscribed{}, Acknowledged{}, Silence{time.Second, why}, Silence{}, Away{}, Drain{time.Second, time.Minute}, KnownFull{}, CancelNow{}, Idle{}, Refused{why}, Stopped{},
			}).Draw(t, "event")
			connected := m.connected
			var emitted int
			for _, a := range m.Step(ev, now) {
				switch a := a.(type) {
				case EmitState:
					if emitted++; a.State == shown && a.Reason == reason {
						t.Fatalf("%s (%s) is emitted twice", a.State, a.Reason)
					}
					shown, reason = a.State, a.Reason
				case GiveUp:
					if gaveUp {
						t.Fatal("gives up twice")
					}
					gaveUp = true
				case ResendPresence:
					if connected {
						t.Fatal("presence is sent again without need")
					}
				}
			}
			switch ev := ev.(type) {
			case Handler:
				ready = ev.Availability == dispatch.Available || ready && ev.Availability == dispatch.Recovering
			case Refused:
				failed = true
			case Drain:
				drained = true
			case Stopped:
				stoppedNow = true
			}
			state, why := m.State()
			if state != shown || why != reason || emitted > 1 {
				t.Fatalf("the state is %s (%s), and the last one emitted %s (%s), with %d of this event", state, why, shown, reason, emitted)
			}
			if failed != (state == Failed) || failed != gaveUp {
				t.Fatalf("failed %v, gave up %v, and the state is %s", failed, gaveUp, state)
			}
			if state == Online && !m.canceling && (m.Full() || m.Closed(now) != "" || !m.Present(false)) {
				t.Fatal("online, and takes no tasks")
			}
			if m.Present(false) != ready || !m.Present(true) {
				t.Fatalf("present %v, and the handler was ready: %v", m.Present(false), ready)
			}
			if (drained || stoppedNow) && !m.Full() {
				t.Fatal("stopping, and not full")
			}
			if m.Closed(now) == "" && m.Full() && !drained && m.availability == dispatch.Available {
				t.Fatal("full, and takes tasks")
			}
			if (state == Online) != (reason == "") {
				t.Fatalf("state %s has the reason %q", state, reason)
			}
		}
	})
}
