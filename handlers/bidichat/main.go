// Command bidichat is the reference handler of the agent "bidi_chat": a conversation on one stream in both directions.
package main

import (
	"context"
	_ "embed"
	"encoding/json"
	"strings"

	"github.com/blocksd/blocksd/pluginsdk"
)

//go:embed agent-card.json
var card []byte

func main() {
	pluginsdk.Serve(pluginsdk.Handler{Name: "bidichat", Version: "0.1.0", Cards: [][]byte{card}, Run: run})
}

// message is what both sides say.
type message struct {
	Text string `json:"text"`
}

const greeting = "opening greeting"

func run(ctx context.Context, t *pluginsdk.Task) error {
	s, err := t.CreateStream(ctx, pluginsdk.StreamOptions{})
	if err != nil {
		return err
	}
	first, ok := t.Text("request")
	if !ok || strings.TrimSpace(first) == "" {
		first = greeting
	}
	if err := s.WriteEvent(answer(first)); err != nil {
		return err
	}
	for event, err := range s.Events() { // ends with the task
		if err != nil {
			return err
		}
		text, ok := said(event)
		if !ok {
			continue // not for us
		}
		if err := s.WriteEvent(answer(text)); err != nil {
			return err
		}
		if strings.EqualFold(text, "bye") {
			break
		}
	}
	// Nobody can mark the end of a stream that both sides write, so the task ends here.
	t.Complete()
	return s.End(ctx)
}

func said(event json.RawMessage) (string, bool) {
	var m struct{ Text *string }
	if json.Unmarshal(event, &m) != nil || m.Text == nil {
		return "", false
	}
	return strings.TrimSpace(*m.Text), true
}

func answer(text string) message { return message{"AGENT> " + strings.ToUpper(text)} }
