package carrier

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	// readBuffer holds the answers to nearly all requests.
	readBuffer = 2 << 10
	// keptBuffer is the largest buffer for requests that a connection keeps.
	keptBuffer = 8 << 10
	// maxHead bounds the head of an answer, in bytes.
	maxHead = 64 << 10
	// maxTrusted is the largest length for which room is made before there is anything.
	maxTrusted = 64 << 10
	// fresh is how lately a connection was used that is not looked at before it is used again: nobody closes it so soon, and
	// under load the look would take as long as a third of the write.
	fresh = 50 * time.Millisecond
	// maxInterim is how many answers of status 1xx may come before the one that counts.
	maxInterim = 5
)

// conn is one connection. One goroutine uses it at a time.
type conn struct {
	raw     net.Conn
	stream  net.Conn // raw, or TLS over it
	origin  string
	limit   int64 // of an answer
	in      bufio.Reader
	max     int64         // of the answer that is read
	left    int64         // how much more of it may be read
	stall   time.Duration // how long it may stand still once it has begun, 0 for any time
	stalled time.Time     // when it has stood still for so long; zero before it has begun

	deadline    time.Time // of the request
	used        time.Time // when the last answer was read; zero before the first one
	interrupted atomic.Bool
	out         []byte // where requests are put together
	peek        rawPeek
	usable      bool      // for a further request
	since       time.Time // idle since then; the carrier's lock guards it
	at          int       // the place among the busy ones; the carrier's lock guards it
	peeking     syscall.RawConn
}

func newConn(raw, stream net.Conn, cfg Config) *conn {
	c := &conn{raw: raw, stream: stream, origin: cfg.Origin, limit: cfg.MaxAnswer, usable: true}
	c.in = *bufio.NewReaderSize(limited{c}, readBuffer)
	if s, ok := raw.(syscall.Conn); ok {
		c.peeking, _ = s.SyscallConn() // without it dead connections are found later
	}
	return c
}

// limited reads from a connection as much as may be read for one answer.
type limited struct{ c *conn }

var errTooLarge = errors.New("the answer is too large")

func (l limited) Read(p []byte) (int, error) {
	if l.c.left <= 0 {
		return 0, errTooLarge
	}
	n, err := l.c.stream.Read(p[:min(int64(len(p)), l.c.left)])
	l.c.left -= int64(n)
	switch {
	case l.c.stall == 0:
	case err == nil:
		if l.c.stalled = time.Now().Add(l.c.stall); l.c.stalled.After(l.c.deadline) {
			l.c.stalled = l.c.deadline
		}
		err = l.c.stream.SetReadDeadline(l.c.stalled)
		if l.c.interrupted.Load() { // meanwhile: that deadline holds
			l.c.interrupt()
		}
	case !l.c.stalled.IsZero() && errors.Is(err, os.ErrDeadlineExceeded):
		err = errStalled
	}
	return n, err
}

var errStalled = errors.New("the answer stood still for too long")

// begin prepares a connection for a request. It reports false if the peer has closed it, or has said something unasked.
func (c *conn) begin(deadline time.Time) bool {
	c.deadline = deadline
	c.usable = c.in.Buffered() == 0 && c.stream.SetDeadline(deadline) == nil && (time.Since(c.used) < fresh || c.peek.silent(c.peeking))
	return c.usable
}

// interrupt ends the request that uses the connection. It may be called from another goroutine.
func (c *conn) interrupt() {
	c.interrupted.Store(true)
	_ = c.raw.SetDeadline(time.Unix(1, 0))
}

// cut ends the connection while it is in use. It may be called from another goroutine.
func (c *conn) cut() { _ = c.raw.Close() }

func (c *conn) close() {
	// Nothing is under way, so there is nothing that TLS would have to say farewell to.
	_ = c.raw.Close()
}

// exchange sends a request and reads its answer.
func (c *conn) exchange(r Request) (Answer, error) {
	c.usable = false // until all is well
	b := append(c.out[:0], r.Method...)
	b = append(append(b, ' '), r.Target...)
	b = append(append(b, " HTTP/1.1\r\nHost: "...), c.origin...)
	b = append(b, "\r\nUser-Agent: Go-http-client/1.1\r\n"...)
	if r.Body != nil {
		b = append(b, "Content-Type: application/json\r\nContent-Length: "...)
		b = append(strconv.AppendInt(b, int64(len(r.Body)), 10), "\r\n"...)
	}
	b = append(append(b, "\r\n"...), r.Body...)
	if c.out = b; cap(b) > keptBuffer {
		c.out = nil
	}
	if r.Wrote != nil {
		r.Wrote()
	}
	if _, err := c.stream.Write(b); err != nil {
		return Answer{}, err
	}
	c.max, c.stall, c.stalled = c.limit, r.Stall, time.Time{}
	if r.MaxAnswer > 0 {
		c.max = r.MaxAnswer
	}
	c.left = maxHead + c.max
	for range maxInterim + 1 {
		a, err := c.read()
		if err != nil || a.Status >= http.StatusOK || a.Status == http.StatusSwitchingProtocols {
			c.used = time.Now()
			return a, err
		}
	}
	return Answer{}, errors.New("the answer does not come to its point")
}

// read reads one answer.
func (c *conn) read() (Answer, error) {
	if head, length, ok, err := c.head(); err != nil {
		return Answer{}, err
	} else if ok && int64(length) <= min(c.max, maxTrusted) {
		_, _ = c.in.Discard(head) // it is in the buffer
		body := make([]byte, length)
		if _, err := io.ReadFull(&c.in, body); err != nil {
			return Answer{}, fmt.Errorf("the answer was cut short: %w", err)
		}
		c.usable = c.in.Buffered() == 0
		return Answer{Status: http.StatusOK, Body: body}, nil
	}
	resp, err := http.ReadResponse(&c.in, nil)
	if err != nil {
		return Answer{}, err
	}
	if resp.StatusCode < http.StatusOK {
		return Answer{Status: resp.StatusCode}, nil
	}
	var body bytes.Buffer
	if _, err := body.ReadFrom(io.LimitReader(resp.Body, c.max+1)); err != nil {
		return Answer{}, fmt.Errorf("the answer was cut short: %w", err)
	}
	if int64(body.Len()) > c.max {
		return Answer{}, fmt.Errorf("the answer is larger than %d bytes", c.max)
	}
	c.usable = !resp.Close && resp.StatusCode != http.StatusSwitchingProtocols && c.in.Buffered() == 0
	return Answer{Status: resp.StatusCode, Header: resp.Header, Body: body.Bytes()}, nil
}

// head waits for the head of an answer and looks at it without taking it. ok is false for one that is not usual, or does not
// fit into the buffer.
func (c *conn) head() (size, length int, ok bool, err error) {
	for n := 1; ; n = c.in.Buffered() + 1 {
		if _, err := c.in.Peek(n); err != nil {
			if errors.Is(err, bufio.ErrBufferFull) {
				return 0, 0, false, nil
			}
			return 0, 0, false, err
		}
		b, _ := c.in.Peek(c.in.Buffered())
		if end := bytes.Index(b, []byte("\r\n\r\n")); end >= 0 {
			length, ok := parseHead(b[:end+4])
			return end + 4, length, ok, nil
		}
	}
}
