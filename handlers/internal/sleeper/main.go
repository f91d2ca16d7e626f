// Command sleeper is a handler for tests, of the agent "sleeper": it sleeps as long as the request says.
package main

import (
	"context"
	_ "embed"
	"fmt"
	"strings"
	"time"

	"github.com/blocksd/blocksd/pluginsdk"
)

//go:embed agent-card.json
var card []byte

func main() {
	pluginsdk.Serve(pluginsdk.Handler{Name: "sleeper", Version: "0.1.0", Cards: [][]byte{card}, Idempotent: true, Run: run})
}

func run(ctx context.Context, t *pluginsdk.Task) error {
	text, _ := t.Text("request")
	d, err := time.ParseDuration(strings.TrimSpace(text))
	if err != nil {
		return fmt.Errorf("the request %q is not a duration such as 250ms", text)
	}
	t.Status("sleeping")
	select {
	case <-time.After(d):
		return t.Send(pluginsdk.Text("slept " + d.String()))
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
