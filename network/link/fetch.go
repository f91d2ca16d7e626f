package link

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptrace"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/blocksd/blocksd/internal/retry"
	"github.com/blocksd/blocksd/network/link/carrier"
)

// send makes one handshake or poll.
func (s *subscription) send(ctx context.Context, r request) pollEvent {
	if !s.c.Ahead {
		return s.outcome(r, s.wait(ctx, r))
	}
	f := s.ahead
	if f == nil || f.request != r {
		s.drop()
		f = s.fetch(ctx, r)
	}
	s.ahead = nil
	select {
	case <-f.begun:
		s.ahead = s.fetch(ctx, f.next)
	case <-f.done:
	}
	<-f.done
	return s.outcome(r, f.result)
}

// wait is ask for who is not in a hurry: a poll can be given up.
func (s *subscription) wait(ctx context.Context, r request) *exchange {
	if s.c.Held == nil || r.cursor == 0 { // a handshake is answered soon, or never
		return s.ask(ctx, r, nil)
	}
	polling, release := s.c.Held.hold(ctx)
	defer release()
	e := s.ask(polling, r, nil)
	if e.err != nil && ctx.Err() == nil && polling.Err() != nil {
		e.err = context.Cause(polling)
	}
	return e
}

// fetch is a handshake or poll on its way. Its answer is read to the end and not looked into, but for the cursor with which
// it begins.
type fetch struct {
	request request
	cancel  context.CancelFunc
	// begun is closed when next is known: the poll that follows this one. done is closed when there is a result.
	begun, done chan struct{}
	next        request
	result      *exchange
}

func (s *subscription) fetch(ctx context.Context, r request) *fetch {
	ctx, cancel := context.WithCancel(ctx)
	f := &fetch{request: r, cancel: cancel, begun: make(chan struct{}), done: make(chan struct{})}
	begun := func(next request) {
		if r.cursor != 0 && next.cursor > r.cursor {
			f.next = next
			close(f.begun)
		}
	}
	go func() { // ends with its answer or drop, which waits for it
		defer close(f.done)
		defer cancel()
		f.result = s.ask(ctx, r, begun)
	}()
	return f
}

// drop ends what was asked for ahead, and waits for it.
func (s *subscription) drop() {
	if s.ahead != nil {
		s.ahead.cancel()
		<-s.ahead.done
		s.ahead = nil
	}
}

// outcome is what came of a request.
func (s *subscription) outcome(r request, e *exchange) pollEvent {
	l := s.link
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
		s.quiet = len(answer.entries) == 0
	}
	return answered{answer}
}

// ask sends a handshake or poll and reads its answer. begun, unless it is nil, is called once the answer says which poll
// follows this one.
func (s *subscription) ask(ctx context.Context, r request, begun func(next request)) *exchange {
	l := s.link
	timeout := l.cfg.Timeouts.Request
	if r.cursor != 0 {
		timeout = l.cfg.Timeouts.Poll
	}
	target := s.target(r)
	if begun == nil && s.quiet && l.patient != nil { // one that asks ahead is busy
		return s.askTransport(ctx, timeout, target, l.patient, nil)
	}
	if l.carrier != nil && begun == nil {
		// A poll may wait for minutes, but an answer that has begun comes at once or never: without a bound the agent would be
		// deaf for the rest of those minutes.
		e := l.carry(ctx, timeout, carrier.Request{Method: http.MethodGet, Target: target, Stall: l.cfg.Timeouts.Answer, MaxAnswer: maxPoll, Wrote: l.pollWritten})
		if e.status != 0 {
			l.polled.Store(0)
		}
		if e.status/100 != 3 { // the carrier follows no redirect
			return e
		}
	}
	return s.askTransport(ctx, timeout, target, l.direct, begun)
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

// askTransport is ask through a client of net/http.
func (s *subscription) askTransport(ctx context.Context, timeout time.Duration, target []byte, client *http.Client, begun func(next request)) *exchange {
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
	resp, err := client.Do(req)
	if err != nil {
		e.err = redact(err)
		return e
	}
	l.polled.Store(0)
	defer resp.Body.Close()
	resp.Body = &progress{resp.Body, stalled, l.cfg.Timeouts.Answer}
	e.status, e.header = resp.StatusCode, resp.Header
	if begun != nil && e.status == http.StatusOK {
		resp.Body = &beginning{ReadCloser: resp.Body, found: begun}
	}
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

// beginning looks for the cursor at the beginning of the answer to a poll that brings messages.
type beginning struct {
	io.ReadCloser
	found func(next request)
	once  sync.Once
	seen  []byte
}

// beginningBytes is where the cursor and the first message are, if they are where the network puts them.
const beginningBytes = 128

func (b *beginning) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if len(b.seen) < beginningBytes {
		b.seen = append(b.seen, p[:min(n, beginningBytes-len(b.seen))]...)
		if next, ok := nextPoll(b.seen); ok {
			b.once.Do(func() { b.found(next) })
		}
	}
	return n, err
}

// nextPoll returns the poll that follows an answer which begins so. It is cautious: what is in any other form than that of
// the network, or brings no messages, is left to those who read the whole answer.
func nextPoll(b []byte) (next request, ok bool) {
	rest, found := bytes.CutPrefix(b, []byte(`{"t":{"t":"`))
	if !found {
		return request{}, false
	}
	cursor, rest, found := bytes.Cut(rest, []byte(`","r":`))
	if !found {
		return request{}, false
	}
	region, rest, found := bytes.Cut(rest, []byte(`},"m":[`))
	if !found || len(rest) == 0 || rest[0] != '{' {
		return request{}, false
	}
	tt, err := strconv.ParseUint(string(cursor), 10, 63)
	tr, err2 := strconv.ParseInt(string(region), 10, 64)
	return request{tt, tr}, err == nil && err2 == nil && tt > 0
}
