package carrier

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

var heads = []string{
	"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n",
	"HTTP/1.1 200 OK\r\nDate: Sat, 28 Nov 2026 14:00:00 GMT\r\ncontent-length:0\r\nX-A: b\r\n\r\n",
	"HTTP/1.1 200 \r\nConnection: keep-alive\r\nContent-Length: 3 \r\n\r\n",
	"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\n",
	"HTTP/1.1 200 OK\r\nContent-Length: -3\r\n\r\n",
	"HTTP/1.1 200 OK\r\nContent-Length: +3\r\n\r\n",
	"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n",
	"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\n",
	"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n",
	"HTTP/1.1 200 OK\r\n Content-Length: 3\r\n\r\n",
	"HTTP/1.1 200 OK\r\nA: b\r\n\tContent-Length: 3\r\n\r\n",
	"HTTP/1.1 200 OK\r\nContent-Length : 3\r\n\r\n",
	"HTTP/1.1 200 OK\nContent-Length: 3\n\n",
	"HTTP/1.1 200 OK\r\n\r\n",
	"HTTP/1.1 200\r\nContent-Length: 3\r\n\r\n",
	"HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\n",
	"HTTP/1.1 204 No Content\r\n\r\n",
	"HTTP/1.1 403 Forbidden\r\nContent-Length: 3\r\nRetry-After: 3\r\n\r\n",
	"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n",
	"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
	"SSH-2.0-OpenSSH_9.2\r\n\r\n",
	"",
}

// What is taken as usual means the same to net/http.
func FuzzParseHead(f *testing.F) {
	for _, h := range heads {
		f.Add([]byte(h))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		length, ok := parseHead(b)
		if !ok {
			return
		}
		body := bytes.NewReader(b)
		in := bufio.NewReader(body)
		resp, err := http.ReadResponse(in, nil)
		if err != nil {
			t.Fatalf("%q is taken, and is not an answer: %v", b, err)
		}
		if resp.StatusCode != 200 || resp.ContentLength != int64(length) || resp.Close || resp.TransferEncoding != nil || resp.Uncompressed || resp.Header.Get("Content-Encoding") != "" {
			t.Fatalf("%q: length %d; net/http reads %+v", b, length, resp)
		}
		if rest, _ := io.ReadAll(in); length == 0 && len(rest) != 0 || in.Buffered() != 0 {
			t.Fatalf("%q: %q is left over", b, rest)
		}
	})
}

func TestParseHead(t *testing.T) {
	for i, h := range heads {
		if _, ok := parseHead([]byte(h)); ok != (i < 3) {
			t.Errorf("%q: taken: %v", h, ok)
		}
	}
}

// Whatever comes, it is read as net/http reads it, or not at all.
func FuzzAnswer(f *testing.F) {
	for _, h := range heads {
		f.Add([]byte(h + "abc"))
	}
	f.Add([]byte("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"))
	f.Add([]byte("HTTP/1.1 200 OK\r\nX-Long: " + strings.Repeat("x", 5000) + "\r\nContent-Length: 3\r\n\r\nabc"))
	f.Add([]byte(strings.Repeat("HTTP/1.1 102 Processing\r\n\r\n", 9)))
	f.Fuzz(func(t *testing.T, b []byte) {
		const limit = 1 << 12
		c := newConn(&said{answer: bytes.NewReader(b)}, nil, Config{Origin: "x", MaxAnswer: limit})
		c.stream = c.raw
		a, err := c.exchange(Request{Method: "GET", Target: []byte("/")})
		if len(a.Body) > limit {
			t.Fatalf("%d bytes were taken", len(a.Body))
		}
		if err != nil {
			if c.usable {
				t.Fatalf("%q: the connection is used again after: %v", b, err)
			}
			return
		}
		in := bufio.NewReader(bytes.NewReader(b))
		resp, err := http.ReadResponse(in, nil)
		for err == nil && resp.StatusCode < 200 && resp.StatusCode != 101 {
			resp, err = http.ReadResponse(in, nil)
		}
		if err != nil {
			t.Fatalf("%q: answer %+v; net/http: %v", b, a, err)
		}
		want, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode != a.Status || !bytes.Equal(want, a.Body) {
			t.Fatalf("%q: answer %+v; net/http reads %d %q, %v", b, a, resp.StatusCode, want, err)
		}
		if c.usable && resp.Close {
			t.Fatalf("%q: the connection is used again", b)
		}
	})
}

// said is a connection whose peer says something and is gone.
type said struct{ answer *bytes.Reader }

func (s *said) Read(b []byte) (int, error)       { return s.answer.Read(b) }
func (*said) Write(b []byte) (int, error)        { return len(b), nil }
func (*said) Close() error                       { return nil }
func (*said) LocalAddr() net.Addr                { return nil }
func (*said) RemoteAddr() net.Addr               { return nil }
func (*said) SetDeadline(time.Time) error        { return nil }
func (*said) SetReadDeadline(t time.Time) error  { return nil }
func (*said) SetWriteDeadline(t time.Time) error { return nil }
