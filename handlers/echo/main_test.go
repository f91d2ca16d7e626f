package main

import (
	"bytes"
	"encoding/json"
	"os"
	"testing"

	"github.com/blocksd/blocksd/handlers/internal/pytext"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// The outputs are those of the network's own echo handler, byte for byte.
func TestRequestText(t *testing.T) {
	tests := []struct{ parts, want string }{
		{`[]`, `[]`},
		{`[{"partId":"request","text":"hello <&> ü 😀"}]`, "hello <&> ü 😀"},
		{`[{"text":""},{"text":"second"}]`, ""},
		{`[{"text":null},{"partId":"x"},{"text":"second"}]`, "second"},
		{`[{"text":5}]`, "5"},
		{`[{"text":true}]`, "True"},
		{`[{"text":1.0e3}]`, "1000.0"},
		{`[{"text":{"a":[null,"b"]}}]`, "{'a': [None, 'b']}"},
		{`["bare",3]`, `["bare", 3]`},
		{`[{"partId":"first","artifactRef":{"kind":"inline","size":3,"fileName":"ü two.txt","data":"PCY+"}},{"n":1e400}]`,
			`[{"partId": "first", "artifactRef": {"kind": "inline", "size": 3, "fileName": "\u00fc two.txt", "data": "PCY+"}}, {"n": Infinity}]`},
	}
	for _, tt := range tests {
		var parts []json.RawMessage
		if err := json.Unmarshal([]byte(tt.parts), &parts); err != nil {
			t.Fatal(err)
		}
		got, err := pytext.RequestText(parts)
		if err != nil || got != tt.want {
			t.Errorf("%s gives %q, %v; want %q", tt.parts, got, err, tt.want)
		}
	}
}

// TestCardAtTheRoot: the card at the root of the repository is this handler's; users start with it.
func TestCardAtTheRoot(t *testing.T) {
	root, err := os.ReadFile("../../agent-card.json")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(root, card) {
		t.Error("agent-card.json and handlers/echo/agent-card.json differ: copy the one over the other")
	}
}
