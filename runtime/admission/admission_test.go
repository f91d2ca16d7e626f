package admission

// testdata/decisions.txt is a table of requests and decisions. "go test ./runtime/admission -update" writes what is
// decided now.

import (
	"flag"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/blocksd/blocksd/network/wire"
)

var update = flag.Bool("update", false, "rewrite the decisions in testdata")

func TestDecisions(t *testing.T) {
	const path = "testdata/decisions.txt"
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var got strings.Builder
	for n, line := range strings.Split(strings.TrimRight(string(want), "\n"), "\n") {
		if strings.HasPrefix(line, " ") {
			continue
		}
		got.WriteString(line + "\n")
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		r, err := parse(line)
		if err != nil {
			t.Fatalf("%s:%d: %v", path, n+1, err)
		}
		got.WriteString("  " + text(Decide(r)) + "\n")
	}
	if *update {
		if err := os.WriteFile(path, []byte(got.String()), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(string(want), got.String()); diff != "" {
		t.Errorf("%s (-table +decisions):\n%s", path, diff)
	}
}

func parse(line string) (Request, error) {
	r := Request{Concurrency: 1}
	for _, field := range strings.Fields(line) {
		key, value, _ := strings.Cut(field, "=")
		var err error
		switch key {
		case "running":
			r.Running, err = strconv.Atoi(value)
		case "concurrency":
			r.Concurrency, err = strconv.Atoi(value)
		case "daemon-full":
			r.DaemonFull = true
		case "broadcast":
			r.Broadcast = true
		case "leaving":
			r.Leaving = true
		case "closed":
			r.Closed = strings.ReplaceAll(value, "-", " ")
		case "broken":
			r.Broken = &wire.StartTaskError{Reason: value, Detail: "something is wrong"}
		case "version":
			r.Version = value
		case "in-flight":
			r.Known = InFlight
		case "recovering":
			r.Known = Recovering
		case "over":
			r.Known, r.Outcome = Over, wire.Terminal{State: wire.TaskState(value)}
		default:
			err = fmt.Errorf("unknown field %q", field)
		}
		if err != nil {
			return r, err
		}
	}
	return r, nil
}

func text(v Verdict) string {
	s := v.Action.String()
	for _, word := range []string{string(v.Terminal.State), v.Terminal.Error, v.Terminal.Version} {
		if word != "" {
			s += " " + word
		}
	}
	if v.Why != "" {
		s += ": " + v.Why
	}
	return s
}

// TestAcceptNeedsEverything: a task is accepted only where nothing stands in the way, and never for a second time.
func TestAcceptNeedsEverything(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := Request{
			Broadcast: rapid.Bool().Draw(t, "broadcast"), Leaving: rapid.Bool().Draw(t, "leaving"), DaemonFull: rapid.Bool().Draw(t, "daemon full"),
			Known:   Known(rapid.IntRange(int(Unknown), int(Over)).Draw(t, "known")),
			Running: rapid.IntRange(0, 3).Draw(t, "running"), Concurrency: rapid.IntRange(1, 3).Draw(t, "concurrency"),
			Closed: rapid.SampledFrom([]string{"", "the agent is stopping"}).Draw(t, "closed"), Outcome: wire.Terminal{State: wire.Completed},
		}
		if rapid.Bool().Draw(t, "is broken") {
			r.Broken = &wire.StartTaskError{Reason: rapid.SampledFrom([]string{wire.ReasonInvalidStartTask, wire.ReasonUnsupportedVersion}).Draw(t, "broken"), Detail: "x"}
		}
		v := Decide(r)
		free := r.Closed == "" && r.Running < r.Concurrency && !r.DaemonFull
		if want := r.Known == Unknown && !r.Leaving && r.Broken == nil && free; (v.Action == Accept) != want {
			t.Errorf("accept is %v where it should be %v", v.Action == Accept, want)
		}
		if answers := v.Action == Repeat || v.Action == Refuse; answers != v.Terminal.State.Final() {
			t.Errorf("%v with the outcome %q", v.Action, v.Terminal.State)
		}
		if v.Action == Refuse && (r.Known != Unknown || r.Leaving) {
			t.Errorf("a new outcome for a task that is %v", r.Known)
		}
		if silent := v.Action == Accept || v.Action == Repeat; silent != (v.Why == "") {
			t.Errorf("%v says %q", v.Action, v.Why)
		}
	})
}
