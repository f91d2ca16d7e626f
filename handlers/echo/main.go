// Command echo is the reference handler of the agent "echo": it sends back the text that it is given.
package main

import (
	"context"
	_ "embed"
	"strings"

	"github.com/blocksd/blocksd/pluginsdk"
)

//go:embed agent-card.json
var card []byte

func main() {
	pluginsdk.Serve(pluginsdk.Handler{Name: "echo", Version: "0.1.0", Cards: [][]byte{card}, Idempotent: true, Run: run})
}

func run(_ context.Context, t *pluginsdk.Task) error {
	return t.Send(pluginsdk.Text("Echoed request: " + request(t.Parts)))
}

// request returns the first text of a request, or all its parts as they came when there is no text.
func request(parts []pluginsdk.Part) string {
	var all []string
	for _, p := range parts {
		if p.Text != nil {
			return *p.Text
		}
		all = append(all, string(p.Raw))
	}
	return "[" + strings.Join(all, ",") + "]"
}
