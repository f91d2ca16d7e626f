package unit

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

// Whatever happens in whatever order: no more than MaxRestarts restarts in any window, never more live processes than
// wanted, every process that was started and has not ended is known, and after Stop nothing starts.
func TestPropertyRestartsAreBounded(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		instances := rapid.IntRange(1, 3).Draw(t, "instances")
		policy := Policy{
			MaxRestarts: rapid.IntRange(1, 4).Draw(t, "max"),
			IdleTimeout: rapid.SampledFrom([]time.Duration{0, time.Minute}).Draw(t, "idle"),
			RecycleAge:  rapid.SampledFrom([]time.Duration{0, 30 * time.Second}).Draw(t, "age"),
		}.Filled()
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
						t.Fatalf("action on process %d, which has ended", a.Process)
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
			if len(alive) != len(u.processes) {
				t.Fatalf("%d processes are known, %d are alive", len(u.processes), len(alive))
			}
			if n := u.count(starting) + u.count(ready); n > instances+1 {
				t.Fatalf("%d processes for %d instances", n, instances)
			}
			if u.dormant && (u.inUse || u.count(ready)+u.count(starting) > 0) {
				t.Fatal("at rest with tasks or processes")
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
				Kind:    EventKind(rapid.IntRange(int(Stop), int(ProcessWorn)).Draw(t, "kind")),
				Process: rapid.Int64Range(1, u.last+1).Draw(t, "process"),
				Reason:  Reason(rapid.IntRange(int(ExitCode), int(Tainted)).Draw(t, "reason")),
				Jitter:  rapid.Float64Range(0, 1).Draw(t, "jitter"),
			}
			if e.Kind == Timer {
				continue
			}
			if e.Kind == Stop || e.Kind == Drain {
				if rapid.IntRange(0, 19).Draw(t, "really") > 0 {
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

// A handler that only fails ends in quarantine, where it is tried slowly; whatever happened before, one process that gets
// ready, or a Reset, leads out of it.
func TestPropertyQuarantineIsReachedAndLeft(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		policy := Policy{MaxRestarts: rapid.IntRange(1, 6).Draw(t, "max")}.Filled()
		u := New(policy, rapid.IntRange(1, 3).Draw(t, "instances"))
		now := time.Unix(0, 0)
		var starts []int64
		var timer time.Time
		step := func(e Event) {
			for _, a := range u.Step(e, now) {
				switch a.Kind {
				case StartProcess:
					starts = append(starts, a.Process)
				case SetTimer:
					timer = a.At
				}
			}
		}
		fail := func() {
			id := starts[0]
			starts = starts[1:]
			step(Event{Kind: ProcessExited, Process: id, Reason: ExitCode, Jitter: rapid.Float64Range(0, 1).Draw(t, "jitter")})
		}
		wait := func() {
			if timer.After(now) {
				now = timer
			}
			step(Event{Kind: Timer})
		}
		step(Event{Kind: Start})
		for n := 0; u.State() != Quarantined || len(starts) > 0; n++ {
			if n > 200 {
				t.Fatal("never quarantined")
			}
			if len(starts) > 0 {
				fail()
			} else {
				wait()
			}
		}
		for range rapid.IntRange(0, 3).Draw(t, "probes") {
			before := now
			wait()
			if len(starts) != 1 || now.Sub(before) < policy.ProbeEvery {
				t.Fatalf("%d starts after %v", len(starts), now.Sub(before))
			}
			fail()
			if u.State() != Quarantined {
				t.Fatalf("a failed probe leads to %v", u.State())
			}
		}
		if rapid.Bool().Draw(t, "reset") {
			step(Event{Kind: Reset})
		} else {
			wait()
		}
		if len(starts) == 0 {
			t.Fatal("no start")
		}
		step(Event{Kind: ProcessReady, Process: starts[0]})
		if u.State() != Ready {
			t.Fatalf("%v after a process got ready", u.State())
		}
	})
}
