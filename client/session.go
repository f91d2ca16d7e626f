package client

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"sync"

	"github.com/blocksd/blocksd/network/backend"
	"github.com/blocksd/blocksd/network/link"
	"github.com/blocksd/blocksd/network/wire"
)

// maxDenials is how many renewed tokens in a row may be refused before the session gives up.
const maxDenials = 3

// Session follows one task. Its methods may be called from any goroutine.
type Session struct {
	client             *TaskClient
	link               *link.Link
	taskID             string
	queued, idempotent bool
	channel            string // set once, before the caller gets the session

	mu      sync.Mutex // guards the fields below
	token   string
	closed  bool
	running map[*context.CancelCauseFunc]struct{} // the calls that Close ends
}

// TaskID is the id of the task.
func (s *Session) TaskID() string { return s.taskID }

// Queued reports that no instance was free when the task was submitted.
func (s *Session) Queued() bool { return s.queued }

// Idempotent reports that the idempotency key belongs to a task that was submitted before.
func (s *Session) Idempotent() bool { return s.idempotent }

// Cancel asks the task to end; the outcome arrives as an event.
func (s *Session) Cancel(ctx context.Context) error {
	return s.client.consumer.CancelTask(ctx, s.taskID)
}

// Terminate ends the task for good, with the reason "terminated".
func (s *Session) Terminate(ctx context.Context) error {
	return s.client.consumer.TerminateTask(ctx, s.taskID)
}

// Close ends the calls on this session. It does not cancel the task.
func (s *Session) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	for cancel := range s.running {
		(*cancel)(ErrClosed)
	}
}

// enter registers a call that Close ends; done must be called.
func (s *Session) enter(ctx context.Context) (_ context.Context, done func(), err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, nil, ErrClosed
	}
	ctx, cancel := context.WithCancelCause(ctx)
	if s.running == nil {
		s.running = make(map[*context.CancelCauseFunc]struct{})
	}
	s.running[&cancel] = struct{}{}
	return ctx, func() {
		cancel(nil)
		s.mu.Lock()
		delete(s.running, &cancel)
		s.mu.Unlock()
	}, nil
}

func (s *Session) currentToken() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.token
}

// renewToken gets a new token for the task's channel.
func (s *Session) renewToken(ctx context.Context) error {
	t, err := s.client.consumer.TaskReadToken(ctx, s.taskID)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.token = t.Token
	if s.channel == "" {
		s.channel = t.Channel
	}
	return nil
}

// withToken calls f with the token, and again with a new one if the first is refused.
func (s *Session) withToken(ctx context.Context, f func(token string) error) error {
	err := f(s.currentToken())
	if e, ok := errors.AsType[*link.StatusError](err); !ok || e.Status != http.StatusForbidden {
		return err
	}
	if err := s.renewToken(ctx); err != nil {
		return err
	}
	return f(s.currentToken())
}

// Event is one event of a task, with its time in the network.
type Event struct {
	wire.Event
	Timetoken string
}

// Events yields the task's events from its start, first the stored ones, then live ones, in order and without duplicates.
// It ends after the first terminal event, or after an error: ctx ended, the session was closed, or the network refuses to
// show the task. Each call starts again from the first event.
func (s *Session) Events(ctx context.Context) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		ctx, done, err := s.enter(ctx)
		if err != nil {
			yield(Event{}, fmt.Errorf("follow task %s: %w", s.taskID, err))
			return
		}
		defer done()
		ended, err := s.follow(ctx, func(e Event) bool { return yield(e, nil) && e.Type != wire.EventTerminal })
		if err != nil && !ended {
			yield(Event{}, fmt.Errorf("follow task %s: %w", s.taskID, err))
		}
	}
}

// follow passes events to take until take returns false; then ended is true.
func (s *Session) follow(ctx context.Context, take func(Event) bool) (ended bool, err error) {
	// Read the time before the history: if the history is empty, a message that is published between the two calls is
	// newer than this time, so the subscription delivers it.
	cursor, err := s.link.Time(ctx)
	if err != nil {
		return false, s.cause(ctx, err)
	}
	stored, err := s.history(ctx)
	if err != nil {
		return false, s.cause(ctx, err)
	}
	for _, m := range stored {
		cursor = m.Timetoken
		if e, err := wire.DecodeEvent(m.Body); err == nil && !take(Event{e, m.Timetoken}) {
			return true, nil
		}
	}
	return s.live(ctx, cursor, take)
}

func (s *Session) history(ctx context.Context) (stored []link.Stored, err error) {
	err = s.withToken(ctx, func(token string) (err error) {
		stored, err = s.link.History(ctx, s.channel, token, "")
		return err
	})
	return stored, err
}

// live subscribes from cursor, in this goroutine.
func (s *Session) live(ctx context.Context, cursor string, take func(Event) bool) (ended bool, err error) {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	denials := 0
	err = s.link.Subscribe(ctx, link.SubscribeConfig{
		Channels: []string{s.channel}, Cursor: cursor, Token: s.currentToken,
		OnState: func(state link.State, _ error) {
			if state == link.Connected {
				denials = 0
			}
		},
		OnDenied: func(ctx context.Context) error {
			denials++
			if denials > maxDenials {
				stop(fmt.Errorf("the network refuses to show the task even with new tokens: check that this API key may see it"))
				return ctx.Err()
			}
			err := s.renewToken(ctx)
			var temporary interface{ Temporary() bool }
			if err != nil && !(errors.As(err, &temporary) && temporary.Temporary()) {
				stop(err) // another try would get the same answer
			}
			return err
		},
	}, func(m link.Received) {
		if ended {
			return
		}
		if e, err := wire.DecodeEvent(m.Body); err == nil && !take(Event{e, m.Timetoken}) {
			ended = true
			stop(nil)
		}
	})
	if ended {
		return true, nil
	}
	return false, s.cause(ctx, err)
}

// cause returns the cause of the end of ctx if ctx has ended, otherwise err.
func (s *Session) cause(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return err
}

// Wait waits for the terminal event and returns it.
func (s *Session) Wait(ctx context.Context) (wire.Event, error) {
	for e, err := range s.Events(ctx) {
		if err != nil {
			return wire.Event{}, err
		}
		if e.Type == wire.EventTerminal {
			return e.Event, nil
		}
	}
	return wire.Event{}, fmt.Errorf("wait for task %s: its events ended without an outcome", s.taskID)
}

var _ interface{ Temporary() bool } = (*backend.Error)(nil)
