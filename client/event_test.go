package client_test

import (
	"encoding/json"
	"testing"

	"github.com/blocksd/blocksd/client"
	"github.com/blocksd/blocksd/network/wire"
)

func TestEventJSON(t *testing.T) {
	for _, c := range []struct{ raw, want string }{
		{"{ \"type\": \"progress\",\n \"x\": \"<\" }", `{"type":"progress","x":"<","timetoken":"17"}`},
		{`{"type":"progress","timetoken":"forged"}`, `{"timetoken":"17","type":"progress"}`},
		{`{}`, `{"timetoken":"17"}`},
	} {
		b, err := client.Event{Event: wire.Event{Raw: json.RawMessage(c.raw)}, Timetoken: "17"}.JSON()
		if err != nil || string(b) != c.want {
			t.Errorf("%s: %s, %v", c.raw, b, err)
		}
	}
}
