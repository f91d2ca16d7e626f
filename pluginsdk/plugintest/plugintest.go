// Package plugintest tests handlers: it runs the real program as the daemon does, gives it tasks and looks at the answers,
// without a daemon and without a network. The program may be written in any language.
package plugintest

import (
	"context"
	"fmt"
	"log/slog"
	"os/exec"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/blocksd/blocksd/dispatch"
	"github.com/blocksd/blocksd/network/card"
	"github.com/blocksd/blocksd/network/wire"
	"github.com/blocksd/blocksd/supervisor/conformance"
)

// Timeout bounds each task and each check.
const Timeout = 2 * time.Minute

// Build builds a handler in Go, such as that in the directory of the test ("."), and returns its path.
func Build(t testing.TB, pkg string) string {
	t.Helper()
	dir := t.TempDir()
	cmd := exec.CommandContext(t.Context(), "go", "build", "-o", dir+"/", pkg)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build the handler %s: %v\n%s", pkg, err, out)
	}
	found, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(found) != 1 {
		t.Fatalf("the package %s is not one program: %v", pkg, found)
	}
	return found[0]
}

// Handler is a handler that runs.
type Handler struct {
	t       testing.TB
	handler *conformance.Handler
	count   atomic.Int64
}

// Start starts a program and stops it at the end of the test. Its output is logged when the test fails.
func Start(t testing.TB, path string, args ...string) *Handler {
	t.Helper()
	bench, err := conformance.NewBench(logger(t), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(bench.Close)
	ctx, cancel := context.WithTimeout(t.Context(), Timeout)
	defer cancel()
	abs, err := filepath.Abs(path)
	if err != nil {
		t.Fatal(err)
	}
	h, err := bench.Start(ctx, conformance.Program{Path: abs, Args: args})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if !h.Stop() {
			t.Errorf("the handler %s could not be ended", path)
		}
	})
	return &Handler{t: t, handler: h}
}

// Part is one input of a task: a text or a file.
type Part struct {
	ID, ContentType string
	// Text is the text when File is nil.
	Text string
	// File are the bytes of a file called FileName.
	File     []byte
	FileName string
}

// Task is a task to be done. Its zero value has no inputs.
type Task struct {
	Parts []Part
	// Pipe makes it a pipe task of one minute, which ends here when the handler returns.
	Pipe bool
	// Streams are those of the agent card, for a caller that wants streams; nil for one that does not. Inbound is what the
	// caller writes into each that it may write: texts for streams of bytes, JSON values for streams of events.
	Streams map[string]Stream
	Inbound []string
	// CancelAfter asks for the end of the task after a time; 0 never does.
	CancelAfter time.Duration
}

// Stream is a stream as a card declares it.
type Stream struct{ Direction, Format string }

// Text is a task with one text.
func Text(id, text string) Task { return Task{Parts: []Part{{ID: id, Text: text}}} }

// Outcome is how a task went: its statuses, artifacts and streams, and the error of one that failed.
type Outcome = conformance.Outcome

// Do gives a task to the handler and returns when it has ended.
func (h *Handler) Do(task Task) Outcome {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(h.t.Context(), Timeout)
	defer cancel()
	t := conformance.Task{
		Task:  wire.Task{ID: fmt.Sprintf("test_%d", h.count.Add(1)), AgentName: "test", Kind: wire.Request, OwnerID: "test", OrgID: "test", HasStream: task.Streams != nil},
		Files: map[int][]byte{},
	}
	if task.Pipe {
		t.Kind, t.Duration = wire.Pipe, time.Minute
	}
	for i, p := range task.Parts {
		part := wire.Part{PartID: p.ID, ContentType: p.ContentType}
		if p.File == nil {
			part.Text = &p.Text
		} else {
			part.File = &wire.ArtifactRef{Kind: wire.RefInline, FileName: p.FileName, MIMEType: p.ContentType, Size: int64(len(p.File))}
			t.Files[i] = p.File
		}
		t.Parts = append(t.Parts, part)
	}
	if task.Streams != nil {
		t.Streams = map[string]card.Stream{}
		for name, s := range task.Streams {
			t.Streams[name] = card.Stream{Direction: s.Direction, Format: s.Format, Affinity: "dedicated"}
			for _, text := range task.Inbound {
				kind := dispatch.StreamText
				if s.Format == string(wire.FormatEvents) {
					kind = dispatch.StreamEvent
				}
				t.Inbound = append(t.Inbound, dispatch.StreamItem{Kind: kind, Data: []byte(text)})
			}
		}
	}
	if task.CancelAfter > 0 {
		var timer *time.Timer
		t.OnAssigned = func() { // before that there is no task to cancel
			timer = time.AfterFunc(task.CancelAfter, func() { _ = h.handler.Cancel(ctx, t.ID, dispatch.CancelUser, grace) }) // it may have ended
		}
		defer func() {
			if timer != nil {
				timer.Stop()
			}
		}()
	}
	return h.handler.Do(ctx, t)
}

// grace is what a canceled task is told that it has.
const grace = 5 * time.Second

// Check runs the conformance suite, as blocksd handler check does, and fails the test for each problem.
func Check(t testing.TB, path string, args ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), Timeout)
	defer cancel()
	r, err := conformance.Check(ctx, conformance.Program{Path: path, Args: args}, conformance.Options{Log: logger(t)})
	if err != nil {
		t.Fatal(err)
	}
	for _, problem := range r.Problems {
		t.Error(problem)
	}
	for _, c := range r.Results {
		t.Logf("%-12s %s %s", c.Check, c.State, c.Detail)
	}
}

// logger writes to the test's log.
func logger(t testing.TB) *slog.Logger {
	return slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
}
