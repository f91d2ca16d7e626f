package link

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/blocksd/blocksd/internal/retry"
	"github.com/blocksd/blocksd/network/link/carrier"
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
	// Remember is how many messages are remembered to drop duplicates; 0 for 4,096.
	Remember int
	// Replays says that the cursor is meant to be older than what the network keeps: missing messages are no surprise.
	Replays bool
	// OnState is called at each change of state, and in the states Lost and Denied at each further failure. It is called
	// from the loop, before the next request, and must not block for long: the next request waits for it.
	OnState func(State, error)
	// OnDenied gets a new token after a refusal. On nil the loop goes on from its cursor, on an error it calls again
	// later. A nil OnDenied means that the loop only waits and tries again.
	OnDenied func(ctx context.Context) error
}

// Subscribe receives messages until ctx ends or the link closes, and hands them to handle one at a time, in the order
// of the network and without duplicates. There is never more than one request under way; while handle works none is. It
// survives every failure and returns only ctx.Err() or ErrClosed, or an error for a config that makes no sense.
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

	s := subscription{link: l, c: c, channels: strings.Join(names, ","), handle: handle}
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
	// polled is the cursor of an answer to a poll that OnAnswer has not been told of, 0 for none.
	polled uint64
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

// send makes one handshake or poll.
func (s *subscription) send(ctx context.Context, r request) pollEvent {
	l := s.link
	timeout := l.cfg.Timeouts.Request
	if r.cursor != 0 {
		timeout = l.cfg.Timeouts.Poll
	}
	target := s.target(r)
	var e *exchange
	if l.carrier != nil {
		// A poll may wait for minutes, but an answer that has begun comes at once or never: without a bound the agent would be
		// deaf for the rest of those minutes.
		e = l.carry(ctx, timeout, carrier.Request{Method: http.MethodGet, Target: target, Stall: l.cfg.Timeouts.Answer, MaxAnswer: maxPoll, Wrote: l.pollWritten})
	}
	if e == nil || e.status/100 == 3 { // the carrier follows no redirect
		e = s.fetch(ctx, timeout, target)
	}
	if e.status != 0 {
		l.polled.Store(0)
	}
	switch {
	case e.err != nil:
		return failed{e.err}
	case e.status != http.StatusOK:
		return refused{&StatusError{Op: "subscribe", Channel: strings.Join(s.c.Channels, ","), Status: e.status, Body: e.answer}, retry.After(e.header, maxRetryAfter)}
	}
	answer, err := decodePoll(e.answer)
	if err != nil {
		return failed{err}
	}
	if answer.malformed != nil {
		l.log.Warn("skipped messages that cannot be read", "channel", s.c.Channels, "count", answer.skipped, "err", answer.malformed)
	}
	for _, m := range answer.entries {
		if v, ok := parseTimetoken([]byte(m.Timetoken)); ok {
			l.newest.see(v)
		}
	}
	if r.cursor != 0 {
		s.polled = answer.cursor
	}
	return answered{answer}
}

func (l *Link) pollWritten() { l.polled.Store(l.cfg.Now().UnixNano()) }

// target is the path of a handshake or poll, with the query.
func (s *subscription) target(r request) []byte {
	u := append(make([]byte, 0, 1<<10), "/v2/subscribe/"...)
	u = appendEscaped(u, s.link.cfg.Keys.SubscribeKey)
	u = append(append(append(u, '/'), s.channels...), "/0?tt="...)
	u = strconv.AppendUint(u, r.cursor, 10)
	if r.region != 0 {
		u = strconv.AppendInt(append(u, "&tr="...), r.region, 10)
	}
	if s.c.Filter != "" {
		u = appendEscaped(append(u, "&filter-expr="...), s.c.Filter)
	}
	if s.c.Heartbeat > 0 {
		u = strconv.AppendInt(append(u, "&heartbeat="...), int64(s.c.Heartbeat.Seconds()), 10)
	}
	u = s.link.appendSuffix(u, s.c.UserID)
	if token := s.c.Token(); token != "" {
		u = appendEscaped(append(u, "&auth="...), token)
	}
	return u
}

// fetch sends a handshake or poll through the transport.
func (s *subscription) fetch(ctx context.Context, timeout time.Duration, target []byte) *exchange {
	l, e := s.link, &exchange{}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	ctx, stalled := newWatch(ctx, timeout+l.cfg.Timeouts.Answer) // behind the deadline, until an answer has begun
	defer stalled.end()
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		WroteHeaders:         l.pollWritten,
		GotFirstResponseByte: func() { stalled.timer.Reset(l.cfg.Timeouts.Answer) },
	})
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, l.root()+string(target), nil)
	if err != nil {
		e.err = redact(err)
		return e
	}
	resp, err := l.direct.Do(req)
	if err != nil {
		e.err = redact(err)
		return e
	}
	defer resp.Body.Close()
	resp.Body = &progress{resp.Body, stalled, l.cfg.Timeouts.Answer}
	e.status, e.header = resp.StatusCode, resp.Header
	e.answer, e.err = readBounded(resp, maxPoll)
	switch {
	case e.err == nil:
	case e.status != http.StatusOK: // the status says enough
		e.err = nil
	case errors.Is(context.Cause(ctx), errStalled):
		e.err = errStalled
	}
	return e
}
