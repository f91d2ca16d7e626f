package card

import (
	"bytes"
	"encoding/json"

	"github.com/blocksd/blocksd/network/wire"
)

// ExampleParts returns the parts of a task made of the examples in the card: text inputs as they are, form inputs as a
// JSON document; none if there are no examples. It is false when a required input has no example that can be sent.
func ExampleParts(c Card) ([]wire.Part, bool) {
	var parts []wire.Part
	for _, in := range c.Inputs {
		text, ok := exampleText(in)
		if !ok {
			if in.Required {
				return nil, false
			}
			continue
		}
		parts = append(parts, wire.Part{PartID: in.ID, ContentType: in.ContentType, Text: &text})
	}
	return parts, true
}

func exampleText(in Input) (string, bool) {
	if in.Example == nil {
		return "", false
	}
	switch in.Class() {
	case Text:
		var s string
		err := json.Unmarshal(in.Example, &s)
		return s, err == nil && !bytes.Equal(in.Example, []byte("null"))
	case Form:
		var buf bytes.Buffer
		if json.Compact(&buf, in.Example) != nil {
			return "", false
		}
		return buf.String(), true
	}
	return "", false // a file is not made up
}
