package conformance

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"sync"

	"github.com/blocksd/blocksd/dispatch"
	"github.com/blocksd/blocksd/network/card"
	"github.com/blocksd/blocksd/network/wire"
)

// Stream is what became of a stream that a handler has made.
type Stream struct {
	// Name is the key in the card.
	Name      string
	Direction wire.StreamDirection
	Format    wire.StreamFormat
	// Written is what the handler wrote, one element per write: texts and bytes as they are, events as JSON.
	Written [][]byte
	// Ended: the handler ended it itself. Failure is the reason when it let it fail.
	Ended   bool
	Failure string
}

// stream takes what a handler writes, in place of the network. What is read of it are the items of Task.Inbound.
type stream struct {
	info    dispatch.StreamInfo
	inbound []dispatch.StreamItem

	mu   sync.Mutex // guards what follows
	made Stream
	read bool
}

// CreateStream implements dispatch.TaskPort.
func (p *port) CreateStream(_ context.Context, r dispatch.StreamRequest) (dispatch.Stream, bool, error) {
	refuse := func(fault dispatch.StreamFault, format string, args ...any) (dispatch.Stream, bool, error) {
		return nil, false, &dispatch.StreamError{Fault: fault, Text: fmt.Sprintf(format, args...)}
	}
	if !p.task.HasStream {
		return refuse(dispatch.StreamForbidden, "the caller did not ask for streams")
	}
	name, declared, ok := declaredStream(p.task.Streams, r.Declared)
	if !ok {
		return refuse(dispatch.StreamUndeclared, "the card declares no stream %q", r.Declared)
	}
	if r.Direction != "" && string(r.Direction) != declared.Direction || r.Format != "" && string(r.Format) != declared.Format {
		return refuse(dispatch.StreamUndeclared, "the card declares the stream %s as %s and %s", name, declared.Direction, declared.Format)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	id := p.task.ID + "-" + strconv.Itoa(len(p.streams)+1)
	s := &stream{info: dispatch.StreamInfo{
		ID: id, Declared: name, Channel: "stream." + p.task.AgentName + "." + id, Direction: wire.StreamDirection(declared.Direction),
		Format: wire.StreamFormat(declared.Format), Shared: declared.Affinity == "shared", First: true,
	}, inbound: p.task.Inbound}
	s.made = Stream{Name: name, Direction: s.info.Direction, Format: s.info.Format}
	p.streams = append(p.streams, s)
	return s, true, nil
}

// declaredStream finds a stream in a card; a card with one stream need not be told which.
func declaredStream(all map[string]card.Stream, name string) (string, card.Stream, bool) {
	if name == "" && len(all) == 1 {
		for only, s := range all {
			return only, s, true
		}
	}
	s, ok := all[name]
	return name, s, ok
}

// Stream implements dispatch.TaskPort.
func (p *port) Stream(id string) (dispatch.Stream, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	i := slices.IndexFunc(p.streams, func(s *stream) bool { return s.info.ID == id })
	if i < 0 {
		return nil, &dispatch.StreamError{Fault: dispatch.StreamUnknown, Text: "the task has no stream " + id}
	}
	return p.streams[i], nil
}

// Info implements dispatch.Stream.
func (s *stream) Info() dispatch.StreamInfo { return s.info }

// Write implements dispatch.Stream.
func (s *stream) Write(_ context.Context, items []dispatch.StreamItem, _ bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.made.Ended || s.made.Failure != "" || s.info.Direction == wire.Inbound {
		return &dispatch.StreamError{Fault: dispatch.StreamClosed, Text: "the stream cannot be written"}
	}
	for _, item := range items {
		isEvent := item.Kind == dispatch.StreamEvent || item.Kind == dispatch.StreamEventBytes
		if isEvent != (s.info.Format == wire.FormatEvents) {
			return &dispatch.StreamError{Fault: dispatch.StreamBadItem, Text: fmt.Sprintf("an item does not fit a stream of %s", s.info.Format)}
		}
		s.made.Written = append(s.made.Written, slices.Clone(item.Data))
	}
	return nil
}

// Flush implements dispatch.Stream.
func (s *stream) Flush(context.Context) error { return nil }

// Read implements dispatch.Stream.
func (s *stream) Read() (func(ctx context.Context) (dispatch.StreamBatch, error), func(), error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.read || s.info.Direction == wire.Outbound {
		return nil, nil, &dispatch.StreamError{Fault: dispatch.StreamClosed, Text: "the stream cannot be read"}
	}
	s.read = true
	over := false
	next := func(context.Context) (dispatch.StreamBatch, error) {
		if over {
			return dispatch.StreamBatch{}, &dispatch.StreamError{Fault: dispatch.StreamClosed, Text: "the stream has ended"}
		}
		over = true
		return dispatch.StreamBatch{Items: s.inbound, End: &dispatch.StreamEnd{Reason: "ended"}}, nil
	}
	done := func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.read = false
	}
	return next, done, nil
}

// Activate implements dispatch.Stream.
func (s *stream) Activate(context.Context, json.RawMessage) error { return nil }

// End implements dispatch.Stream.
func (s *stream) End(context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.made.Ended = true
	return nil
}

// Fail implements dispatch.Stream.
func (s *stream) Fail(_ context.Context, reason string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.made.Failure = reason
	return nil
}

// result is what has become of it so far.
func (s *stream) result() Stream {
	s.mu.Lock()
	defer s.mu.Unlock()
	made := s.made
	made.Written = slices.Clone(made.Written)
	return made
}
