package pluginsdk

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"strings"
	"sync"
	"unicode/utf8"

	"google.golang.org/grpc"

	handlerv1 "github.com/blocksd/blocksd/proto/blocks/handler/v1"
)

// inbox is the reading side of a stream. One call brings everything; whoever reads next goes on where the last one stopped.
type inbox struct {
	mu    sync.Mutex // guards what follows; held while a reader waits
	call  grpc.ServerStreamingClient[handlerv1.ReadStreamResponse]
	items []*handlerv1.StreamItem
	rest  []byte // of an item that Read has read in part
	err   error  // io.EOF at the end
	// stop ends a reader that waits.
	stop struct {
		sync.Mutex
		cancel context.CancelFunc
		done   bool
	}
}

// StreamFailed is how an inbound stream ends that did not end by itself.
type StreamFailed struct {
	// Reason is "revoked" when the consumer or the network took it away, else "failed".
	Reason string
	// Detail is one sentence, which may be empty.
	Detail string
}

func (e *StreamFailed) Error() string {
	if e.Detail == "" {
		return "the stream was " + map[string]string{"revoked": "taken away"}[e.Reason] + map[string]string{"failed": "broken off"}[e.Reason]
	}
	return e.Detail
}

func (in *inbox) close() {
	in.stop.Lock()
	defer in.stop.Unlock()
	if in.stop.done = true; in.stop.cancel != nil {
		in.stop.cancel()
	}
}

func (in *inbox) open(s *Stream) error {
	ctx, cancel := context.WithCancel(s.auth(s.ctx))
	in.stop.Lock()
	done := in.stop.done
	in.stop.cancel = cancel
	in.stop.Unlock()
	if done {
		cancel()
		return io.EOF
	}
	var err error
	in.call, err = s.client.ReadStream(ctx, &handlerv1.ReadStreamRequest{TaskId: s.task, CalledTaskId: s.called, StreamId: s.ID})
	return err
}

// next returns the next item, or the error that ends the stream: io.EOF when it is over.
func (s *Stream) next() (*handlerv1.StreamItem, error) {
	in := &s.in
	for len(in.items) == 0 {
		if in.err != nil {
			return nil, in.err
		}
		var m *handlerv1.ReadStreamResponse
		err := s.checkRead()
		if err == nil && in.call == nil {
			err = in.open(s)
		}
		if err == nil {
			m, err = in.call.Recv()
		}
		if err != nil {
			in.err = s.ending(err)
			return nil, in.err
		}
		in.items = m.GetItems()
		if lost := m.GetGap().GetMessages(); lost > 0 && s.onGap != nil {
			s.onGap(lost)
		}
		if end := m.GetEnd(); end != nil {
			in.err = io.EOF
			if r := end.GetReason(); r == "failed" || r == "revoked" {
				in.err = fmt.Errorf("read stream %s: %w", s.ID, &StreamFailed{r, end.GetDetail()})
			}
		}
	}
	item := in.items[0]
	in.items = in.items[1:]
	return item, nil
}

func (s *Stream) checkRead() error {
	switch {
	case s.External != nil:
		return &sentence{"another process writes it, so it cannot be read here", ErrStreamClosed}
	case s.Direction == Outbound:
		return &sentence{"it is outbound: only " + s.other() + " reads it", ErrStreamClosed}
	}
	return nil
}

// other names who is at the other end.
func (s *Stream) other() string {
	if s.called != "" {
		return "the called agent"
	}
	return "the consumer"
}

// ending makes of the error of a call the one that a reader gets.
func (s *Stream) ending(err error) error {
	var wrong *sentence
	switch {
	case err == io.EOF:
		return io.EOF
	case errors.As(err, &wrong):
		return fmt.Errorf("read stream %s: %w", s.ID, err)
	case s.ctx.Err() != nil:
		return fmt.Errorf("read stream %s: %w", s.ID, context.Cause(s.ctx))
	}
	s.in.stop.Lock()
	ended := s.in.stop.done
	s.in.stop.Unlock()
	err = streamError(err)
	if ended || errors.Is(err, ErrTaskEnded) || errors.Is(err, context.Canceled) { // by End, or with the task
		return io.EOF
	}
	return fmt.Errorf("read stream %s: %w", s.ID, err)
}

// each yields what pick makes of each item. It ends without an error where the stream is over.
func each[T any](s *Stream, pick func(*handlerv1.StreamItem) (T, bool)) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		for {
			s.in.mu.Lock()
			item, err := s.next()
			s.in.mu.Unlock()
			if err == io.EOF {
				return
			}
			v, ok := *new(T), true
			if err == nil {
				v, ok = pick(item)
			}
			if ok && !yield(v, err) || err != nil {
				return
			}
		}
	}
}

// Bytes yields what the consumer writes, one piece per write. It ends where the stream is over, and with an error where the
// stream broke off or the context ended.
func (s *Stream) Bytes() iter.Seq2[[]byte, error] { return each(s, bytesOf) }

func bytesOf(i *handlerv1.StreamItem) ([]byte, bool) {
	switch v := i.GetItem().(type) {
	case *handlerv1.StreamItem_Data:
		return v.Data, true
	case *handlerv1.StreamItem_Text:
		return []byte(v.Text), true
	case *handlerv1.StreamItem_EventJson:
		return v.EventJson, true
	case *handlerv1.StreamItem_EventData:
		return v.EventData, true
	}
	return nil, false // of a newer daemon
}

// Text is Bytes as text. It never splits a character; what is no text becomes U+FFFD.
func (s *Stream) Text() iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		var cut []byte // the beginning of a character
		for b, err := range s.Bytes() {
			if err != nil {
				yield("", err)
				return
			}
			b = append(cut, b...)
			whole := wholeRunes(b)
			cut = append([]byte(nil), b[whole:]...)
			if text := valid(string(b[:whole])); whole > 0 && !yield(text, nil) {
				return
			}
		}
		if len(cut) > 0 {
			yield(valid(string(cut)), nil)
		}
	}
}

// wholeRunes is the length of b without the beginning of a character at its end.
func wholeRunes(b []byte) int {
	for back := 1; back < utf8.UTFMax && back <= len(b); back++ {
		if c := b[len(b)-back]; utf8.RuneStart(c) {
			if !utf8.FullRune(b[len(b)-back:]) {
				return len(b) - back
			}
			break
		}
	}
	return len(b)
}

func valid(s string) string { return strings.ToValidUTF8(s, "\uFFFD") }

// Events yields what the consumer writes, one JSON value at a time; bytes come as a JSON string of base64, which decodes
// into a []byte. It ends like Bytes.
func (s *Stream) Events() iter.Seq2[json.RawMessage, error] {
	return each(s, func(i *handlerv1.StreamItem) (json.RawMessage, bool) {
		switch v := i.GetItem().(type) {
		case *handlerv1.StreamItem_EventJson:
			return v.EventJson, true
		case *handlerv1.StreamItem_EventData:
			b, _ := json.Marshal(v.EventData) // bytes always encode
			return b, true
		}
		return nil, false
	})
}

// Read implements io.Reader for a stream of bytes; io.EOF where the stream is over.
func (s *Stream) Read(p []byte) (int, error) {
	in := &s.in
	in.mu.Lock()
	defer in.mu.Unlock()
	for len(in.rest) == 0 && len(p) > 0 {
		item, err := s.next()
		if err != nil {
			return 0, err
		}
		in.rest, _ = bytesOf(item)
	}
	n := copy(p, in.rest)
	in.rest = in.rest[n:]
	return n, nil
}
