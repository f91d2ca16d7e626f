// Command advancedstream is the reference handler of the agent "advanced_stream": events, bytes and a broadcast that all tasks
// share, in one task.
package main

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/blocksd/blocksd/pluginsdk"
)

//go:embed agent-card.json
var card []byte

func main() {
	b := &broadcaster{}
	pluginsdk.Serve(pluginsdk.Handler{Name: "advancedstream", Version: "0.1.0", Cards: [][]byte{card}, Run: b.run})
}

// interval is the time between two events, and between two events of the broadcast.
const interval = 500 * time.Millisecond

func (b *broadcaster) run(ctx context.Context, t *pluginsdk.Task) error {
	request, _ := t.Text("request")
	count, err := limit(request)
	if err != nil {
		return err
	}
	events, err := t.CreateStream(ctx, pluginsdk.StreamOptions{Declared: "events"})
	if err != nil {
		return err
	}
	lines, err := t.CreateStream(ctx, pluginsdk.StreamOptions{Declared: "bytes"})
	if err != nil {
		return err
	}
	shared, err := t.CreateStream(ctx, pluginsdk.StreamOptions{Declared: "broadcast"})
	if err != nil {
		return err
	}
	leave := b.join(shared)
	defer leave()
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for tick := 1; count == 0 || tick <= count; tick++ {
		if err := events.WriteEvent(event{tick, fmt.Sprintf("event #%d", tick), time.Now().UTC().Format(time.RFC3339Nano)}); err != nil {
			return err
		}
		if err := lines.WriteText(fmt.Sprintf("chunk %d\n", tick)); err != nil {
			return err
		}
		select {
		case <-ticker.C:
		case <-ctx.Done(): // cancelled, or the time is over
			return nil
		}
	}
	t.Complete()
	return nil
}

// event is one of the stream of events.
type event struct {
	Tick  int    `json:"tick"`
	Label string `json:"label"`
	At    string `json:"at"`
}

// limit reads how many events are wanted, 0 for as long as the task lasts.
func limit(request string) (int, error) {
	request = strings.TrimSpace(request)
	if request == "" {
		return 0, nil
	}
	n, err := strconv.Atoi(request)
	if err != nil || n < 1 {
		return 0, errors.New("the request is not a number from 1 on")
	}
	return n, nil
}
