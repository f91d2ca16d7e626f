package main

import (
	"bytes"
	"encoding/json"
	"os"
	"testing"

	"go.uber.org/goleak"

	"github.com/blocksd/blocksd/pluginsdk"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestRequest(t *testing.T) {
	text := func(s string) pluginsdk.Part { return pluginsdk.Part{ID: "request", Text: &s} }
	raw := func(s string) pluginsdk.Part { return pluginsdk.Part{Raw: json.RawMessage(s)} }
	const file = `{"partId":"first","artifactRef":{"kind":"inline","size":3,"fileName":"ü <two>.txt","data":"PCY+"}}`
	for _, tt := range []struct {
		parts []pluginsdk.Part
		want  string
	}{
		{nil, `[]`},
		{[]pluginsdk.Part{text("hello <&> ü 😀")}, "hello <&> ü 😀"},
		{[]pluginsdk.Part{text(""), text("second")}, ""},
		{[]pluginsdk.Part{raw(`{"text":null}`), raw(`{"partId":"x"}`), text("second")}, "second"},
		{[]pluginsdk.Part{text(`{"a": [1.0e3, true]}`)}, `{"a": [1.0e3, true]}`},
		{[]pluginsdk.Part{raw(`{"text": 1.0e3}`)}, `[{"text": 1.0e3}]`},
		{[]pluginsdk.Part{raw(`"bare"`), raw(`3`)}, `["bare",3]`},
		{[]pluginsdk.Part{raw(file), raw(`{"n":1e400}`)}, `[` + file + `,{"n":1e400}]`},
	} {
		if got := request(tt.parts); got != tt.want {
			t.Errorf("got %q, want %q", got, tt.want)
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
