package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
)

// streamSet are the streams that have been announced, in that order. The session's lock guards it.
type streamSet struct {
	refs []*StreamRef
	byID map[string]*StreamRef
}

// announceLocked notes the streams that an event announces. Only the first announcement of a stream counts.
func (s *Session) announceLocked(e Event) {
	if e.Type != EventProgress || e.StreamEvent != streamStarted {
		return
	}
	found, problems := decodeAnnouncements(e.Raw)
	for _, err := range problems {
		s.client.log.Warn("ignored a stream", "task", s.taskID, "err", err)
	}
	for _, a := range found {
		if s.streams.byID[a.id] != nil {
			continue
		}
		if s.streams.byID == nil {
			s.streams.byID = make(map[string]*StreamRef)
		}
		ref := &StreamRef{session: s, a: a}
		s.streams.byID[a.id] = ref
		s.streams.refs = append(s.streams.refs, ref)
	}
}

// Streams returns the streams that have been announced so far, in that order: those seen by Events or Wait, or, where
// nobody follows the task, by reading its history now.
func (s *Session) Streams() []*StreamRef {
	s.snapshot()
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]*StreamRef(nil), s.streams.refs...)
}

// WaitStream waits for a stream by the name that the agent's card gives it, or by its id. An empty name is the only one
// there is, or the first to come.
func (s *Session) WaitStream(ctx context.Context, name string) (*StreamRef, error) {
	var found *StreamRef
	several := false
	err := s.follow(ctx, func() bool {
		found, several = s.streams.find(name)
		return found != nil || several
	})
	switch {
	case several:
		return nil, fmt.Errorf("wait for a stream of task %s: there are several: give the name of one", s.taskID)
	case err != nil:
		return nil, fmt.Errorf("wait for stream %q: %w", name, err)
	case found == nil:
		return nil, fmt.Errorf("wait for stream %q of task %s: the task has ended without it", name, s.taskID)
	}
	return found, nil
}

func (l *streamSet) find(name string) (found *StreamRef, several bool) {
	if name == "" {
		if len(l.refs) == 1 {
			return l.refs[0], false
		}
		return nil, len(l.refs) > 1
	}
	for _, r := range l.refs {
		if r.a.declared == name {
			return r, false
		}
	}
	return l.byID[name], false
}

// drainStreams begins the drain window. It is called once, when the terminal event has come.
func (s *Session) drainStreams() {}

// closeStreams ends every open stream. It may be called more than once.
func (s *Session) closeStreams() {}

// StreamRef is a stream that has been announced and may be opened.
type StreamRef struct {
	session *Session
	a       announcement
}

// ID names the stream in the network.
func (r *StreamRef) ID() string { return r.a.id }

// Name is that of the stream in the agent's card, else its id.
func (r *StreamRef) Name() string { return firstNonEmpty(r.a.declared, r.a.id) }

// Format says what the stream carries.
func (r *StreamRef) Format() StreamFormat { return r.a.format }

// Direction says who writes the stream.
func (r *StreamRef) Direction() StreamDirection { return r.a.direction }

// Shared reports whether the stream belongs to all tasks of the agent.
func (r *StreamRef) Shared() bool { return r.a.shared }

// Metadata is what the agent says about the stream: an object, nil for none.
func (r *StreamRef) Metadata() json.RawMessage { return r.a.metadata }

// StreamUnavailableError says that a stream was not opened before its task ended.
type StreamUnavailableError struct {
	TaskID, StreamID string
	// DeclaredStream is its name in the agent's card; may be empty.
	DeclaredStream string
	TerminalState  State
}

func (e *StreamUnavailableError) Error() string {
	return fmt.Sprintf("open stream %q of task %s: the task has ended as %s, and streams are not kept: look at its artifacts", firstNonEmpty(e.DeclaredStream, e.StreamID), e.TaskID, e.TerminalState)
}

var errNoStreams = errors.New("this version cannot open streams yet")

// Open opens the stream. The same stream is returned to everybody who opens it.
func (r *StreamRef) Open(ctx context.Context) (*Stream, error) {
	s := r.session
	s.mu.Lock()
	end, ended := s.log.end()
	s.mu.Unlock()
	if ended {
		return nil, &StreamUnavailableError{TaskID: s.taskID, StreamID: r.a.id, DeclaredStream: r.a.declared, TerminalState: end.State}
	}
	return nil, fmt.Errorf("open stream %q of task %s: %w", r.Name(), s.taskID, errNoStreams)
}

// EndReason says why a stream is over.
type EndReason string

// Stream is an open stream.
type Stream struct{ ref *StreamRef }

// ID names the stream in the network.
func (r *Stream) ID() string { return r.ref.ID() }

// Name is that of the stream in the agent's card, else its id.
func (r *Stream) Name() string { return r.ref.Name() }

// Format says what the stream carries.
func (r *Stream) Format() StreamFormat { return r.ref.Format() }

// EndReason says why the stream is over, empty as long as it is not.
func (r *Stream) EndReason() EndReason { return "" }

// Bytes yields what the other side has written, in its pieces.
func (r *Stream) Bytes(ctx context.Context) iter.Seq2[[]byte, error] { return none[[]byte] }

// Text yields what the other side has written as text, and never splits a character.
func (r *Stream) Text(ctx context.Context) iter.Seq2[string, error] { return none[string] }

// Events yields the values that the other side has written.
func (r *Stream) Events(ctx context.Context) iter.Seq2[json.RawMessage, error] {
	return none[json.RawMessage]
}

func none[T any](yield func(T, error) bool) {
	var zero T
	yield(zero, errNoStreams)
}

// Write sends bytes. It waits while the network is slow.
func (r *Stream) Write(ctx context.Context, p []byte) error { return errNoStreams }

// WriteText sends a text.
func (r *Stream) WriteText(ctx context.Context, text string) error { return errNoStreams }

// WriteEvent sends a value that encodes to JSON.
func (r *Stream) WriteEvent(ctx context.Context, v any) error { return errNoStreams }

// Flush waits until the network has acknowledged what was written.
func (r *Stream) Flush(ctx context.Context) error { return errNoStreams }

// End says that no more will be written.
func (r *Stream) End(ctx context.Context) error { return errNoStreams }
