package client

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"

	"github.com/blocksd/blocksd/network/stream"
	"github.com/blocksd/blocksd/network/wire"
)

// StreamFormat says what a stream carries.
type StreamFormat = wire.StreamFormat

// The formats.
const (
	FormatBytes  = wire.FormatBytes  // bytes or text
	FormatEvents = wire.FormatEvents // one JSON value at a time
)

// StreamDirection says who writes a stream.
type StreamDirection = wire.StreamDirection

// The directions. Those of a StreamRef and a Stream are seen from the consumer: Inbound is written by the agent and read
// here.
const (
	Inbound       = wire.Inbound
	Outbound      = wire.Outbound
	Bidirectional = wire.Bidirectional
)

// StreamAffinity says whether a stream belongs to one task or to all tasks of an agent.
type StreamAffinity = wire.StreamAffinity

// The affinities.
const (
	Dedicated = wire.Dedicated
	Shared    = wire.Shared
)

// streamSet are the streams of a session. The session's lock guards it.
type streamSet struct {
	refs []*StreamRef // in the order of their announcements
	byID map[string]*StreamRef
	open []*Stream // in the order in which they were opened, also those that have ended
	// leave, closed with the session, ends the wait for what is under way after the end of the task; nil before the end.
	leave    chan struct{}
	draining sync.WaitGroup // those waits
}

// announceLocked notes the streams that an event announces. Only the first announcement of a stream counts.
func (s *Session) announceLocked(e Event) {
	if e.Type != EventProgress {
		return
	}
	found, dropped, ok := wire.DecodeStreamStarted(e.Raw)
	if !ok {
		return
	}
	for _, err := range dropped {
		s.client.log.Warn(err.Error(), "task", s.taskID)
	}
	for _, a := range found {
		if s.streams.byID[a.ID] != nil {
			continue
		}
		if s.streams.byID == nil {
			s.streams.byID = make(map[string]*StreamRef)
		}
		ref := &StreamRef{session: s, a: a}
		s.streams.byID[a.ID] = ref
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
	several := false
	found, err := s.waitStream(ctx, func() (found *StreamRef) {
		found, several = s.streams.find(name)
		return found
	}, func() bool { return several })
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

// WaitStreamFunc waits for the first stream for which is returns true. is is called once for each stream.
func (s *Session) WaitStreamFunc(ctx context.Context, is func(*StreamRef) bool) (*StreamRef, error) {
	seen := 0
	found, err := s.waitStream(ctx, func() *StreamRef {
		for seen < len(s.streams.refs) {
			ref := s.streams.refs[seen]
			seen++
			s.mu.Unlock() // is may ask the session
			ok := is(ref)
			s.mu.Lock()
			if ok {
				return ref
			}
		}
		return nil
	}, func() bool { return false })
	switch {
	case err != nil:
		return nil, fmt.Errorf("wait for a stream: %w", err)
	case found == nil:
		return nil, fmt.Errorf("wait for a stream of task %s: the task has ended without it", s.taskID)
	}
	return found, nil
}

func (s *Session) waitStream(ctx context.Context, look func() *StreamRef, hopeless func() bool) (found *StreamRef, err error) {
	err = s.follow(ctx, func() bool {
		found = look()
		return found != nil || hopeless()
	})
	return found, err
}

func (l *streamSet) find(name string) (found *StreamRef, several bool) {
	if name == "" {
		if len(l.refs) == 1 {
			return l.refs[0], false
		}
		return nil, len(l.refs) > 1
	}
	for _, r := range l.refs {
		if r.a.Declared == name {
			return r, false
		}
	}
	return l.byID[name], false
}

// StreamRef is a stream that has been announced and may be opened.
type StreamRef struct {
	session *Session
	a       wire.AnnouncedStream
	stream  *Stream // what Open has returned; the session's lock guards it
}

// ID names the stream in the network.
func (r *StreamRef) ID() string { return r.a.ID }

// Name is that of the stream in the agent's card, else its id.
func (r *StreamRef) Name() string { return firstNonEmpty(r.a.Declared, r.a.ID) }

// Format says what the stream carries.
func (r *StreamRef) Format() StreamFormat { return r.a.Format }

// Direction says who writes the stream, seen from here.
func (r *StreamRef) Direction() StreamDirection { return r.a.Direction.Inverted() }

// Shared reports whether the stream belongs to all tasks of the agent.
func (r *StreamRef) Shared() bool { return r.a.Affinity == Shared }

// Metadata is what the agent says about the stream: an object, nil for none.
func (r *StreamRef) Metadata() json.RawMessage { return r.a.Metadata }

// hasEndMarker reports whether the writer says when the stream is over.
func (r *StreamRef) hasEndMarker() bool { return wire.HasEndMarker(r.a.Direction, r.a.Affinity) }

// IsOpen reports whether the stream has been opened and has not ended.
func (r *StreamRef) IsOpen() bool {
	r.session.mu.Lock()
	defer r.session.mu.Unlock()
	return r.stream != nil && !r.stream.over()
}

// StreamDescriptor is all that is known of a stream.
type StreamDescriptor struct {
	TaskID, StreamID, AgentName, Channel string
	// DeclaredStream is its name in the agent's card; may be empty.
	DeclaredStream string
	// AgentDirection is seen from the agent, LocalDirection from here.
	AgentDirection, LocalDirection StreamDirection
	Format                         StreamFormat
	Affinity                       StreamAffinity
	// Metadata is an object, nil for none.
	Metadata json.RawMessage
	// Token permits this side of the stream to whoever has it.
	Token string
}

// Descriptor returns all that is known of the stream.
func (r *StreamRef) Descriptor() StreamDescriptor {
	return StreamDescriptor{
		TaskID: r.session.taskID, StreamID: r.a.ID, AgentName: r.session.agent, Channel: r.a.Channel, DeclaredStream: r.a.Declared,
		AgentDirection: r.a.Direction, LocalDirection: r.a.Direction.Inverted(), Format: r.a.Format, Affinity: r.a.Affinity,
		Metadata: r.a.Metadata, Token: r.a.Token,
	}
}

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

// StreamError is trouble between an open stream and the network.
type StreamError = stream.Error

// Errors of streams.
var (
	// ErrStreamEnded: the stream was ended on this side, or opening it comes too late.
	ErrStreamEnded = stream.ErrEnded
	// ErrStreamFull: TryWrite has no room, because the network takes less than is written.
	ErrStreamFull = stream.ErrFull
)
