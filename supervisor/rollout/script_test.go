package rollout

import (
	"bufio"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/blocksd/blocksd/internal/testutil/scripttest"
	"github.com/blocksd/blocksd/supervisor/unit"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A script is a text file: a line that begins in the first column is an event, optionally after "+duration"; the lines
// below it that begin with a tab are what is expected of it. The first event is "program", the one that runs first:
//
//	program NAME [content=C] [instances=N] [idle=D]
//	start, stop, remove, restart, used, unused
//	deploy NAME …                 as program
//	GENERATION timer
//	GENERATION ready|exited|unhealthy|tainted|worn|idle PROCESS [REASON]
//
// A program of the same name is the same one; its content is its name unless it is given.
func TestScripts(t *testing.T) { scripttest.Run(t, "testdata/*.txt", runScript) }

// script is a rollout on its way through a script.
type script struct {
	t     *testing.T
	r     *Rollout
	now   time.Time
	names map[string]int64 // of programs
	out   strings.Builder
}

func runScript(t *testing.T, text string) string {
	t.Helper()
	s := &script{t: t, now: time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC), names: map[string]int64{}}
	lines := bufio.NewScanner(strings.NewReader(text))
	for lines.Scan() {
		line := lines.Text()
		if strings.HasPrefix(line, "\t") {
			continue // an expectation
		}
		fmt.Fprintln(&s.out, line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		words := strings.Fields(line)
		if strings.HasPrefix(words[0], "+") {
			d, err := time.ParseDuration(words[0][1:])
			if err != nil {
				t.Fatalf("%s: %v", line, err)
			}
			s.now, words = s.now.Add(d), words[1:]
		}
		if words[0] == "program" {
			s.r = New(s.program(words[1:]))
			continue
		}
		for _, a := range s.r.Step(s.event(words), s.now) {
			fmt.Fprintf(&s.out, "\t%s\n", s.action(a))
		}
		fmt.Fprintf(&s.out, "\tcurrent %d %v", s.r.Current(), s.r.State())
		if next := s.r.Next(); next != 0 {
			fmt.Fprintf(&s.out, ", next %d", next)
		}
		if s.r.Rejected() {
			fmt.Fprint(&s.out, ", rejected")
		}
		if s.r.Ended() {
			fmt.Fprint(&s.out, ", ended")
		}
		fmt.Fprintf(&s.out, ", %v\n", s.r.Availability())
	}
	return s.out.String()
}

func (s *script) program(words []string) Program {
	name := words[0]
	if s.names[name] == 0 {
		s.names[name] = int64(len(s.names) + 1)
	}
	p := Program{ID: s.names[name], Content: name, Instances: 1}
	for _, w := range words[1:] {
		key, value, _ := strings.Cut(w, "=")
		var err error
		switch key {
		case "content":
			p.Content = value
		case "instances":
			p.Instances, err = strconv.Atoi(value)
		case "idle":
			p.Policy.IdleTimeout, err = time.ParseDuration(value)
		default:
			err = fmt.Errorf("unknown setting %q", key)
		}
		if err != nil {
			s.t.Fatalf("%v: %v", words, err)
		}
	}
	return p
}

func (s *script) event(words []string) Event {
	kinds := map[string]EventKind{"start": Start, "stop": Stop, "remove": Remove, "restart": Restart, "used": Used, "unused": Unused}
	if kind := kinds[words[0]]; kind != 0 {
		return Event{Kind: kind}
	}
	if words[0] == "deploy" {
		return Event{Kind: Deploy, Program: s.program(words[1:])}
	}
	generation, err := strconv.ParseInt(words[0], 10, 64)
	if err != nil || len(words) < 2 {
		s.t.Fatalf("unknown event %q", words)
	}
	e := unit.Event{Jitter: 1, Kind: map[string]unit.EventKind{
		"timer": unit.Timer, "ready": unit.ProcessReady, "exited": unit.ProcessExited, "unhealthy": unit.ProcessUnhealthy,
		"tainted": unit.ProcessTainted, "worn": unit.ProcessWorn, "idle": unit.ProcessIdle,
	}[words[1]]}
	if e.Kind == 0 {
		s.t.Fatalf("unknown event %q", words)
	}
	if len(words) > 2 {
		if e.Process, err = strconv.ParseInt(words[2], 10, 64); err != nil {
			s.t.Fatalf("%q: %v", words, err)
		}
	}
	if len(words) > 3 {
		for reason := unit.Requested; reason.String() != "unknown"; reason++ {
			if reason.String() == words[3] {
				e.Reason = reason
			}
		}
	}
	return Event{Kind: OfUnit, Generation: generation, Unit: e}
}

// action is what a script says about an action. Process 2 of generation 1 is 1/2.
func (s *script) action(a Action) string {
	switch a.Kind {
	case NewGeneration:
		return fmt.Sprintf("new generation %d of %s", a.Generation, a.Program.Content)
	case TakeOver:
		return fmt.Sprintf("%d takes over, number %d", a.Generation, s.r.Number(a.Generation))
	case GiveUp:
		return fmt.Sprintf("%d is given up", a.Generation)
	case Supersede:
		return fmt.Sprintf("%d is superseded", a.Generation)
	case Quarantine:
		return fmt.Sprintf("%d is quarantined", a.Generation)
	case Forget:
		return fmt.Sprintf("%d is forgotten", a.Generation)
	}
	switch a.Unit.Kind {
	case unit.StartProcess:
		return fmt.Sprintf("start %d/%d", a.Generation, a.Unit.Process)
	case unit.DrainProcess:
		return fmt.Sprintf("drain %d/%d", a.Generation, a.Unit.Process)
	case unit.StopProcess:
		return fmt.Sprintf("stop %d/%d", a.Generation, a.Unit.Process)
	case unit.KillProcess:
		return fmt.Sprintf("kill %d/%d", a.Generation, a.Unit.Process)
	}
	if a.Unit.At.IsZero() {
		return fmt.Sprintf("timer of %d none", a.Generation)
	}
	return fmt.Sprintf("timer of %d +%v", a.Generation, a.Unit.At.Sub(s.now))
}
