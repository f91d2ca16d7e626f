// Command scripted is a handler for tests, of the agent "scripted": its request is a list of steps. A handler of Blocks'
// Python SDK in e2e/interop/blocks knows the same steps, so that one request shows how two providers differ.
package main

import (
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/blocksd/blocksd/pluginsdk"
)

//go:embed agent-card.json
var card []byte

func main() {
	pluginsdk.Serve(pluginsdk.Handler{Name: "scripted", Version: "0.1.0", Cards: [][]byte{card}, Run: run})
}

// output is the argument of the steps that make an artifact.
type output struct {
	Text                         *string
	Size                         int
	MIMEType, FileName, OutputID string
}

// artifact returns what the step asks for; without a text Size bytes of a fixed pattern.
func (o output) artifact() pluginsdk.Artifact {
	a := pluginsdk.Artifact{OutputID: o.OutputID, FileName: o.FileName, MIMEType: o.MIMEType}
	if o.Text != nil {
		a.Data = []byte(*o.Text)
		return a
	}
	a.Data = make([]byte, o.Size)
	for i := range a.Data {
		a.Data[i] = byte(i * 7 % 251)
	}
	return a
}

// work is one task with the answer that its steps have put together.
type work struct {
	*pluginsdk.Task
	ctx    context.Context
	answer []pluginsdk.Artifact
}

// steps are what a request may ask for, by name.
var steps = map[string]func(*work, json.RawMessage) error{
	"status":       step(func(w *work, text string) error { w.Status(text); return nil }),
	"pause":        step(func(w *work, seconds float64) error { time.Sleep(duration(seconds)); return nil }),
	"publish":      step(func(w *work, o output) error { return w.Publish(w.ctx, o.artifact()) }),
	"return":       step(func(w *work, o output) error { w.answer = append(w.answer, o.artifact()); return nil }),
	"echo":         step((*work).echo),
	"digest":       step((*work).digest),
	"parts":        step((*work).list),
	"await_cancel": step(func(w *work, seconds float64) error { w.canceled(seconds); return nil }),
	"until_cancel": step((*work).untilCancel),
	"raise_cancel": step((*work).raiseCancel),
	"await_file":   step((*work).awaitFile),
	"fail":         step(func(_ *work, text string) error { return errors.New(text) }),
	"call":         step((*work).call),
	"trace":        step(func(w *work, key string) error { return w.text(w.TraceContext[key]) }),
}

func step[T any](do func(*work, T) error) func(*work, json.RawMessage) error {
	return func(w *work, raw json.RawMessage) error {
		var arg T
		if err := json.Unmarshal(raw, &arg); err != nil {
			return err
		}
		return do(w, arg)
	}
}

func run(ctx context.Context, t *pluginsdk.Task) error {
	var script []map[string]json.RawMessage
	if err := t.JSON("request", &script); err != nil {
		return err
	}
	w := &work{Task: t, ctx: ctx}
	for _, s := range script {
		for verb, arg := range s {
			do, known := steps[verb]
			if !known {
				return fmt.Errorf("there is no step %q", verb)
			}
			if err := do(w, arg); err != nil {
				return err
			}
		}
	}
	for _, a := range w.answer {
		if err := t.Send(a); err != nil {
			return err
		}
	}
	return nil
}

func duration(seconds float64) time.Duration { return time.Duration(seconds * float64(time.Second)) }

// canceled waits until the task is asked to end, at most for a time, and says whether it was.
func (w *work) canceled(seconds float64) bool {
	select {
	case <-w.ctx.Done():
		return true
	case <-time.After(duration(seconds)):
		return false
	}
}

// awaitFile polls: the file is made in another process.
func (w *work) awaitFile(path string) error {
	for {
		if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if w.canceled(0.1) {
			return errors.New("canceled before the file was there")
		}
	}
}

func (w *work) untilCancel(seconds float64) error {
	if !w.canceled(seconds) {
		return errors.New("nobody canceled")
	}
	return nil
}

// raiseCancel ends with the cancellation itself, as code does that hands its context down and its error up.
func (w *work) raiseCancel(seconds float64) error {
	if !w.canceled(seconds) {
		return errors.New("nobody canceled")
	}
	return context.Cause(w.ctx)
}

func (w *work) text(s string) error {
	w.answer = append(w.answer, pluginsdk.Text(s))
	return nil
}

func (w *work) echo(part string) error {
	s, _ := w.Text(part)
	return w.text(s)
}

func (w *work) digest(part string) error {
	f, err := w.File(w.ctx, part)
	if err != nil {
		return err
	}
	defer f.Close()
	sum := sha256.New()
	n, err := io.Copy(sum, f)
	if err != nil {
		return err
	}
	return w.text(fmt.Sprintf("%s %s %d %x", f.Name, f.MIMEType, n, sum.Sum(nil)))
}

func (w *work) list(bool) error {
	var all []string
	for _, p := range w.Parts {
		kind := "text"
		if p.File != nil {
			kind = "file"
		}
		all = append(all, p.ID+":"+kind)
	}
	return w.text(strings.Join(all, " "))
}
