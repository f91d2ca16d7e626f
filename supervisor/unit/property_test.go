package unit

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

// Whatever happens in whatever order: no more than MaxRestarts restarts in any window, never more live processes than
// wanted, every process that was started and not yet gone is known, and after Stop nothing starts.
func TestPropertyRestartsAreBounded(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		instances := rapid.IntRange(1, 3).Draw(t, "instances")
		policy := Policy{MaxRestarts: rapid.IntRange(1, 4).Draw(t, "max")}.Filled()
		u := New(policy, instances)
		now := time.Unix(0, 0)
		alive := map[int64]bool{}
		var counted []time.Time
		stopped := false
		var timer time.Time

		step := func(e Event) {
			before := u.Restarts()
			for _, a := range u.Step(e, now) {
				switch a.Kind {
				case StartProcess:
					if stopped {
						t.Fatal("started after Stop")
					}
					alive[a.Process] = true
				case DrainProcess, StopProcess, KillProcess:
					if !alive[a.Process] {
						t.Fatalf("action on process %d that is gone", a.Process)
					}
				case SetTimer:
					timer = a.At
				}
			}
			for range u.Restarts() - before {
				counted = append(counted, now)
			}
			if e.Kind == Reset { // a Reset forgets what was
				counted = nil
				for range u.Restarts() - before {
					counted = append(counted, now)
				}
			}
			recent := 0
			for _, at := range counted {
				if now.Sub(at) < policy.Window {
					recent++
				}
			}
			if recent > policy.MaxRestarts*instances {
				t.Fatalf("%d restarts within %v", recent, policy.Window)
			}
			if n := u.missing(); n < 0 {
				t.Fatalf("%d processes too many", -n)
			}
			if u.State() == Quarantined && u.timer.IsZero() && !u.probing {
				t.Fatal("quarantined without a probe to come")
			}
			if u.wanted && !u.quarantined && u.missing() > 0 && u.timer.IsZero() {
				t.Fatal("a process is missing and no timer is armed")
			}
		}

		step(Event{Kind: Start})
		for range rapid.IntRange(1, 80).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.Int64Range(0, int64(20*time.Second)).Draw(t, "wait")))
			if !timer.IsZero() && !now.Before(timer) {
				timer = time.Time{}
				step(Event{Kind: Timer})
			}
			e := Event{
				Kind:    EventKind(rapid.IntRange(int(Stop), int(ProcessExited)).Draw(t, "kind")),
				Process: rapid.Int64Range(1, u.last+1).Draw(t, "process"),
				Reason:  Reason(rapid.IntRange(int(ExitCode), int(Tainted)).Draw(t, "reason")),
				Jitter:  rapid.Float64Range(0, 1).Draw(t, "jitter"),
			}
			if e.Kind == Timer {
				continue
			}
			if e.Kind == Stop {
				if rapid.IntRange(0, 9).Draw(t, "really") > 0 {
					continue
				}
				stopped = true
			}
			if e.Kind == ProcessExited {
				delete(alive, e.Process)
			}
			step(e)
		}
	})
}
