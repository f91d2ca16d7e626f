package calls

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/blocksd/blocksd/client"
	"github.com/blocksd/blocksd/dispatch"
	"github.com/blocksd/blocksd/network/wire"
)

// Task makes the calls of one task. It implements dispatch.Caller.
type Task struct {
	pool              *Pool
	apiKey, agent, id string
	// Traceparent of calls that have none of their own; may be empty. It must not be changed after the first call.
	Traceparent string

	mu      sync.Mutex // guards what follows
	ended   bool
	depth   int // once sent is not 0
	sent    int
	open    int
	streams int // open
	called  map[string]*call
	// unclear are calls with keys of their own of which it is not known whether they were sent.
	unclear map[string]*unclear
}

var _ dispatch.Caller = (*Task)(nil)

// Task makes the calls of a task whose agent has an API key. End must follow.
func (p *Pool) Task(apiKey, agent, id string) *Task {
	return &Task{pool: p, apiKey: apiKey, agent: agent, id: id}
}

func limited(format string, args ...any) error {
	return &dispatch.CallError{Fault: dispatch.CallLimit, Text: fmt.Sprintf(format, args...)}
}

// begin counts a call, and refuses one too many. It returns how deeply this task is nested. end must follow when the error is nil.
func (t *Task) begin(ctx context.Context) (depth int, err error) {
	t.mu.Lock()
	depth = t.depth
	first := t.sent == 0
	t.mu.Unlock()
	if first {
		if depth, err = t.pool.depth(ctx, t.agent, t.id); err != nil {
			return 0, err
		}
	}
	if limit := t.pool.cfg.MaxDepth; depth >= limit {
		return 0, limited("calls may be nested %d deep, and this task is the result of as many: see whether agents call each other in a circle", limit)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.ended:
		return 0, dispatch.ErrTaskOver
	case t.open >= t.pool.cfg.MaxOpen:
		return 0, limited("this task has %d calls under way, the most that it may have: wait for one first", t.open)
	case t.sent >= t.pool.cfg.MaxSent:
		return 0, limited("this task has made %d calls, the most that it may make", t.sent)
	}
	t.open++
	t.sent++
	t.depth = depth
	return depth, nil
}

func (t *Task) end() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.open--
}

// Call implements dispatch.Caller.
func (t *Task) Call(ctx context.Context, r dispatch.CallRequest) (dispatch.Call, error) {
	depth, err := t.begin(ctx)
	if err != nil {
		return nil, err
	}
	c, release, err := t.pool.acquire(ctx, t.apiKey)
	if err != nil {
		t.end()
		return nil, err
	}
	sent := t.pool.send(r.Agent, depth+1)
	s, err := c.Send(ctx, message(r, t.Traceparent))
	if err != nil {
		sent("")
		t.end()
		t.inDoubt(r, err, release)
		return nil, fault("call agent "+r.Agent, err)
	}
	t.clear(r.IdempotencyKey)
	sent(s.TaskID())
	made := &call{task: t, session: s, detached: r.Detached, free: sync.OnceFunc(t.end), release: sync.OnceFunc(release)}
	t.mu.Lock()
	ended := t.ended
	if !ended {
		if t.called == nil {
			t.called = map[string]*call{}
		}
		t.called[s.TaskID()] = made
	}
	t.mu.Unlock()
	if ended { // while it was sent
		made.abandon()
		return nil, dispatch.ErrTaskOver
	}
	return made, nil
}

func message(r dispatch.CallRequest, traceparent string) client.Message {
	if _, ok := wire.ParseTraceparent(r.Traceparent); ok { // what a handler makes up must not make its call fail
		traceparent = r.Traceparent
	}
	m := client.Message{
		Agent: r.Agent, Duration: r.Duration, IdempotencyKey: r.IdempotencyKey, OwnerID: r.OwnerID, Traceparent: traceparent,
	}
	if r.Stream {
		m.Stream = client.StreamOn
	}
	for _, p := range r.Parts {
		part := client.Text(p.ID, p.Text)
		if p.Open != nil {
			part = client.Reader(p.ID, p.FileName, p.Open)
		}
		if p.ContentType != "" {
			part.MIMEType = p.ContentType
		}
		m.Parts = append(m.Parts, part)
	}
	return m
}

// Called implements dispatch.Caller.
func (t *Task) Called(taskID string) (dispatch.Call, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if c := t.called[taskID]; c != nil {
		return c, nil
	}
	return nil, &dispatch.CallError{Fault: dispatch.CallUnknown, Text: "this task has not sent a task with that id"}
}

// End ends the calls: the called tasks that have not ended are canceled, in the background, unless they are detached.
func (t *Task) End() {
	t.mu.Lock()
	t.ended = true
	called, doubtful := t.called, t.unclear
	t.called, t.unclear = nil, nil
	t.mu.Unlock()
	for _, c := range called {
		c.abandon()
	}
	for _, u := range doubtful {
		u.settle()
	}
}

// call is a task that was sent.
type call struct {
	task     *Task
	session  *client.Session
	detached bool
	// free ends the call's share of the limit, release that of the credentials. Both may be repeated.
	free, release func()

	mu      sync.Mutex // guards what follows
	over    bool       // it has ended, or nobody wants it any more
	closed  bool       // its session is closed, or about to be
	streams map[string]*callStream
}

// TaskID implements dispatch.Call.
func (c *call) TaskID() string { return c.session.TaskID() }

// Queued implements dispatch.Call.
func (c *call) Queued() bool { return c.session.Queued() }

// Idempotent implements dispatch.Call.
func (c *call) Idempotent() bool { return c.session.Idempotent() }

// Follow implements dispatch.Call.
func (c *call) Follow(ctx context.Context, emit func(dispatch.CallEvent) error) error {
	announced := 0
	for e, err := range c.session.Events(ctx) {
		if err != nil {
			c.abandon()
			return fault("follow task "+c.TaskID(), err)
		}
		body, err := e.JSON()
		if err == nil {
			event := dispatch.CallEvent{JSON: body}
			if e.Type == client.EventProgress {
				event.Streams = c.announced(announced)
				announced += len(event.Streams)
			}
			err = emit(event)
		}
		if e.Type == client.EventTerminal {
			c.finish()
			return err
		}
		if err != nil {
			c.abandon()
			return err
		}
	}
	return nil
}

// finish notes that the task has ended. Its session stays for its artifacts.
func (c *call) finish() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.over = true
	c.free()
}

// abandon cancels the task, unless it has ended or is detached, and closes its session; all in the background.
func (c *call) abandon() {
	c.mu.Lock()
	unwanted := !c.over && !c.detached
	c.over = true
	c.mu.Unlock()
	c.task.pool.background(func() {
		defer c.close()
		if !unwanted {
			return
		}
		ctx, cancel := context.WithTimeout(context.Background(), cancelTimeout)
		defer cancel()
		if err := c.session.Cancel(ctx); err != nil {
			c.task.pool.cfg.Log.Warn("a task that was sent for another one could not be canceled when that ended", "task", c.TaskID(), "for", c.task.id, "err", err)
		}
	})
}

func (c *call) close() {
	c.closeStreams()
	c.session.Close()
	c.free()
	c.release()
}

// Control implements dispatch.Call.
func (c *call) Control(ctx context.Context, verb dispatch.CallVerb) error {
	do := map[dispatch.CallVerb]func(context.Context) error{
		dispatch.CallCancel: c.session.Cancel, dispatch.CallTerminate: c.session.Terminate, dispatch.CallPause: c.session.Pause,
		dispatch.CallResume: c.session.Resume, dispatch.CallRetry: c.session.Retry,
	}[verb]
	if do == nil {
		return &dispatch.CallError{Fault: dispatch.CallRefused, Text: fmt.Sprintf("%q is nothing that can be asked for: use cancel, terminate, pause, resume or retry", verb)}
	}
	return fault(fmt.Sprintf("%s task %s", verb, c.TaskID()), do(ctx))
}

// Artifact implements dispatch.Call.
func (c *call) Artifact(ctx context.Context, index int) (dispatch.CallArtifact, error) {
	all := c.session.Artifacts()
	if index < 0 || index >= len(all) {
		return dispatch.CallArtifact{}, &dispatch.CallError{Fault: dispatch.CallUnknown, Text: fmt.Sprintf("task %s has %d artifacts, and none with the number %d", c.TaskID(), len(all), index)}
	}
	a := all[index]
	body, err := c.session.Open(ctx, a)
	if err != nil {
		return dispatch.CallArtifact{}, fault("download an artifact of task "+c.TaskID(), err)
	}
	return dispatch.CallArtifact{OutputID: a.OutputID, FileName: a.FileName, MIMEType: a.MIMEType, Body: body}, nil
}

// fault classifies an error of the client.
func fault(what string, err error) error {
	if err == nil || errors.Is(err, context.Canceled) {
		return err
	}
	if e, ok := errors.AsType[*dispatch.CallError](err); ok {
		return e
	}
	f := dispatch.CallRefused
	var temporary interface{ Temporary() bool }
	switch {
	case errors.As(err, &temporary) && temporary.Temporary(), errors.Is(err, context.DeadlineExceeded), errors.Is(err, client.ErrClosed):
		f = dispatch.CallUnavailable
	case errors.As(err, new(*client.NotFoundError)):
		f = dispatch.CallUnknown
	}
	return &dispatch.CallError{Fault: f, Text: fmt.Sprintf("%s: %v", what, err)}
}
