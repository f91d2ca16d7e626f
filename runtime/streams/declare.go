// Package streams decides about the live streams of the tasks of one agent: which stream a handler gets, what is asked of
// the network for it, who shares it, and when it ends. It is pure: no I/O, no clock, no goroutines.
package streams

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/blocksd/blocksd/dispatch"
	"github.com/blocksd/blocksd/network/card"
	"github.com/blocksd/blocksd/network/wire"
)

// Task is what matters of a task.
type Task struct {
	ID   string
	Kind wire.TaskKind
	// Offered says whether the network lets the task have streams: its consumer wants them, and the card has some.
	Offered bool
}

// Spec is a stream as the card declares it and as it is asked for.
type Spec struct {
	Declared  string
	Direction wire.StreamDirection
	Format    wire.StreamFormat
	Affinity  wire.StreamAffinity
	// External: another process writes it.
	External bool
}

// Writes reports whether the agent itself writes the stream, Reads whether it reads it.
func (s Spec) Writes() bool { return s.Direction.Writes() && !s.External }

// Reads is the counterpart of Writes.
func (s Spec) Reads() bool { return s.Direction.Reads() && !s.External }

// Marked reports whether the agent marks the end of the stream for its readers.
func (s Spec) Marked() bool { return s.Writes() && wire.HasEndMarker(s.Direction, s.Affinity) }

// Resolve finds the stream that a request means among those that the card declares. The errors are *dispatch.StreamError;
// nothing has been asked of the network then.
func Resolve(declared map[string]card.Stream, t Task, r dispatch.StreamRequest) (Spec, error) {
	if !t.Offered {
		return Spec{}, refuse(dispatch.StreamForbidden, "the consumer of task %s did not ask for streams", t.ID)
	}
	key := r.Declared
	if key == "" {
		if len(declared) > 1 {
			return Spec{}, refuse(dispatch.StreamUndeclared, "the agent card declares several streams, so the stream must be named: %s", names(declared))
		}
		for key = range declared {
		}
	}
	d, ok := declared[key]
	switch {
	case len(declared) == 0:
		return Spec{}, refuse(dispatch.StreamUndeclared, "the agent card declares no streams")
	case !ok:
		return Spec{}, refuse(dispatch.StreamUndeclared, "the agent card declares no stream %q, but %s", wire.CutText(key, maxName), names(declared))
	case r.Direction != "" && string(r.Direction) != d.Direction:
		return Spec{}, refuse(dispatch.StreamUndeclared, "the agent card declares stream %q as %s, not as %s", key, d.Direction, r.Direction)
	case r.Format != "" && string(r.Format) != d.Format:
		return Spec{}, refuse(dispatch.StreamUndeclared, "the agent card declares stream %q as a stream of %s, not of %s", key, d.Format, r.Format)
	}
	s := Spec{
		Declared: key, Direction: wire.StreamDirection(d.Direction), Format: wire.StreamFormat(d.Format), Affinity: wire.StreamAffinity(d.Affinity),
		External: r.External,
	}
	if s.Affinity == "" {
		s.Affinity = wire.Dedicated
	}
	switch {
	case s.Affinity == wire.Shared && s.External:
		return Spec{}, refuse(dispatch.StreamForbidden, "stream %q is shared, so another process cannot write it", key)
	case t.Kind == wire.Pipe:
	case s.Affinity == wire.Shared:
		return Spec{}, refuse(dispatch.StreamForbidden, "stream %q is shared, which only pipe tasks may use", key)
	case s.Direction != wire.Outbound:
		return Spec{}, refuse(dispatch.StreamForbidden, "stream %q is %s, which only pipe tasks may use", key, s.Direction)
	case s.External:
		return Spec{}, refuse(dispatch.StreamForbidden, "only in a pipe task may another process write a stream")
	}
	return s, nil
}

// maxName cuts a stranger's name in a sentence.
const maxName = 64

func names(declared map[string]card.Stream) string {
	return strings.Join(slices.Sorted(maps.Keys(declared)), ", ")
}

func refuse(kind dispatch.StreamFault, format string, args ...any) error {
	return &dispatch.StreamError{Fault: kind, Text: fmt.Sprintf(format, args...)}
}
