package inside_test

import (
	"context"
	"encoding/base64"
	"fmt"
	"net/http"
	"testing"

	"github.com/blocksd/blocksd/e2e/internal/system"
)

// once looks at all that the network has of a task that has ended: one terminal, which is the last, and one start at most.
func once(ctx context.Context, t *testing.T, c *system.Consumer, task system.Submitted) {
	t.Helper()
	events, err := c.History(ctx, task)
	if err != nil {
		t.Fatal(err)
	}
	var story []string
	running, terminals, late := 0, 0, false
	for _, e := range events {
		story = append(story, fmt.Sprint(e.Type, " ", e.State, e.Message, e.Error))
		late = late || terminals > 0
		if e.Type == "terminal" {
			terminals++
		} else if e.Type == "progress" && e.State == "running" {
			running++
		}
	}
	if terminals != 1 || late || running > 1 {
		t.Errorf("task %s: %q", task.ID, story)
	}
}

// decode returns the text of an artifact that came in its event.
func decode(data string) string {
	if b, err := base64.StdEncoding.DecodeString(data); err == nil {
		return string(b)
	}
	return data
}

// httpClient for the administrator's side of the network.
func httpClient(t *testing.T) *http.Client {
	client := &http.Client{Transport: &http.Transport{}}
	t.Cleanup(client.CloseIdleConnections)
	return client
}
