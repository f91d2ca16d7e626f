package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/blocksd/blocksd/pluginsdk"
)

// runner works on tasks by running the program.
type runner struct {
	settings settings
	starter  *starter
}

// maxText bounds an answer of output text, and maxLine a line of output json.
const (
	maxText = 64 << 20
	maxLine = 8 << 20
)

func (r *runner) run(ctx context.Context, t *pluginsdk.Task) error {
	w, err := newWork(ctx, t)
	if err != nil {
		return err
	}
	defer w.remove()
	input, err := r.input(w)
	if err != nil {
		return err
	}
	argv := slices.Clone(r.settings.Command)
	for i := range argv[1:] {
		if argv[i+1], err = w.expand(argv[i+1]); err != nil {
			return err
		}
	}
	p, err := r.starter.run(argv, r.settings.Dir, r.environment(w))
	if err != nil {
		return pluginsdk.Private("The program could not be started.", err)
	}
	ended := p.stopAfter(ctx, time.Duration(r.settings.KillAfter))
	var pipes sync.WaitGroup
	pipes.Go(func() {
		_, _ = io.WriteString(p.stdin, input) // a program need not read it all
		p.stdin.Close()
	})
	var lastLine string
	pipes.Go(func() { lastLine = r.errors(t, p.stderr) })
	var a answer
	read := make(chan struct{})
	go func() {
		defer close(read)
		if a = r.read(ctx, t, p.stdout); a.err != nil {
			p.kill() // it writes what nobody understands
		}
	}()
	waitErr := p.wait()
	ended()
	// Its output may be held open by what it has started.
	drained := time.NewTimer(drainTime)
	defer drained.Stop()
	select {
	case <-read:
	case <-drained.C:
	}
	p.kill()
	<-read
	pipes.Wait()
	p.stdout.Close()
	p.stderr.Close()
	state, err := p.reap()
	switch err := errors.Join(waitErr, err); {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case err != nil:
		return pluginsdk.Private("The program could not be waited for.", err)
	case a.err != nil:
		return a.err
	}
	if public, err := outcome(state, r.settings.Errors, lastLine); err != nil {
		return pluginsdk.Private(public, err)
	}
	t.Complete() // when the program has ended a pipe task is over, too
	switch r.settings.Output {
	case asFiles:
		return sendFiles(t, w.output)
	case asText:
		return r.sendText(t, a.text)
	}
	return nil
}

// input is what the program reads.
func (r *runner) input(w *work) (string, error) {
	switch r.settings.Input {
	case asNone:
		return "", nil
	case asJSON:
		b, err := json.Marshal(describe(w))
		return string(b) + "\n", err
	}
	for _, p := range w.task.Parts {
		if p.Text != nil && (r.settings.Part == "" || p.ID == r.settings.Part) {
			return *p.Text, nil
		}
	}
	if r.settings.Part != "" {
		return "", fmt.Errorf("the input %q is missing", r.settings.Part)
	}
	return "", nil
}

// environment is that of this process, with what the settings and the task add. The daemon finds what a program leaves
// behind by a variable in it.
func (r *runner) environment(w *work) []string {
	env := append(os.Environ(), w.environment()...)
	for name, value := range r.settings.Environment {
		env = append(env, name+"="+value)
	}
	return env
}

// errors passes on what the program writes to standard error, and returns the last line.
func (r *runner) errors(t *pluginsdk.Task, from io.Reader) (last string) {
	eachLogged(from, func(line string) {
		if line == "" {
			return
		}
		last = line
		if r.settings.Stderr == asStatus {
			t.Status(line)
		}
		fmt.Fprintln(os.Stderr, line)
	})
	return last
}

// answer is what the program has written to standard output. An error is the task's.
type answer struct {
	text []byte // with output text
	err  error
}

func (r *runner) read(ctx context.Context, t *pluginsdk.Task, from io.Reader) answer {
	switch r.settings.Output {
	case asJSON:
		return answer{err: r.events(ctx, t, from)}
	case asFiles:
		eachLogged(from, func(line string) { slog.Info(line, "task", t.ID) })
		return answer{}
	}
	b, err := io.ReadAll(io.LimitReader(from, maxText+1))
	switch {
	case err != nil:
		err = pluginsdk.Private("The answer of the program could not be read.", err)
	case len(b) > maxText:
		err = fmt.Errorf("the program wrote more than %d bytes", maxText)
	}
	return answer{b, err}
}

func (r *runner) sendText(t *pluginsdk.Task, text []byte) error {
	a := pluginsdk.Artifact{MIMEType: "text/plain", FileName: r.settings.FileName, OutputID: r.settings.OutputID, Data: text}
	if r.settings.MIMEType != "" {
		a.MIMEType = r.settings.MIMEType
	}
	return t.Send(a)
}

// eachLine calls f for each line, without its end, until f fails. A line that is too long ends it too.
func eachLine(from io.Reader, f func(line []byte) error) error {
	lines := bufio.NewScanner(from)
	lines.Buffer(nil, maxLine)
	for lines.Scan() {
		if err := f(lines.Bytes()); err != nil {
			return err
		}
	}
	return lines.Err()
}

// eachLogged calls f for each line, and reads what is no line too: a program must not wait for its log to be read.
func eachLogged(from io.Reader, f func(line string)) {
	_ = eachLine(from, func(line []byte) error { // a line that is too long is not logged, nor what follows it
		f(strings.TrimSpace(string(line)))
		return nil
	})
	_, _ = io.Copy(io.Discard, from)
}

// sendFiles publishes the files of a directory, by their names.
func sendFiles(t *pluginsdk.Task, dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return pluginsdk.Private("The files of the program could not be read.", err)
	}
	for _, e := range entries {
		if !e.Type().IsRegular() {
			continue
		}
		if err := sendFile(t, filepath.Join(dir, e.Name()), pluginsdk.Artifact{FileName: e.Name()}); err != nil {
			return err
		}
	}
	return nil
}

// sendFile publishes one file; its type follows from its name where nothing else is said.
func sendFile(t *pluginsdk.Task, path string, a pluginsdk.Artifact) error {
	f, err := os.Open(path)
	if err != nil {
		return pluginsdk.Private("A file of the program could not be read.", err)
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return pluginsdk.Private("A file of the program could not be read.", fmt.Errorf("%s is not a file", path))
	}
	if a.MIMEType == "" {
		a.MIMEType, _, _ = strings.Cut(mime.TypeByExtension(filepath.Ext(path)), ";")
	}
	if a.FileName == "" {
		a.FileName = filepath.Base(path)
	}
	a.Body = f
	return t.Send(a)
}
