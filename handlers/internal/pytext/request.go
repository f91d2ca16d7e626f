package pytext

import (
	"encoding/json"
	"fmt"
)

// RequestText is what the network's reference handlers take for the text of a request: that of the first part whose text
// is present and not null, as str() writes it, else the whole list of parts as json.dumps writes it.
func RequestText(parts []json.RawMessage) (string, error) {
	list := make([]Value, len(parts))
	for i, raw := range parts {
		v, err := Decode(string(raw))
		if err != nil {
			return "", fmt.Errorf("part %d: %w", i+1, err)
		}
		list[i] = v
	}
	for _, v := range list {
		o, _ := v.(*Object)
		if text, ok := o.Get("text"); ok && text != nil {
			return Str(text), nil
		}
	}
	return JSON(list), nil
}
