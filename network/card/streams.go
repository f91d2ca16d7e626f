package card

import "fmt"

// Streams: what a declared stream must and must not have depends on its direction and format.

// DefaultStream is the name of the stream of a request task.
const DefaultStream = "_default"

var streamFields = []field{
	{"direction", true, oneOf("outbound", "inbound", "bidirectional")}, {"format", true, oneOf("events", "bytes")},
	{"description", false, isString}, {"affinity", false, oneOf("shared", "dedicated")}, {"schema", false, isObject},
	{"outboundSchema", false, isObject}, {"inboundSchema", false, isObject}, {"contentType", false, contentType},
}

// streamRules checks the streams of a card; root is the card.
func streamRules(c *checker, root *node) {
	streams := root.get("streams")
	if streams == nil || streams.kind != kindObject {
		return
	}
	for _, m := range streams.members {
		ptr := pointer("/streams", m.key)
		what := fmt.Sprintf("stream %q", m.key)
		if !c.is(ptr, what, m.value, kindObject) {
			continue
		}
		c.members(ptr, what, m.value, streamFields, true)
		streamShape(c, ptr, what, m.value)
		if a := m.value.get("affinity"); m.key == DefaultStream && a != nil && a.text == "shared" {
			c.add(a.at, ptr+"/affinity", "stream %q must not be shared: only named streams of pipe tasks may be", m.key)
		}
	}
	if !requestOnly(root) {
		return
	}
	for _, m := range streams.members {
		if m.key != DefaultStream {
			c.add(m.start, pointer("/streams", m.key), "stream %q is not allowed in a card for request tasks only: it may declare one stream, %q", m.key, DefaultStream)
		}
	}
}

func requestOnly(root *node) bool {
	kinds := root.get("capabilities").get("taskKinds")
	return kinds != nil && len(kinds.items) == 1 && kinds.items[0].text == "request"
}

func streamShape(c *checker, ptr, what string, n *node) {
	direction, format := n.get("direction"), n.get("format")
	if direction == nil || format == nil {
		return
	}
	forbid := func(why string, keys ...string) {
		for _, k := range keys {
			if v := n.get(k); v != nil {
				c.add(v.at, pointer(ptr, k), "%s %s must not have %q", what, why, k)
			}
		}
	}
	switch {
	case format.text == "bytes":
		forbid("of bytes", "schema", "outboundSchema", "inboundSchema")
	case format.text != "events":
	case direction.text == "bidirectional":
		forbid("of bidirectional events", "schema", "contentType")
		for _, k := range []string{"outboundSchema", "inboundSchema"} {
			if n.get(k) == nil {
				c.add(n.at, ptr, "%s of bidirectional events lacks the required key %q", what, k)
			}
		}
	default:
		forbid("of events in one direction", "contentType", "outboundSchema", "inboundSchema")
	}
}
