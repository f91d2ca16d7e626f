package link

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/blocksd/blocksd/internal/retry"
)

// SubscribeConfig says what to subscribe to and who is notified.
type SubscribeConfig struct {
	Channels []string
	// Filter is an expression of the network; empty for none.
	Filter string
	// Heartbeat is the presence timeout that the polls announce; 0 for none.
	Heartbeat time.Duration
	// Cursor is the timetoken after which messages are wanted; empty for from now on.
	Cursor string
	// Token of each request; nil for the link's.
	Token func() string
	// UserID subscribes; empty for the link's.
	UserID string
	// OnAnswer is called when all messages of an answer to a poll have been handed over, before the next request, with
	// the network's time of the last one of the channels. It must not block.
	OnAnswer func(timetoken string)
	// Ahead asks for the next messages as soon as an answer begins, while it is received and handed over: the network keeps
	// only so many for who does not ask. One answer more is held in memory.
	Ahead bool
	// Remember is how many messages are remembered to drop duplicates; 0 for 4,096.
	Remember int
	// Replays says that the cursor is meant to be older than what the network keeps: missing messages are no surprise.
	Replays bool
	// Held lets others give up a poll that waits for messages; nil for nobody. It has no effect with Ahead.
	Held *HeldPoll
	// OnState is called at each change of state, and in the states Lost and Denied at each further failure. It is called
	// from the loop, before the next request, and must not block for long: the next request waits for it.
	OnState func(State, error)
	// OnDenied gets a new token after a refusal. On nil the loop goes on from its cursor, on an error it calls again
	// later. A nil OnDenied means that the loop only waits and tries again.
	OnDenied func(ctx context.Context) error
}

// Subscribe receives messages until ctx ends or the link closes, and hands them to handle one at a time, in the order
// of the network and without duplicates. There is never more than one request under way; while handle works none is, but see
// SubscribeConfig.Ahead. It survives every failure and returns only ctx.Err() or ErrClosed, or an error for a config that makes no sense.
func (l *Link) Subscribe(ctx context.Context, c SubscribeConfig, handle func(Received)) error {
	if len(c.Channels) == 0 {
		return errors.New("subscribe: no channels given")
	}
	names := make([]string, len(c.Channels))
	for i, name := range c.Channels {
		names[i] = url.PathEscape(name) // also of commas, which separate names
	}
	var cursor uint64
	if c.Cursor != "" && c.Cursor != "0" {
		var err error
		if cursor, err = strconv.ParseUint(c.Cursor, 10, 63); err != nil {
			return fmt.Errorf("subscribe to %s: %q is not a timetoken", strings.Join(c.Channels, ", "), c.Cursor)
		}
	}
	if c.Token == nil {
		c.Token = l.currentToken
	}
	parent := ctx
	ctx, done, err := l.enter(ctx)
	if err != nil {
		return err
	}
	defer done()

	s := subscription{link: l, c: c, channels: strings.Join(names, ","), handle: handle, quiet: true}
	defer s.drop()
	m := newPollMachine(cursor, c.OnDenied != nil, l.cfg.Timeouts, l.cfg.Jitter)
	if c.Remember > 0 {
		m.seen.limit = c.Remember
	}
	for event := pollEvent(started{}); ; {
		for _, a := range m.Step(event, l.cfg.Now()) {
			if event = s.act(ctx, a); event == nil && ctx.Err() != nil {
				break
			}
		}
		if ctx.Err() != nil {
			if err := parent.Err(); err != nil {
				return err
			}
			return ErrClosed
		}
	}
}

// subscription does what the machine decides.
type subscription struct {
	link     *Link
	c        SubscribeConfig
	channels string // escaped
	handle   func(Received)
	// quiet is true until a poll brings a message, and again after one that brought none: then the next may wait for minutes,
	// and needs no connection of its own.
	quiet bool
	// polled is the cursor of an answer to a poll that OnAnswer has not been told of, 0 for none.
	polled uint64
	// ahead is a poll that was sent before the machine asked for it; nil for none.
	ahead *fetch
}

// act does one thing and returns what came of it, nil for actions that have no outcome.
func (s *subscription) act(ctx context.Context, a pollAction) pollEvent {
	switch a.(type) {
	case request, wait, renew:
		if s.polled != 0 && s.c.OnAnswer != nil {
			s.c.OnAnswer(formatTimetoken(s.polled))
		}
		s.polled = 0
	}
	switch a := a.(type) {
	case request:
		return s.send(ctx, a)
	case wait:
		_ = retry.Pause(ctx, a.d)
		return waited{}
	case renew:
		err := s.c.OnDenied(ctx)
		if err != nil && ctx.Err() == nil {
			s.link.log.Warn("could not renew the token of a subscription", "channel", s.c.Channels, "err", err)
		}
		return renewed{err}
	case deliver:
		s.handle(a.m)
	case suspect:
		if s.c.Replays {
			break
		}
		s.link.log.Warn("after a break as many messages came as the network keeps: older ones may be lost", "channel", s.c.Channels)
	case announce:
		level, attrs := slog.LevelDebug, []any{"channel", s.c.Channels}
		if a.err != nil {
			attrs = append(attrs, "err", a.err)
			if !a.again {
				level = slog.LevelWarn
			}
		}
		s.link.log.Log(ctx, level, "subscription "+a.state.String(), attrs...)
		if s.c.OnState != nil {
			s.c.OnState(a.state, a.err)
		}
	}
	return nil
}
