package client

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// StreamFormat says what a stream carries.
type StreamFormat string

// The formats.
const (
	FormatBytes  StreamFormat = "bytes"
	FormatEvents StreamFormat = "events" // one JSON value at a time
)

// StreamDirection says who writes a stream.
type StreamDirection string

// The directions, as the consumer sees them.
const (
	Inbound       StreamDirection = "inbound"  // the agent writes and the consumer reads
	Outbound      StreamDirection = "outbound" // the consumer writes
	Bidirectional StreamDirection = "bidirectional"
)

// streamStarted is the StreamEvent of a progress event that announces streams.
const streamStarted = "stream_started"

// announcement is one stream of a task, as the network announces it.
type announcement struct {
	id, channel, declared, token string
	direction                    StreamDirection // the consumer's
	format                       StreamFormat
	shared                       bool
	metadata                     json.RawMessage
}

// decodeAnnouncements reads the streams of an event, in the order of their ids. An entry that cannot be used is left out
// and described in problems.
func decodeAnnouncements(event []byte) (streams []announcement, problems []error) {
	var o struct {
		DeclaredStream json.RawMessage
		Streams        map[string]json.RawMessage
	}
	if json.Unmarshal(event, &o) != nil {
		return nil, []error{errors.New("decode stream announcement: it is not an object with streams")}
	}
	var declared string
	_ = json.Unmarshal(o.DeclaredStream, &declared) // anything else than text is no name
	for id, raw := range o.Streams {
		a, err := decodeAnnouncement(raw)
		if err != nil {
			problems = append(problems, fmt.Errorf("decode announcement of stream %q: %w", id, err))
			continue
		}
		a.id, a.declared = id, declared
		streams = append(streams, a)
	}
	slices.SortFunc(streams, func(a, b announcement) int { return strings.Compare(a.id, b.id) })
	return streams, problems
}

func decodeAnnouncement(raw json.RawMessage) (announcement, error) {
	var o struct {
		Channel, Direction, Format, Affinity, Token string
		Metadata                                    json.RawMessage
	}
	if json.Unmarshal(raw, &o) != nil {
		return announcement{}, errors.New("it is not an object of the expected form")
	}
	a := announcement{channel: o.Channel, token: o.Token, format: StreamFormat(o.Format), shared: o.Affinity == "shared"}
	if meta := bytes.TrimSpace(o.Metadata); len(meta) > 0 && meta[0] == '{' {
		a.metadata = meta
	}
	switch o.Direction {
	case "outbound", "": // the agent's view
		a.direction = Inbound
	case "inbound":
		a.direction = Outbound
	case "bidirectional":
		a.direction = Bidirectional
	default:
		return a, fmt.Errorf("its direction is %q", o.Direction)
	}
	switch {
	case a.channel == "":
		return a, errors.New("it names no channel")
	case a.format != FormatBytes && a.format != FormatEvents:
		return a, fmt.Errorf("its format is %q", o.Format)
	case o.Affinity != "dedicated" && o.Affinity != "shared":
		return a, fmt.Errorf("its affinity is %q", o.Affinity)
	}
	return a, nil
}
