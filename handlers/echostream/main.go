// Command echostream is the reference handler of the agent "echo_stream": it sends back the text that it is given, word by
// word on a stream, and as a whole when it is done.
package main

import (
	"context"
	_ "embed"
	"strings"
	"time"

	"github.com/blocksd/blocksd/pluginsdk"
)

//go:embed agent-card.json
var card []byte

func main() {
	pluginsdk.Serve(pluginsdk.Handler{Name: "echostream", Version: "0.1.0", Cards: [][]byte{card}, Run: run})
}

// The words come slowly enough to be seen, but a long text does not take for ever.
const (
	pause   = 50 * time.Millisecond
	longest = 2 * time.Second
)

func run(ctx context.Context, t *pluginsdk.Task) error {
	text, _ := t.Text("request")
	if t.HasStream { // the consumer decides whether there is a stream
		if err := stream(ctx, t, words(text)); err != nil {
			return err
		}
	}
	return t.Send(pluginsdk.Artifact{OutputID: "reply", MIMEType: "text/plain", Data: []byte(text)})
}

func stream(ctx context.Context, t *pluginsdk.Task, words []string) error {
	s, err := t.CreateStream(ctx, pluginsdk.StreamOptions{})
	if err != nil {
		return err
	}
	for _, w := range words {
		if err := s.WriteText(w); err != nil {
			return err
		}
		select {
		case <-time.After(min(pause, longest/time.Duration(len(words)))):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return s.End(ctx)
}

// words cuts a text behind each run of spaces; together they are the text.
func words(text string) []string {
	var all []string
	for text != "" {
		end := strings.IndexByte(text, ' ')
		for end >= 0 && end < len(text) && text[end] == ' ' {
			end++
		}
		if end < 0 {
			end = len(text)
		}
		all = append(all, text[:end])
		text = text[end:]
	}
	return all
}
