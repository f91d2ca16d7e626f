package link

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strconv"
	"strings"
	"sync"

	"github.com/blocksd/blocksd/internal/retry"
)

// fetch is one handshake or poll on its way. Its answer is read to the end and not looked into, but for the cursor with
// which it begins.
type fetch struct {
	request request
	cancel  context.CancelFunc
	// begun is closed when next is known: the poll that follows this one. done is closed at the end of the answer.
	begun, done chan struct{}
	next        request

	// Of the answer; err says why there is none.
	status int
	header http.Header
	body   []byte
	err    error
}

// fetch sends a handshake or poll.
func (s *subscription) fetch(ctx context.Context, r request) *fetch {
	ctx, cancel := context.WithCancel(ctx)
	f := &fetch{request: r, cancel: cancel, begun: make(chan struct{}), done: make(chan struct{})}
	go func() { // ends with its answer or drop, which waits for it
		defer close(f.done)
		defer cancel()
		f.err = s.receive(ctx, f)
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

// send makes one handshake or poll.
func (s *subscription) send(ctx context.Context, r request) pollEvent {
	f := s.ahead
	if f == nil || f.request != r {
		s.drop()
		f = s.fetch(ctx, r)
	}
	s.ahead = nil
	if s.c.Ahead {
		select {
		case <-f.begun:
			s.ahead = s.fetch(ctx, f.next)
		case <-f.done:
		}
	}
	<-f.done
	return s.outcome(f)
}

// outcome is what came of a request.
func (s *subscription) outcome(f *fetch) pollEvent {
	l := s.link
	switch {
	case f.err != nil:
		return failed{f.err}
	case f.status != http.StatusOK:
		return refused{&StatusError{Op: "subscribe", Channel: strings.Join(s.c.Channels, ","), Status: f.status, Body: f.body}, retry.After(f.header, maxRetryAfter)}
	}
	answer, err := decodePoll(f.body)
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
	if f.request.cursor != 0 {
		s.polled = answer.cursor
	}
	return answered{answer}
}

// receive makes the request and reads its answer.
func (s *subscription) receive(ctx context.Context, f *fetch) error {
	l, r := s.link, f.request
	timeout := l.cfg.Timeouts.Request
	q := url.Values{"tt": {"0"}}
	if r.cursor != 0 {
		timeout = l.cfg.Timeouts.Poll
		q.Set("tt", formatTimetoken(r.cursor))
	}
	if r.region != 0 {
		q.Set("tr", strconv.FormatInt(r.region, 10))
	}
	if s.c.UserID != "" {
		q.Set("uuid", s.c.UserID)
	}
	if s.c.Filter != "" {
		q.Set("filter-expr", s.c.Filter)
	}
	if s.c.Heartbeat > 0 {
		q.Set("heartbeat", strconv.Itoa(int(s.c.Heartbeat.Seconds())))
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	// A poll may wait for minutes, but an answer that has begun comes at once or never: without this the agent would be deaf
	// for the rest of those minutes.
	ctx, stalled := newWatch(ctx, timeout+l.cfg.Timeouts.Answer) // behind the deadline, until an answer has begun
	defer stalled.end()
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		WroteHeaders:         func() { l.polled.Store(l.cfg.Now().UnixNano()) },
		GotFirstResponseByte: func() { stalled.timer.Reset(l.cfg.Timeouts.Answer) },
	})
	req, err := l.newRequest(ctx, "/v2/subscribe/"+url.PathEscape(l.cfg.Keys.SubscribeKey)+"/"+s.channels+"/0", q, s.c.Token())
	if err != nil {
		return err
	}
	resp, err := l.direct.Do(req)
	if err != nil {
		return redact(err)
	}
	l.polled.Store(0)
	defer resp.Body.Close()
	resp.Body = &progress{resp.Body, stalled, l.cfg.Timeouts.Answer}
	f.status, f.header = resp.StatusCode, resp.Header
	if resp.StatusCode != http.StatusOK {
		f.body, _ = readBounded(resp, maxAnswer)
		return nil
	}
	if s.c.Ahead && r.cursor != 0 {
		resp.Body = &beginning{ReadCloser: resp.Body, found: func(next request) {
			if next.cursor > r.cursor {
				f.next = next
				close(f.begun)
			}
		}}
	}
	f.body, err = readBounded(resp, maxPoll)
	if err != nil && errors.Is(context.Cause(ctx), errStalled) {
		err = errStalled
	}
	return err
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
