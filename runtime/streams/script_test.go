package streams

// The scripts in testdata show one story each: lines without indentation are what happens, indented lines what must
// follow: the answer of the registry, then the actions in order, then "= active" if that number changed.
// "go test ./runtime/streams -update" writes what the registry does now.

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/blocksd/blocksd/internal/testutil/scripttest"
	"github.com/blocksd/blocksd/network/wire"
)

func TestScripts(t *testing.T) {
	scripttest.Run(t, "testdata/*.txt", func(t *testing.T, script string) string {
		got, err := runScript(script)
		if err != nil {
			t.Fatal(err)
		}
		return got
	})
}

var errOver = errors.New("the task is over")

// specs by the words of the scripts.
func specOf(words []string) Spec {
	s := Spec{Declared: words[0], Direction: wire.Outbound, Format: wire.FormatBytes, Affinity: wire.Dedicated}
	for _, w := range words[1:] {
		switch w {
		case "shared":
			s.Affinity = wire.Shared
		case "external":
			s.External = true
		case "bytes", "events":
			s.Format = wire.StreamFormat(w)
		default:
			s.Direction = wire.StreamDirection(w)
		}
	}
	return s
}

func runScript(script string) (string, error) {
	var out strings.Builder
	r := NewRegistry("agent", Limits{PerTask: 3, InAll: 5})
	numbers := map[string]int{} // of the latest set-up, by stream and task
	for n, line := range strings.Split(strings.TrimRight(script, "\n"), "\n") {
		if strings.HasPrefix(line, " ") {
			continue
		}
		out.WriteString(line + "\n")
		words := strings.Fields(line)
		if len(words) == 0 || strings.HasPrefix(line, "#") {
			continue
		}
		before := r.Active()
		var actions []Action
		switch verb, args := words[0], words[1:]; {
		case verb == "acquire" && len(args) > 1: // TASK KEY …
			id, created, did, err := r.Acquire(args[0], specOf(args[1:]))
			switch {
			case err != nil:
				fmt.Fprintf(&out, "  refused: %v\n", err)
			case !created:
				fmt.Fprintf(&out, "  %s again\n", id)
			default:
				fmt.Fprintf(&out, "  %s\n", id)
			}
			actions = did
		case verb == "answered" && len(args) > 1: // STREAM TASK [ERROR…]
			var err error
			if len(args) > 2 {
				err = errors.New(strings.Join(args[2:], " "))
			}
			actions = r.Answered(numbers[args[0]+" "+args[1]], err)
		case verb == "release" && len(args) == 2: // TASK STREAM
			actions = r.Release(args[0], args[1], errOver)
		case verb == "over" && len(args) == 1: // TASK
			actions = r.ReleaseTask(args[0], errOver)
		case verb == "fail" && len(args) == 1: // STREAM
			actions = r.Fail(args[0], errOver)
		case verb == "ended" && len(args) == 1: // STREAM
			actions = r.Ended(args[0])
		default:
			return "", fmt.Errorf("line %d: %q is no event", n+1, line)
		}
		for _, a := range actions {
			if s, ok := a.(SetUp); ok {
				numbers[s.Stream+" "+s.Task] = s.Number
			}
			out.WriteString("  " + actionText(a) + "\n")
		}
		if r.Active() != before {
			fmt.Fprintf(&out, "  = %d active\n", r.Active())
		}
	}
	return out.String(), nil
}

func actionText(a Action) string {
	switch a := a.(type) {
	case SetUp:
		return fmt.Sprintf("set up %s for %s, %s", a.Stream, a.Task, a.Phase)
	case Grant:
		return fmt.Sprintf("grant %s to %s", a.Stream, a.Task)
	case Refuse:
		return fmt.Sprintf("refuse %s to %s: %v", a.Stream, a.Task, a.Err)
	case Detach:
		return fmt.Sprintf("detach %s from %s", a.Stream, a.Task)
	case FailTask:
		return "fail task " + a.Task
	case End:
		return "end " + a.Stream
	}
	return fmt.Sprintf("unknown action %T", a)
}
