package wire

import (
	"bytes"
	"encoding/json"
	"fmt"
)

// StreamStarted is the streamEvent of a progress event that announces streams.
const StreamStarted = "stream_started"

// AnnouncedStream is one stream as the network announces it to the consumer.
type AnnouncedStream struct {
	ID string
	// Declared is the key in the agent's card; empty when the announcement does not say.
	Declared string
	// Direction as the agent sees it.
	Direction StreamDirection
	Format    StreamFormat
	Affinity  StreamAffinity
	Channel   string
	// Token permits the consumer's side of the stream.
	Token string
	// Metadata is what the handler said about the stream: a JSON object, or nil.
	Metadata json.RawMessage
}

// DecodeStreamStarted reads the streams that a task event announces, in the order of the event. ok is false for every
// other event. Entries that cannot be used are left out; dropped says why, one error each.
func DecodeStreamStarted(data []byte) (streams []AnnouncedStream, dropped []error, ok bool) {
	var m map[string]json.RawMessage
	if json.Unmarshal(data, &m) != nil || stringMember(m, "streamEvent") != StreamStarted {
		return nil, nil, false
	}
	declared := stringMember(m, "declaredStream")
	for id, raw := range orderedMembers(m["streams"]) {
		s, err := decodeAnnounced(id, raw)
		if err != nil {
			dropped = append(dropped, fmt.Errorf("announcement of stream %q ignored: %w", CutText(id, 64), err))
			continue
		}
		s.Declared = declared
		streams = append(streams, s)
	}
	return streams, dropped, true
}

func decodeAnnounced(id string, raw json.RawMessage) (AnnouncedStream, error) {
	var m map[string]json.RawMessage
	if json.Unmarshal(raw, &m) != nil || m == nil {
		return AnnouncedStream{}, fmt.Errorf("it is not an object")
	}
	dropNulls(m)
	s := AnnouncedStream{
		ID: id, Direction: Outbound, Format: StreamFormat(stringMember(m, "format")), Affinity: StreamAffinity(stringMember(m, "affinity")),
		Channel: stringMember(m, "channel"), Token: stringMember(m, "token"), Metadata: bytes.Clone(objectMember(m, "metadata")),
	}
	if d, ok := m["direction"]; ok {
		s.Direction = StreamDirection(stringMember(m, "direction"))
		if !s.Direction.Valid() {
			return s, fmt.Errorf("direction %s is not outbound, inbound or bidirectional", CutText(string(d), 64))
		}
	}
	switch {
	case CheckStreamID(id) != nil:
		return s, CheckStreamID(id)
	case !s.Format.Valid():
		return s, fmt.Errorf("format %q is neither bytes nor events", CutText(string(s.Format), 64))
	case !s.Affinity.Valid():
		return s, fmt.Errorf("affinity %q is neither dedicated nor shared", CutText(string(s.Affinity), 64))
	case s.Channel == "":
		return s, fmt.Errorf("it names no channel")
	case s.Token == "":
		return s, fmt.Errorf("it has no token")
	}
	return s, nil
}

// orderedMembers yields the members of a JSON object in their order; nothing for any other value.
func orderedMembers(raw json.RawMessage) func(yield func(string, json.RawMessage) bool) {
	return func(yield func(string, json.RawMessage) bool) {
		d := json.NewDecoder(bytes.NewReader(raw))
		if t, err := d.Token(); err != nil || t != json.Delim('{') {
			return
		}
		for d.More() {
			t, err := d.Token()
			name, ok := t.(string)
			var v json.RawMessage
			if err != nil || !ok || d.Decode(&v) != nil || !yield(name, v) {
				return
			}
		}
	}
}
