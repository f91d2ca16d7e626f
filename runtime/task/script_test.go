package task

// The scripts in testdata show one race each: lines without indentation are the configuration and the events with
// their time since the task was accepted, indented lines are what must follow: the actions in order, then "= phase"
// if it changed. "go test ./runtime/task -update" writes what the machine does now.

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/blocksd/blocksd/dispatch"
	"github.com/blocksd/blocksd/internal/testutil/scripttest"
	"github.com/blocksd/blocksd/network/wire"
)

var epoch = time.Date(2026, 5, 1, 0, 0, 0, 0, time.UTC)

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
	var s *State
	for n, line := range strings.Split(strings.TrimRight(script, "\n"), "\n") {
		if strings.HasPrefix(line, " ") {
			continue
		}
		out.WriteString(line + "\n")
		fields := strings.Fields(line)
		if len(fields) == 0 || strings.HasPrefix(line, "#") {
			continue
		}
		if fields[0] == "config" {
			cfg, err := parseConfig(fields[1:])
			if err != nil {
				return "", fmt.Errorf("line %d: %w", n+1, err)
			}
			s = New(cfg)
			continue
		}
		at, err := time.ParseDuration(fields[0])
		if err != nil || s == nil || len(fields) < 2 {
			return "", fmt.Errorf("line %d: want TIME EVENT after a config line", n+1)
		}
		ev, err := parseEvent(fields[1], strings.Join(fields[2:], " "))
		if err != nil {
			return "", fmt.Errorf("line %d: %w", n+1, err)
		}
		before := s.Phase()
		for _, a := range s.Step(ev, epoch.Add(at)) {
			out.WriteString("  " + actionText(a) + "\n")
		}
		if s.Phase() != before {
			out.WriteString("  = " + s.Phase().String() + "\n")
		}
	}
	return out.String(), nil
}

func parseConfig(fields []string) (Config, error) {
	cfg := Config{Kind: wire.Request}
	for _, f := range fields {
		key, value, _ := strings.Cut(f, "=")
		if key == "kind" {
			cfg.Kind = wire.TaskKind(value)
			continue
		}
		d, err := time.ParseDuration(value)
		if err != nil {
			return cfg, err
		}
		switch key {
		case "grace":
			cfg.Grace = d
		case "limit":
			cfg.Limit = d
		case "expires":
			cfg.Expires = epoch.Add(d)
		default:
			return cfg, fmt.Errorf("unknown setting %q", key)
		}
	}
	return cfg, nil
}

func parseEvent(name, arg string) (Event, error) {
	switch name {
	case "start":
		return Start{}, nil
	case "dispatched":
		pid, err := strconv.Atoi(arg)
		return Dispatched{pid}, err
	case "status":
		return Status{arg}, nil
	case "artifact":
		id, err := strconv.Atoi(arg)
		return Artifact{id}, err
	case "cancel":
		for r := dispatch.CancelUser; r <= dispatch.CancelShutdown; r++ {
			if r.String() == arg {
				return Cancel{r}, nil
			}
		}
	case "over":
		for timer := range Timers {
			if timer.String() == arg {
				return TimerFired{timer}, nil
			}
		}
	case "terminal-done":
		return TerminalDone{}, nil
	case "stream-failed":
		return StreamFailed{arg}, nil
	case "detached":
		return Detached{}, nil
	case "end":
		if arg == "" {
			return End{}, nil
		}
		return End{&dispatch.TaskFailure{Kind: dispatch.HandlerError, Public: arg}}, nil
	case "done":
		return HandlerDone{}, nil
	case "error", "crash", "silent", "no-process", "call-ended":
		kind := map[string]dispatch.FailureKind{"error": dispatch.HandlerError, "crash": dispatch.HandlerCrash, "silent": dispatch.HandlerSilent,
			"no-process": dispatch.NoProcess, "call-ended": dispatch.CallEnded}[name]
		return HandlerDone{&dispatch.TaskFailure{Kind: kind, Public: arg, Private: "secret"}}, nil
	}
	return nil, fmt.Errorf("unknown event %q %q", name, arg)
}

func actionText(a Action) string {
	switch a := a.(type) {
	case PublishRunning:
		return "publish running"
	case PublishStatus:
		return "publish status " + a.Text
	case PublishArtifact:
		return fmt.Sprintf("publish artifact %d", a.ID)
	case RefuseArtifact:
		return fmt.Sprintf("refuse artifact %d", a.ID)
	case PublishTerminal:
		return "publish terminal " + terminalText(a.Terminal)
	case NoteOutcome:
		return "note outcome " + terminalText(a.Terminal)
	case CallHandler:
		return "call handler"
	case NotifyHandler:
		return fmt.Sprintf("notify handler %v grace=%v", a.Reason, a.Grace)
	case EndCall:
		return "end call"
	case AbandonArtifacts:
		return "abandon artifacts"
	case SetTimer:
		return fmt.Sprintf("set %v timer to %v", a.Timer, a.At.Sub(epoch))
	case StopTimer:
		return fmt.Sprintf("stop %v timer", a.Timer)
	case FreeSlot:
		return "free slot"
	case Finished:
		return "finished"
	}
	return fmt.Sprintf("unknown action %T", a)
}

func terminalText(t wire.Terminal) string {
	text := string(t.State)
	if t.CompletionReason != "" {
		text += " completionReason=" + t.CompletionReason
	}
	if t.Reason != "" {
		text += " reason=" + t.Reason
	}
	if t.Error != "" {
		text += " error=" + t.Error
	}
	return text
}
