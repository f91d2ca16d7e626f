// Command adder is the reference handler of the agent "adder": it adds two numbers.
package main

import (
	"context"
	_ "embed"
	"encoding/json"
	"fmt"

	"github.com/blocksd/blocksd/handlers/internal/pytext"
	"github.com/blocksd/blocksd/pluginsdk"
)

//go:embed agent-card.json
var card []byte

func main() {
	pluginsdk.Serve(pluginsdk.Handler{Name: "adder", Version: "0.1.0", Cards: [][]byte{card}, Idempotent: true, Run: run})
}

func run(_ context.Context, t *pluginsdk.Task) error {
	parts := make([]json.RawMessage, len(t.Parts))
	for i, p := range t.Parts {
		parts[i] = p.Raw
	}
	answer, err := add(parts)
	if err != nil {
		return err
	}
	return t.Send(pluginsdk.Artifact{MIMEType: "application/json", Data: []byte(answer)})
}

// add answers with the sum of the first part that holds two numbers, or says that there is none.
func add(parts []json.RawMessage) (string, error) {
	for i, raw := range parts {
		v, err := pytext.Decode(string(raw))
		if err != nil {
			return "", fmt.Errorf("the request cannot be read: part %d: %w", i+1, err)
		}
		o := request(v)
		if kind, ok := o.Get("kind"); ok && kind != nil && kind != "math_add" {
			continue
		}
		va, _ := o.Get("a")
		vb, _ := o.Get("b")
		a, ok, err := newNumber(va)
		if err != nil {
			return "", err
		}
		if !ok {
			continue
		}
		b, ok, err := newNumber(vb)
		if err != nil {
			return "", err
		}
		if ok {
			return pytext.Indented(object("ok", true, "a", a.value(), "b", b.value(), "sum", a.plus(b).value()), 2), nil
		}
	}
	text, err := pytext.RequestText(parts)
	if err != nil {
		return "", fmt.Errorf("the request cannot be read: %w", err)
	}
	return pytext.Indented(object("ok", false, "error", "Missing math_add request with numeric a and b", "input", text), 2), nil
}

// request is the object of a part that may hold the numbers: its text as JSON, or the members beyond the known ones when
// it has no text. It may be nil.
func request(part pytext.Value) *pytext.Object {
	o, ok := part.(*pytext.Object)
	if !ok {
		return nil
	}
	text, _ := o.Get("text")
	s, ok := text.(string)
	if !ok {
		return o.Without("partId", "text", "contentType", "artifactRef")
	}
	v, err := pytext.Decode(s)
	if err != nil {
		return nil
	}
	o, _ = v.(*pytext.Object)
	return o
}

// object makes an object of names and values in turn.
func object(pairs ...any) *pytext.Object {
	o := &pytext.Object{Values: map[string]pytext.Value{}}
	for i := 0; i < len(pairs); i += 2 {
		name := pairs[i].(string)
		o.Names = append(o.Names, name)
		o.Values[name] = pairs[i+1]
	}
	return o
}
