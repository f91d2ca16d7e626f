package link

// The scripts in testdata/announce show one story each: lines without indentation are events with their time since the
// beginning, indented lines are what must follow. "go test ./network/link -update" writes what the machine does now.

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/blocksd/blocksd/internal/retry"
	"github.com/blocksd/blocksd/internal/testutil/scripttest"
)

var epoch = time.Date(2026, 5, 1, 0, 0, 0, 0, time.UTC)

// newAnnounceMachine returns a machine with heartbeats every minute, 100 ms between states, and pauses of 1, 2 and 4 s.
func newAnnounceMachine() *announceMachine {
	return &announceMachine{
		interval: time.Minute, gap: 100 * time.Millisecond,
		backoff: retry.Backoff{First: 2 * time.Second, Max: 8 * time.Second, Jitter: func() float64 { return 0 }},
	}
}

func TestAnnounceScripts(t *testing.T) {
	scripttest.Run(t, "testdata/announce/*.txt", func(t *testing.T, script string) string {
		got, err := announceScript(script)
		if err != nil {
			t.Fatal(err)
		}
		return got
	})
}

// announceScript returns the script with the indented lines replaced by what the machine does.
func announceScript(script string) (string, error) {
	var out strings.Builder
	m := newAnnounceMachine()
	for n, line := range strings.Split(strings.TrimRight(script, "\n"), "\n") {
		if strings.HasPrefix(line, " ") {
			continue
		}
		out.WriteString(line + "\n")
		fields := strings.Fields(line)
		if len(fields) == 0 || strings.HasPrefix(line, "#") {
			continue
		}
		at, err := time.ParseDuration(fields[0])
		if err != nil || len(fields) < 2 {
			return "", fmt.Errorf("line %d: want TIME EVENT", n+1)
		}
		var version uint64
		if len(fields) > 2 {
			if version, err = strconv.ParseUint(fields[2], 10, 64); err != nil {
				return "", fmt.Errorf("line %d: %w", n+1, err)
			}
		}
		events := map[string]announceEvent{
			"began": began{}, "wanted": wanted{version}, "slept": slept{}, "taken": taken{version}, "missed": missed{errors.New("no answer")}, "leaving": leaving{},
		}
		event := events[fields[1]]
		if event == nil {
			return "", fmt.Errorf("line %d: unknown event %q", n+1, fields[1])
		}
		for _, a := range m.Step(event, epoch.Add(at)) {
			out.WriteString("  " + announceText(a) + "\n")
		}
	}
	return out.String(), nil
}

func announceText(a announceAction) string {
	switch a := a.(type) {
	case sendHeartbeat:
		return "send heartbeat"
	case sendState:
		return "send state"
	case sleep:
		return fmt.Sprintf("sleep until %v", a.until.Sub(epoch))
	case stop:
		return "stop"
	case confirm:
		return "confirm"
	case complain:
		return fmt.Sprintf("complain about failure %d", a.failures)
	}
	return fmt.Sprintf("unknown action %T", a)
}

// TestAnnounceRules plays a shell and a network against the machine: whatever fails, heartbeats go out, the newest state
// is the one that the network has in the end, and nothing is sent without need or after the end.
func TestAnnounceRules(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := newAnnounceMachine()
		now := epoch
		var newest, taken_, known uint64 // the newest version, the one that the network has, the one that the machine knows
		var confirmed bool
		lastSent, failures := now, 0
		var event announceEvent = began{}
		ended := false
		// step returns the last action.
		step := func() announceAction {
			actions := m.Step(event, now)
			for _, a := range actions[:len(actions)-1] {
				switch a := a.(type) {
				case confirm:
					if confirmed || taken_ == 0 {
						t.Fatal("confirmed out of place")
					}
					confirmed = true
				case complain:
					if a.failures != failures {
						t.Fatalf("failure %d is said to be number %d", failures, a.failures)
					}
				default:
					t.Fatalf("%s is not the last action", announceText(a))
				}
			}
			return actions[len(actions)-1]
		}
		// turn does what the machine asks for; with fails the network does not answer.
		turn := func(fails, interrupts bool) {
			switch a := step().(type) {
			case stop:
				if !ended {
					t.Fatal("it stops by itself")
				}
			case sleep:
				if !a.until.After(now) || a.until.Sub(now) > time.Minute {
					t.Fatalf("it sleeps for %v", a.until.Sub(now))
				}
				if interrupts && newest > known {
					now = now.Add(a.until.Sub(now) / 2)
					known = newest
					event = wanted{newest}
					return
				}
				now, event = a.until, slept{}
			case sendHeartbeat, sendState:
				if ended {
					t.Fatal("sent after the end")
				}
				if now.Sub(lastSent) > 2*time.Minute {
					t.Fatalf("silent for %v", now.Sub(lastSent))
				}
				lastSent = now
				_, isState := a.(sendState)
				if isState && taken_ == known {
					t.Fatal("a state is sent that the network has")
				}
				now = now.Add(10 * time.Millisecond)
				switch {
				case fails:
					failures++
					event = missed{errors.New("no answer")}
				case isState:
					failures, taken_, known, event = 0, newest, newest, taken{newest}
				default:
					failures, event = 0, taken{}
				}
			}
		}
		for range rapid.IntRange(0, 60).Draw(t, "turns") {
			if rapid.Bool().Draw(t, "changes") {
				newest++
			}
			turn(rapid.Bool().Draw(t, "fails"), rapid.Bool().Draw(t, "interrupts"))
		}
		for i := 0; taken_ != newest; i++ { // everything works from now on
			if i > 10 {
				t.Fatalf("the network has version %d of %d", taken_, newest)
			}
			turn(false, true)
		}
		if confirmed != (taken_ > 0) {
			step()
			if confirmed != (taken_ > 0) {
				t.Fatal("not confirmed")
			}
		}
		ended, event = true, leaving{}
		turn(false, false)
	})
}

// A machine that stands still while a poll is on its way makes up for no more than one short pause of the wait for it.
func TestArrivalPauses(t *testing.T) {
	const whole = 500 * time.Millisecond
	for left, want := range map[time.Duration]time.Duration{whole: whole, 123 * time.Millisecond: 123 * time.Millisecond, 0: 0, -time.Hour: 0, time.Hour: whole} {
		sum := time.Duration(0)
		for pause := range arrivalPauses(whole, left) {
			if sum += pause; pause <= 0 || pause > whole/10 {
				t.Errorf("with %v left there is a pause of %v", left, pause)
			}
		}
		if sum != want {
			t.Errorf("with %v left the pauses take %v, want %v", left, sum, want)
		}
	}
}
