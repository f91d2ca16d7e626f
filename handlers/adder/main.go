// Command adder is the reference handler of the agent "adder": it adds two numbers.
package main

import (
	"context"
	_ "embed"
	"encoding/json"

	"github.com/blocksd/blocksd/pluginsdk"
)

//go:embed agent-card.json
var card []byte

func main() {
	pluginsdk.Serve(pluginsdk.Handler{Name: "adder", Version: "0.1.0", Cards: [][]byte{card}, Idempotent: true, Run: run})
}

// answer holds the numbers as they were written, and their exact sum; failure says why there is none.
type answer struct {
	OK  bool        `json:"ok"`
	A   json.Number `json:"a"`
	B   json.Number `json:"b"`
	Sum json.Number `json:"sum"`
}

type failure struct {
	OK    bool   `json:"ok"`
	Error string `json:"error"`
	Input string `json:"input"`
}

func run(_ context.Context, t *pluginsdk.Task) error {
	result, err := json.MarshalIndent(add(t.Parts), "", "  ")
	if err != nil {
		return err
	}
	return t.Send(pluginsdk.Artifact{MIMEType: "application/json", Data: result})
}

// add adds the numbers of the first part that holds two.
func add(parts []pluginsdk.Part) any {
	for _, p := range parts {
		if a, b, ok := numbers(document(p)); ok {
			return answer{true, a, b, sum(a, b)}
		}
	}
	return failure{Error: "Missing math_add request with numeric a and b", Input: request(parts)}
}
