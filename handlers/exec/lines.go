package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"time"

	"github.com/blocksd/blocksd/pluginsdk"
)

// taskForm is the task that a program reads with input json.
type taskForm struct {
	TaskID         string            `json:"taskId"`
	AgentName      string            `json:"agentName"`
	Kind           string            `json:"kind"`
	OwnerID        string            `json:"ownerId"`
	OrgID          string            `json:"orgId"`
	Parts          []partForm        `json:"parts"`
	HasStream      bool              `json:"hasStream"`
	Deadline       *time.Time        `json:"deadline,omitempty"`
	DurationMS     int64             `json:"durationMs,omitempty"`
	CallerClaims   json.RawMessage   `json:"callerClaims,omitempty"`
	RequestSummary json.RawMessage   `json:"requestSummary,omitempty"`
	TraceContext   map[string]string `json:"traceContext,omitempty"`
	OutputDir      string            `json:"outputDir"`
}

type partForm struct {
	ID          string    `json:"id"`
	ContentType string    `json:"contentType,omitempty"`
	Text        *string   `json:"text,omitempty"`
	File        *fileForm `json:"file,omitempty"`
}

type fileForm struct {
	Path     string `json:"path"`
	Name     string `json:"name,omitempty"`
	MIMEType string `json:"mimeType,omitempty"`
	Size     int64  `json:"size"`
}

// describe is the task of a directory.
func describe(w *work) taskForm {
	t := w.task
	f := taskForm{
		TaskID: t.ID, AgentName: t.AgentName, Kind: "request", OwnerID: t.OwnerID, OrgID: t.OrgID, Parts: []partForm{}, HasStream: t.HasStream,
		DurationMS: t.Duration.Milliseconds(), CallerClaims: t.CallerClaims, RequestSummary: t.RequestSummary, TraceContext: t.TraceContext, OutputDir: w.output,
	}
	if t.Pipe {
		f.Kind = "pipe"
	}
	if !t.Deadline.IsZero() {
		f.Deadline = &t.Deadline
	}
	for i, p := range t.Parts {
		part := partForm{ID: p.ID, ContentType: p.ContentType, Text: p.Text}
		if p.File != nil {
			part.File = &fileForm{w.files[i], p.File.Name, p.File.MIMEType, p.File.Size}
		}
		f.Parts = append(f.Parts, part)
	}
	return f
}

// eventForm is a line that a program writes with output json: exactly one of its members.
type eventForm struct {
	Status   *string       `json:"status"`
	Artifact *artifactForm `json:"artifact"`
	Error    *string       `json:"error"`
	Stream   *streamForm   `json:"stream"`
}

// streamForm writes into a stream, which it makes when it is the first: exactly one of text, data, event and end.
type streamForm struct {
	// Name is the key in the card, which may be left out when the card declares one stream.
	Name  string          `json:"name"`
	Text  *string         `json:"text"`
	Data  []byte          `json:"data"` // base64
	Event json.RawMessage `json:"event"`
	End   bool            `json:"end"`
}

// artifactForm is an artifact: exactly one of text, data and path.
type artifactForm struct {
	Text     *string `json:"text"`
	Data     []byte  `json:"data"` // base64
	Path     string  `json:"path"`
	MIMEType string  `json:"mimeType"`
	FileName string  `json:"fileName"`
	OutputID string  `json:"outputId"`
}

// parseEvent reads a line.
func parseEvent(line []byte) (eventForm, error) {
	var e eventForm
	dec := json.NewDecoder(bytes.NewReader(line))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&e); err != nil {
		return eventForm{}, err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return eventForm{}, errors.New("there is something behind the JSON object")
	}
	if count(e.Status != nil, e.Artifact != nil, e.Error != nil, e.Stream != nil) != 1 {
		return eventForm{}, errors.New("it must have exactly one of status, artifact, stream and error")
	}
	if a := e.Artifact; a != nil && count(a.Text != nil, a.Data != nil, a.Path != "") != 1 {
		return eventForm{}, errors.New("an artifact must have exactly one of text, data and path")
	}
	if s := e.Stream; s != nil && count(s.Text != nil, s.Data != nil, s.Event != nil, s.End) != 1 {
		return eventForm{}, errors.New("what is written into a stream must have exactly one of text, data, event and end")
	}
	return e, nil
}

// count is how many are true.
func count(all ...bool) (n int) {
	for _, b := range all {
		if b {
			n++
		}
	}
	return n
}

// notUnderstood is for the consumer; the log has the line.
const notUnderstood = "The program gave an answer that is not understood."

// events publishes the lines of a program as they come. An error line fails the task when the program has ended.
func (r *runner) events(ctx context.Context, t *pluginsdk.Task, from io.Reader) error {
	var failed error
	streams := streams{task: t, made: map[string]*pluginsdk.Stream{}}
	err := eachLine(from, func(line []byte) error {
		if len(bytes.TrimSpace(line)) == 0 || ctx.Err() != nil {
			return nil
		}
		e, err := parseEvent(line)
		if err != nil {
			return pluginsdk.Private(notUnderstood, fmt.Errorf("line %.200q of the program: %w", line, err))
		}
		switch {
		case e.Status != nil:
			t.Status(*e.Status)
		case e.Error != nil:
			failed = errors.New(*e.Error)
		case e.Stream != nil:
			return streams.write(ctx, *e.Stream)
		default:
			return r.send(t, *e.Artifact)
		}
		return nil
	})
	switch {
	case failed != nil:
		return failed
	case err != nil:
		var private interface{ Unwrap() error }
		if errors.As(err, &private) || errors.Is(err, pluginsdk.ErrTaskEnded) {
			return err
		}
		return pluginsdk.Private(notUnderstood, err)
	}
	return nil
}

func (r *runner) send(t *pluginsdk.Task, a artifactForm) error {
	out := pluginsdk.Artifact{OutputID: a.OutputID, FileName: a.FileName, MIMEType: a.MIMEType, Data: a.Data}
	switch {
	case a.Path != "":
		if !filepath.IsAbs(a.Path) {
			a.Path = filepath.Join(r.settings.Dir, a.Path)
		}
		return sendFile(t, a.Path, out)
	case a.Text != nil:
		out.Data = []byte(*a.Text)
		if out.MIMEType == "" {
			out.MIMEType = "text/plain"
		}
	}
	return t.Send(out)
}

// streams are those of a task.
type streams struct {
	task *pluginsdk.Task
	made map[string]*pluginsdk.Stream // by the name that the program uses
}

// write does what a line says. To a program whose caller wants no streams they make no difference.
func (s streams) write(ctx context.Context, f streamForm) error {
	if !s.task.HasStream {
		return nil
	}
	to := s.made[f.Name]
	if to == nil {
		var err error
		if to, err = s.task.CreateStream(ctx, pluginsdk.StreamOptions{Declared: f.Name}); err != nil {
			return err
		}
		s.made[f.Name] = to
	}
	switch {
	case f.End:
		return to.End(ctx)
	case f.Text != nil:
		return to.WriteText(*f.Text)
	case f.Data != nil:
		_, err := to.Write(f.Data)
		return err
	}
	return to.WriteEvent(f.Event)
}
