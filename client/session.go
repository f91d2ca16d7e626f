package client

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"sync"
	"time"

	"github.com/blocksd/blocksd/network/link"
	"github.com/blocksd/blocksd/network/wire"
)

// Session follows one task. What it reads from the network is read once, however many follow its events. From the first
// call that needs events on, it stays subscribed until the task ends or Close is called.
type Session struct {
	client *Client
	link   *link.Link

	// Set once, before the caller gets the session.
	taskID, agent, channel, pushConfigID string
	queued, idempotent                   bool
	// returned means that the task was sent before, so that others may have written its streams.
	returned bool
	// known is the final state that the network named when the session began, empty for none.
	known State
	// role of the read token, empty for the consumer's.
	role string
	// drain is how long streams may stay open after the end of the task.
	drain time.Duration

	mu      sync.Mutex // guards the fields below
	token   string
	closed  bool
	log     eventLog
	changed chan struct{} // closed and replaced when something below or in log changes
	feed    *feed         // which reads events for everybody; nil when none is under way
	ran     bool          // the task ran when the session began, as far as is known
	told    time.Time     // when Events or Wait have first said that the task has ended
	failure error         // why the last feed has ended without a terminal event
	streams streamSet
}

func (c *Client) newSession(options []Option) *Session {
	s := &Session{client: c, drain: DefaultDrainWindow, changed: make(chan struct{})}
	for _, o := range options {
		o(s)
	}
	return s
}

// TaskID is the id of the task.
func (s *Session) TaskID() string { return s.taskID }

// Agent is the name of the task's agent.
func (s *Session) Agent() string { return s.agent }

// Queued reports that no instance was free when the task was sent.
func (s *Session) Queued() bool { return s.queued }

// Idempotent reports that the idempotency key belongs to a task that was sent before.
func (s *Session) Idempotent() bool { return s.idempotent }

// PushConfigID names the push notifications that Message.Push asked for; may be empty.
func (s *Session) PushConfigID() string { return s.pushConfigID }

// Cancel asks the task to end; the outcome arrives as an event. Like the four calls below it works on a closed session,
// too.
func (s *Session) Cancel(ctx context.Context) error { return s.client.Cancel(ctx, s.taskID) }

// Terminate ends the task for good, with the reason "terminated".
func (s *Session) Terminate(ctx context.Context) error { return s.client.Terminate(ctx, s.taskID) }

// Pause asks the agent to pause; a system event says when it has.
func (s *Session) Pause(ctx context.Context) error { return s.client.Pause(ctx, s.taskID) }

// Resume asks a paused agent to go on.
func (s *Session) Resume(ctx context.Context) error { return s.client.Resume(ctx, s.taskID) }

// Retry asks the network to run the task once more.
func (s *Session) Retry(ctx context.Context) error { return s.client.Retry(ctx, s.taskID) }

// Close ends the subscription, the streams, and the calls that wait on this session. It does not cancel the task. It may
// be called more than once.
func (s *Session) Close() {
	s.mu.Lock()
	s.closed = true
	f := s.feed
	if f != nil {
		f.cancel(ErrClosed)
	}
	s.changedLocked()
	s.mu.Unlock()
	s.closeStreams()
	if f != nil {
		<-f.done
	}
	s.client.remove(s)
}

// changedLocked tells everybody who waits to look again.
func (s *Session) changedLocked() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// Events yields the task's events from its beginning, first the stored ones, then live ones, in order and without
// duplicates. It ends after the terminal event, or with an error: ctx ended, the session was closed, or the network refuses
// to show the task. It may be called more than once and by several at a time; each call begins with the first event.
func (s *Session) Events(ctx context.Context) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		next := 0
		err := s.follow(ctx, func() bool {
			events := s.log.events[next:] // an event is never changed, so it may be used without the lock
			s.mu.Unlock()
			defer s.mu.Lock()
			for _, e := range events {
				next++
				if e.Type == EventTerminal {
					s.tell()
				}
				if !yield(e, nil) {
					return true
				}
			}
			return false
		})
		if err != nil {
			yield(Event{}, err)
		}
	}
}

// Wait waits for the end of the task. It returns at once where that is known.
func (s *Session) Wait(ctx context.Context) (Terminal, error) {
	if err := s.follow(ctx, func() bool { return s.log.ended }); err != nil {
		return Terminal{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tellLocked()
	end, _ := s.log.end()
	return end, nil
}

func (s *Session) tell() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tellLocked()
}

func (s *Session) tellLocked() {
	if s.told.IsZero() {
		s.told = time.Now()
	}
}

// follow calls look, with the lock held, now and after each change, until it returns true, the task has ended, or an error
// ends it. look may give the lock back for a while.
func (s *Session) follow(ctx context.Context, look func() bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.startLocked()
	for {
		changed := s.changed // before look, which may miss a change while it has no lock
		if look() {
			return nil
		}
		var err error
		select {
		case <-changed: // more came meanwhile
			continue
		default:
		}
		switch {
		case s.log.ended:
			return nil
		case s.closed:
			err = ErrClosed
		case s.failure != nil:
			err = s.failure
		}
		if err != nil {
			return fmt.Errorf("follow task %s: %w", s.taskID, err)
		}
		s.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			err = context.Cause(ctx)
		}
		s.mu.Lock()
		if err != nil {
			return fmt.Errorf("follow task %s: %w", s.taskID, err)
		}
	}
}

// known events so far: of the feed under way, or of one more read of history where there is none.
func (s *Session) snapshot() []Event {
	s.mu.Lock()
	following := s.feed != nil || s.log.ended
	s.mu.Unlock()
	if !following {
		ctx, cancel := context.WithTimeout(context.Background(), snapshotTimeout)
		defer cancel()
		if err := s.readHistory(ctx); err != nil {
			s.client.log.Warn("could not read a task's history", "task", s.taskID, "err", err)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.log.events
}

func (s *Session) currentToken() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.token
}

// renewToken gets a new token for the task's channel.
func (s *Session) renewToken(ctx context.Context) error {
	t, err := s.client.consumer.TaskReadToken(ctx, s.taskID, s.role)
	if err != nil {
		if s.client.consumer.IsAnonymous() && statusOf(err) == http.StatusForbidden {
			return &AnonymousDeniedError{TaskID: s.taskID, err: err}
		}
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
	if !denied(err) {
		return err
	}
	if err := s.renewToken(ctx); err != nil {
		return err
	}
	return f(s.currentToken())
}

// denied reports whether a token was refused.
func denied(err error) bool {
	e, ok := errors.AsType[*link.StatusError](err)
	return ok && e.Status == http.StatusForbidden
}

// take adds messages of the task's channel to what is known.
func (s *Session) take(messages ...Event) {
	s.mu.Lock()
	added, ended := false, s.log.ended
	for _, e := range messages {
		if e.Type == "" { // no event, but its time counts
			s.log.see(e.Timetoken)
			continue
		}
		if s.log.add(e) {
			added = true
			s.announceLocked(e)
		}
	}
	ended = !ended && s.log.ended
	if added {
		s.changedLocked()
	}
	s.mu.Unlock()
	if ended {
		s.drainStreams()
	}
}

// eventOf reads a message; one that is no event has no type.
func eventOf(body []byte, timetoken string) Event {
	e, err := wire.DecodeEvent(body)
	if err != nil {
		return Event{Timetoken: timetoken}
	}
	return Event{e, timetoken}
}
