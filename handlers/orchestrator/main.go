// Command orchestrator is the reference handler of the agent "orchestrator": it asks two other agents and joins their
// answers.
package main

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"sync"

	"github.com/blocksd/blocksd/pluginsdk"
)

//go:embed agent-card.json
var card []byte

func main() {
	pluginsdk.Serve(pluginsdk.Handler{Name: "orchestrator", Version: "0.1.0", Cards: [][]byte{card}, Run: run})
}

type request struct {
	Text string          `json:"text"`
	A    json.RawMessage `json:"a"`
	B    json.RawMessage `json:"b"`
}

type answer struct {
	Echo  string          `json:"echo"`
	Adder json.RawMessage `json:"adder"`
}

func run(ctx context.Context, t *pluginsdk.Task) error {
	var r request
	if err := t.JSON("request", &r); err != nil {
		return err
	}
	t.Status("asking echo and adder")
	var echoed, sum []byte
	err := both(
		func() (err error) {
			echoed, err = ask(ctx, t, "echo", pluginsdk.TextInput("request", r.Text))
			return err
		},
		func() (err error) {
			sum, err = ask(ctx, t, "adder", pluginsdk.JSONInput("request", map[string]any{"kind": "math_add", "a": r.A, "b": r.B}))
			return err
		},
	)
	if err != nil {
		return err
	}
	joined, err := json.Marshal(answer{string(echoed), sum})
	if err != nil {
		return err
	}
	return t.Send(pluginsdk.Artifact{OutputID: "answer", MIMEType: "application/json", Data: joined})
}

// both runs two functions at once.
func both(f, g func() error) error {
	var wg sync.WaitGroup
	var errF, errG error
	wg.Go(func() { errF = f() })
	wg.Go(func() { errG = g() })
	wg.Wait()
	return errors.Join(errF, errG)
}

// ask calls an agent and returns its first output.
func ask(ctx context.Context, t *pluginsdk.Task, agent string, in pluginsdk.Input) ([]byte, error) {
	s, err := t.Call(ctx, pluginsdk.Message{Agent: agent, Parts: []pluginsdk.Input{in}})
	if err != nil {
		return nil, err
	}
	defer s.Close()
	end, err := s.Wait(ctx)
	if err != nil {
		return nil, err
	}
	if !end.Completed() {
		return nil, fmt.Errorf("%s did not complete its task: %s %s", agent, end.State, end.Error)
	}
	outputs := s.Artifacts()
	if len(outputs) == 0 {
		return nil, fmt.Errorf("%s gave no output", agent)
	}
	return s.Download(ctx, outputs[0])
}
