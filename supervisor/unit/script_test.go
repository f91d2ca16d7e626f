package unit

import (
	"bufio"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/blocksd/blocksd/internal/testutil/scripttest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A script is a text file: a line that begins in the first column is an event, optionally after "+duration"; the lines
// below it that begin with a tab are what is expected of it. "instances N" as the first line sets the number of processes.
func TestScripts(t *testing.T) { scripttest.Run(t, "testdata/*.txt", runScript) }

func runScript(t *testing.T, script string) string {
	t.Helper()
	policy := Policy{}
	u := New(policy, 1)
	now := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	var out strings.Builder
	lines := bufio.NewScanner(strings.NewReader(script))
	for lines.Scan() {
		line := lines.Text()
		if strings.HasPrefix(line, "\t") {
			continue // an expectation
		}
		fmt.Fprintln(&out, line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		words := strings.Fields(line)
		if words[0] == "instances" {
			n, _ := strconv.Atoi(words[1])
			u = New(policy, n)
			continue
		}
		if words[0] == "policy" { // policy idle=D age=D
			for _, w := range words[1:] {
				name, value, _ := strings.Cut(w, "=")
				d, err := time.ParseDuration(value)
				if err != nil {
					t.Fatalf("%s: %v", line, err)
				}
				switch name {
				case "idle":
					policy.IdleTimeout = d
				case "age":
					policy.RecycleAge = d
				default:
					t.Fatalf("%s: unknown policy", line)
				}
			}
			u = New(policy, 1)
			continue
		}
		if strings.HasPrefix(words[0], "+") {
			d, err := time.ParseDuration(words[0][1:])
			if err != nil {
				t.Fatalf("%s: %v", line, err)
			}
			now, words = now.Add(d), words[1:]
		}
		for _, a := range u.Step(parseEvent(t, words), now) {
			switch a.Kind {
			case StartProcess:
				fmt.Fprintf(&out, "\tstart %d\n", a.Process)
			case DrainProcess:
				fmt.Fprintf(&out, "\tdrain %d\n", a.Process)
			case StopProcess:
				fmt.Fprintf(&out, "\tstop %d\n", a.Process)
			case KillProcess:
				fmt.Fprintf(&out, "\tkill %d\n", a.Process)
			case SetTimer:
				if a.At.IsZero() {
					fmt.Fprintf(&out, "\ttimer none\n")
				} else {
					fmt.Fprintf(&out, "\ttimer +%v\n", a.At.Sub(now))
				}
			}
		}
		fmt.Fprintf(&out, "\tstate %v\n", u.State())
	}
	return out.String()
}

func parseEvent(t *testing.T, words []string) Event {
	t.Helper()
	kinds := map[string]EventKind{
		"start": Start, "stop": Stop, "reset": Reset, "timer": Timer, "ready": ProcessReady, "unhealthy": ProcessUnhealthy,
		"drain": Drain, "used": Used, "unused": Unused, "worn": ProcessWorn, "tainted": ProcessTainted, "idle": ProcessIdle, "exited": ProcessExited,
	}
	e := Event{Kind: kinds[words[0]], Jitter: 1}
	if e.Kind == 0 {
		t.Fatalf("unknown event %q", words[0])
	}
	for _, w := range words[1:] {
		if n, err := strconv.ParseInt(w, 10, 64); err == nil {
			e.Process = n
		} else if j, ok := strings.CutPrefix(w, "jitter="); ok {
			e.Jitter, _ = strconv.ParseFloat(j, 64)
		} else {
			for r := range reasons {
				if reasons[r].name == w {
					e.Reason = Reason(r)
				}
			}
			if e.Reason == 0 {
				t.Fatalf("unknown reason %q", w)
			}
		}
	}
	return e
}
