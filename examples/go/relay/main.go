// Command relay is an example of a handler in Go: it passes on what another agent streams, while that is still being made.
package main

import (
	"context"
	_ "embed"
	"fmt"
	"strings"

	"github.com/blocksd/blocksd/pluginsdk"
)

//go:embed agent-card.json
var card []byte

func main() {
	pluginsdk.Serve(pluginsdk.Handler{Name: "relay", Version: "0.1.0", Cards: [][]byte{card}, Run: run})
}

const agent = "echo_stream"

func run(ctx context.Context, t *pluginsdk.Task) error {
	text, _ := t.Text("request")
	call, err := t.Call(ctx, pluginsdk.Message{Agent: agent, Stream: true, Parts: []pluginsdk.Input{pluginsdk.TextInput("request", text)}})
	if err != nil {
		return err
	}
	defer call.Close()
	announced, err := call.WaitStream(ctx, "") // its only one
	if err != nil {
		return err
	}
	from, err := announced.Open(ctx)
	if err != nil {
		return err
	}
	said, err := relay(ctx, t, from)
	if err != nil {
		return err
	}
	end, err := call.Wait(ctx)
	if err != nil {
		return err
	}
	if !end.Completed() {
		return fmt.Errorf("%s did not complete its task: %s %s", agent, end.State, end.Error)
	}
	return t.Send(pluginsdk.Artifact{OutputID: "reply", MIMEType: "text/plain", Data: []byte(said)})
}

// relay writes each piece in capitals as soon as it comes, if the consumer wants streams, and returns all of them.
func relay(ctx context.Context, t *pluginsdk.Task, from *pluginsdk.Stream) (string, error) {
	var all strings.Builder
	var to *pluginsdk.Stream
	if t.HasStream {
		var err error
		if to, err = t.CreateStream(ctx, pluginsdk.StreamOptions{}); err != nil {
			return "", err
		}
	}
	for piece, err := range from.Text() {
		if err != nil {
			return "", err
		}
		piece = strings.ToUpper(piece)
		all.WriteString(piece)
		if to != nil {
			if err := to.WriteText(piece); err != nil {
				return "", err
			}
		}
	}
	if to != nil {
		return all.String(), to.End(ctx)
	}
	return all.String(), nil
}
