package client

import (
	"context"
	"errors"
	"time"

	"github.com/blocksd/blocksd/internal/retry"
	"github.com/blocksd/blocksd/network/link"
)

const (
	// maxRenewals is how many new tokens in a row may be refused before the session gives up.
	maxRenewals = 3
	// maxFailures is how often in a row a poll may get an answer that no later one should differ from, such as 404.
	maxFailures = 8
	// rememberedMessages are remembered by the subscription to drop duplicates; the session knows all of them itself.
	rememberedMessages = 16
	// snapshotTimeout bounds the read of history for a snapshot, whose caller gives no context.
	snapshotTimeout = 15 * time.Second
	// replayCursor is a timetoken from which on the network delivers whatever it still keeps for subscribers.
	replayCursor = "1000"
)

// historyBackoff is the pause between reads of history that failed for the moment, each of several attempts.
var historyBackoff = retry.Backoff{First: 500 * time.Millisecond, Max: 15 * time.Second}

var errRefused = errors.New("the network refuses to show the task even with new tokens: check that this credential may see it")

// feed reads the events of a session's task for everybody who follows it: history first, then live.
type feed struct {
	cancel context.CancelCauseFunc
	done   chan struct{}
}

// startLocked makes sure that somebody reads events, unless all are known. A feed that failed is tried again.
func (s *Session) startLocked() {
	if s.feed != nil || s.closed || s.log.ended {
		return
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	f := &feed{cancel: cancel, done: make(chan struct{})}
	s.feed, s.failure = f, nil
	go func() { // ends with the task, a final refusal, or Close, which waits for it
		defer close(f.done)
		err := s.read(ctx)
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		cancel(nil)
		s.mu.Lock()
		defer s.mu.Unlock()
		s.feed = nil
		if !s.log.ended {
			s.failure = translate(err)
		}
		s.changedLocked()
	}()
}

// read reads events to the end of the task.
func (s *Session) read(ctx context.Context) error {
	cursor, err := s.catchUp(ctx)
	if err != nil || s.hasEnded() {
		return err
	}
	if s.known != "" {
		// History does not hold the end, perhaps because it was kept only for a time, but the network says that there is one.
		s.take(endOf(s.taskID, s.known))
		return nil
	}
	return s.live(ctx, cursor)
}

func (s *Session) hasEnded() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.log.ended
}

func (s *Session) cursor() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.log.cursor
}

// readHistory takes the stored events that are newer than the last one known.
func (s *Session) readHistory(ctx context.Context) error {
	var stored []link.Stored
	err := s.withToken(ctx, func(token string) (err error) {
		stored, err = s.link.History(ctx, s.channel, token, s.cursor())
		return err
	})
	if err != nil {
		return err
	}
	events := make([]Event, len(stored))
	for i, m := range stored {
		events[i] = eventOf(m.Body, m.Timetoken)
	}
	s.take(events...)
	return nil
}

// catchUp reads history until that succeeds, and returns the timetoken after which live events are wanted. Where history
// is refused for good, live events are all there is.
func (s *Session) catchUp(ctx context.Context) (cursor string, err error) {
	for n := 1; ; n++ {
		if cursor, err = s.tryCatchUp(ctx); err == nil {
			return cursor, nil
		}
		if ctx.Err() != nil {
			return "", err
		}
		if !temporary(err) {
			if _, refused := errors.AsType[*link.StatusError](err); !refused {
				return "", err // no token, so no live events either
			}
			s.client.log.Warn("the history of a task is refused, so only recent events are seen", "task", s.taskID, "err", err)
			return replayCursor, nil
		}
		s.client.log.Warn("could not read the history of a task, trying again", "task", s.taskID, "err", err)
		if err := retry.Pause(ctx, historyBackoff.Delay(n)); err != nil {
			return "", err
		}
	}
}

func (s *Session) tryCatchUp(ctx context.Context) (cursor string, err error) {
	if err := s.readHistory(ctx); err != nil {
		return "", err
	}
	if cursor := s.cursor(); cursor != "" {
		return cursor, nil
	}
	// History is empty. What is published between the two following calls is newer than this time, so the subscription
	// delivers it.
	now, err := s.link.Time(ctx)
	if err != nil {
		return "", err
	}
	if err := s.readHistory(ctx); err != nil {
		return "", err
	}
	if cursor := s.cursor(); cursor != "" {
		return cursor, nil
	}
	return now, nil
}

// live subscribes from cursor, in this goroutine, until the task ends.
func (s *Session) live(ctx context.Context, cursor string) error {
	s.mu.Lock()
	s.ran = true
	s.mu.Unlock()
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	renewals, failures, lost := 0, 0, false // in a row
	err := s.link.Subscribe(ctx, link.SubscribeConfig{
		Channels: []string{s.channel}, Cursor: cursor, Token: s.currentToken,
		UserID:   newUserID(), // a user's poll is answered at once when the same user polls the same channel again
		Remember: rememberedMessages, Replays: cursor == replayCursor,
		OnAnswer: func(string) { failures = 0 },
		OnState: func(state link.State, err error) {
			switch state {
			case link.Lost:
				lost = true
				if !temporary(err) {
					if failures++; failures == maxFailures {
						stop(err)
					}
				}
			case link.Connected:
				renewals = 0
				if !lost {
					return
				}
				// The network keeps only some messages for subscribers, and not for long. History has them all, so it is
				// read before the subscription goes on.
				lost = false
				if _, err := s.catchUp(ctx); err != nil {
					stop(err)
				} else if s.hasEnded() {
					stop(nil)
				}
			}
		},
		OnDenied: func(ctx context.Context) error {
			if renewals == maxRenewals {
				stop(errRefused)
				return ctx.Err()
			}
			err := s.renewToken(ctx)
			switch {
			case err == nil:
				renewals++
			case !temporary(err):
				stop(err) // another try would get the same answer
			}
			return err
		},
	}, func(m link.Received) {
		s.take(eventOf(m.Body, m.Timetoken))
		if s.hasEnded() {
			stop(nil)
		}
	})
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return err
}
