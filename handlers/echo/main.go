// Command echo is the reference handler of the agent "echo": it sends back the text that it is given.
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
	pluginsdk.Serve(pluginsdk.Handler{Name: "echo", Version: "0.1.0", Cards: [][]byte{card}, Idempotent: true, Run: run})
}

func run(_ context.Context, t *pluginsdk.Task) error {
	parts := make([]json.RawMessage, len(t.Parts))
	for i, p := range t.Parts {
		parts[i] = p.Raw
	}
	text, err := pytext.RequestText(parts)
	if err != nil {
		return fmt.Errorf("the request cannot be read: %w", err)
	}
	return t.Send(pluginsdk.Text("Echoed request: " + text))
}
