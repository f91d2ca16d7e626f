package lifecycle

// The scripts in testdata show one story each: lines without indentation are events with their time since the agent was
// made, indented lines are what must follow: the actions in order, then what else is different. The handler is available at
// first, or "initially recovering". "go test ./runtime/lifecycle -update" writes what the machine does now.

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/blocksd/blocksd/dispatch"
	"github.com/blocksd/blocksd/internal/testutil/scripttest"
)

var epoch = time.Date(2026, 5, 1, 0, 0, 0, 0, time.UTC)

const moved = 30 * time.Second

func TestScripts(t *testing.T) {
	scripttest.Run(t, "testdata/*.txt", func(t *testing.T, script string) string {
		got, err := runScript(script)
		if err != nil {
			t.Fatal(err)
		}
		return got
	})
}

// runScript returns the script with the indented lines replaced by what the machine does.
func runScript(script string) (string, error) {
	var out strings.Builder
	initial := dispatch.Available
	if first, _, _ := strings.Cut(script, "\n"); first == "initially recovering" {
		initial = dispatch.Recovering
	}
	m := New(Config{Handler: "echo", Moved: moved}, initial, nil)
	before := facts(m, epoch)
	for n, line := range strings.Split(strings.TrimRight(script, "\n"), "\n") {
		if strings.HasPrefix(line, " ") {
			continue
		}
		out.WriteString(line + "\n")
		fields := strings.Fields(line)
		if len(fields) == 0 || strings.HasPrefix(line, "#") || fields[0] == "initially" {
			continue
		}
		at, err := time.ParseDuration(fields[0])
		if err != nil || len(fields) < 2 {
			return "", fmt.Errorf("line %d: want TIME EVENT", n+1)
		}
		now := epoch.Add(at)
		if fields[1] != "look" { // only time has passed
			ev, err := parseEvent(fields[1], strings.Join(fields[2:], " "))
			if err != nil {
				return "", fmt.Errorf("line %d: %w", n+1, err)
			}
			for _, a := range m.Step(ev, now) {
				out.WriteString("  " + actionText(a) + "\n")
			}
		}
		after := facts(m, now)
		for i, fact := range after {
			if fact != before[i] {
				out.WriteString("  = " + fact + "\n")
			}
		}
		before = after
	}
	return out.String(), nil
}

// facts are what the machine says besides its state.
func facts(m *Machine, now time.Time) []string {
	is := func(yes bool, what string) string {
		if yes {
			return what
		}
		return "not " + what
	}
	closed := "takes tasks"
	if why := m.Closed(now); why != "" {
		closed = "takes no tasks: " + why
	}
	return []string{is(m.Full(), "full"), closed, is(m.Present(false), "present without tasks"), is(m.Aware(now), "aware"), is(m.Leaving(), "leaving")}
}

func parseEvent(name, arg string) (Event, error) {
	first, rest, _ := strings.Cut(arg, " ")
	switch name {
	case "handler":
		for a := dispatch.Available; a <= dispatch.Unavailable; a++ {
			if a.String() == arg {
				return Handler{a}, nil
			}
		}
	case "journal":
		if arg == "ok" {
			return Journal{}, nil
		}
		return Journal{errors.New(arg)}, nil
	case "no-connect":
		return Unreachable{Cause: NoConnect, Err: errors.New(arg)}, nil
	case "unknown-keys":
		return Unreachable{Cause: Lost, Err: errors.New(arg), Unknown: true}, nil
	case "lost":
		return Unreachable{Cause: Lost, Err: errors.New(arg)}, nil
	case "denied":
		return Unreachable{Cause: Denied, Err: errors.New(arg)}, nil
	case "no-token":
		return Unreachable{Cause: NoToken, Err: errors.New(arg)}, nil
	case "unusable":
		return Unreachable{Cause: Unusable, Err: errors.New(arg)}, nil
	case "granted":
		return Granted{}, nil
	case "subscribed":
		return Subscribed{}, nil
	case "acknowledged":
		return Acknowledged{}, nil
	case "silence":
		if arg == "over" {
			return Silence{}, nil
		}
		return Silence{20 * time.Second, errors.New(arg)}, nil
	case "away":
		return Away{}, nil
	case "drain":
		open, err := time.ParseDuration(first)
		within, err2 := time.ParseDuration(rest)
		return Drain{open, within}, errors.Join(err, err2)
	case "known-full":
		return KnownFull{}, nil
	case "cancel-now":
		return CancelNow{}, nil
	case "idle":
		return Idle{}, nil
	case "refused":
		return Refused{errors.New(arg)}, nil
	case "stopped":
		return Stopped{}, nil
	}
	return nil, fmt.Errorf("unknown event %q %q%s", name, arg, rest)
}

func actionText(a Action) string {
	switch a := a.(type) {
	case EmitState:
		return strings.TrimSuffix(fmt.Sprintf("emit %v %s: %s", a.Level, a.State, a.Reason), ": ")
	case AnnounceSlots:
		return "announce slots"
	case ResendPresence:
		return "resend presence"
	case MarkUncertain:
		return "mark tasks uncertain"
	case LookElsewhere:
		return "look elsewhere"
	case GiveUp:
		return "give up"
	}
	return fmt.Sprintf("unknown action %T", a)
}
