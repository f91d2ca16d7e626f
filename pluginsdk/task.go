package pluginsdk

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	handlerv1 "github.com/blocksd/blocksd/proto/blocks/handler/v1"
)

// Task is one unit of work. Its methods may be called from several goroutines until Run returns.
type Task struct {
	ID        string
	AgentName string
	// Pipe is true for a long-running task with an agreed Duration.
	Pipe     bool
	Duration time.Duration
	// Parts in the order in which the caller sent them.
	Parts   []Part
	OwnerID string
	OrgID   string
	// CallerClaims and RequestSummary are JSON objects, nil when the network said nothing.
	CallerClaims, RequestSummary json.RawMessage
	// Deadline is when the daemon cancels the task; zero when there is no limit.
	Deadline          time.Time
	HasStream         bool
	ConsumerPublicKey string
	// TraceContext is the task's place in a trace, with the W3C key traceparent; empty where nobody traces. For OpenTelemetry:
	// propagation.TraceContext{}.Extract(ctx, propagation.MapCarrier(t.TraceContext)).
	TraceContext map[string]string

	host *host
	// complete: also a pipe task ends with its result.
	complete atomic.Bool

	// mu keeps the messages of one artifact together and guards the fields below.
	mu    sync.Mutex
	send  func(*handlerv1.StartTaskResponse) error
	sent  int64 // how many messages send has taken
	ended bool
	// streams that were created, to be drained before the end.
	streams []*Stream
}

// Part is one input.
type Part struct {
	ID          string // matches an input of the card; may be empty
	ContentType string
	// Text is nil when the part carries none.
	Text *string
	// File is nil when the part carries none; read it with Task.File.
	File *FileInfo
	// Raw is the part exactly as it was sent: one JSON value, usually an object.
	Raw json.RawMessage
}

// FileInfo describes a file as its sender announced it. The name is the sender's choice: never use it as a path unchecked.
type FileInfo struct {
	Name     string
	MIMEType string
	Size     int64
}

func newTask(t *handlerv1.Task, h *host, send func(*handlerv1.StartTaskResponse) error) *Task {
	task := &Task{
		ID: t.GetTaskId(), AgentName: t.GetAgentName(), Pipe: t.GetKind() == handlerv1.TaskKind_TASK_KIND_PIPE,
		Duration: t.GetDuration().AsDuration(), OwnerID: t.GetOwnerId(), OrgID: t.GetOrgId(),
		CallerClaims: t.GetCallerClaimsJson(), RequestSummary: t.GetRequestSummaryJson(), HasStream: t.GetHasStream(),
		ConsumerPublicKey: t.GetConsumerPublicKey(), TraceContext: t.GetTraceContext(), host: h,
	}
	task.send = func(r *handlerv1.StartTaskResponse) error {
		err := send(r)
		if err == nil {
			task.sent++
		}
		return err
	}
	if d := t.GetDeadline(); d != nil {
		task.Deadline = d.AsTime()
	}
	for _, p := range t.GetParts() {
		part := Part{ID: p.GetPartId(), ContentType: p.GetContentType(), Text: p.Text, Raw: p.GetRawJson()}
		if f := p.GetFile(); f != nil {
			part.File = &FileInfo{Name: f.GetName(), MIMEType: f.GetMimeType(), Size: f.GetSize()}
		}
		task.Parts = append(task.Parts, part)
	}
	return task
}

// Text returns the text of the first part called id that has one.
func (t *Task) Text(id string) (string, bool) {
	for _, p := range t.Parts {
		if p.ID == id && p.Text != nil {
			return *p.Text, true
		}
	}
	return "", false
}

// JSON decodes the text of the part called id into v. The error is meant for the consumer.
func (t *Task) JSON(id string, v any) error {
	text, ok := t.Text(id)
	if !ok {
		return fmt.Errorf("the input %q is missing", id)
	}
	if err := json.Unmarshal([]byte(text), v); err != nil {
		return fmt.Errorf("the input %q is not the JSON document that was expected: %w", id, err)
	}
	return nil
}

// File opens the file of the first part called id that has one; the caller closes it. It may be opened again.
func (t *Task) File(ctx context.Context, id string) (*File, error) {
	for i, p := range t.Parts {
		if p.ID == id && p.File != nil {
			return t.FileAt(ctx, i)
		}
	}
	return nil, fmt.Errorf("the input %q has no file", id)
}

// FileAt is File for the part with an index: ids need not be unique.
func (t *Task) FileAt(ctx context.Context, index int) (*File, error) {
	if index < 0 || index >= len(t.Parts) || t.Parts[index].File == nil {
		return nil, fmt.Errorf("input number %d has no file", index+1)
	}
	return t.host.open(ctx, t.ID, index)
}

// Status shows text to the consumer. The daemon publishes at most one a second and keeps the latest. It does not fail: a
// status that cannot be sent any more is not missed.
func (t *Task) Status(text string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.ended {
		_ = t.send(&handlerv1.StartTaskResponse{Event: &handlerv1.StartTaskResponse_Status{Status: cut(text)}})
	}
}

// Complete lets a pipe task end when Run returns nil. Without it the task goes on, and its streams with it, until its time is
// over, somebody ends it, or [Task.EndTask].
func (t *Task) Complete() { t.complete.Store(true) }

// end makes every later call fail, and waits for the one that is on its way.
func (t *Task) end() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.ended = true
}
