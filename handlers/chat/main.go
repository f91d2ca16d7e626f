// Command chat is the reference handler of the agent "chat": a conversation over several tasks. What it answers is not
// clever; it shows where what was said before is kept, and how an answer is streamed while it is made.
package main

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/blocksd/blocksd/pluginsdk"
)

//go:embed agent-card.json
var card []byte

func main() {
	m := newMemory(maxConversations)
	pluginsdk.Serve(pluginsdk.Handler{Name: "chat", Version: "0.1.0", Cards: [][]byte{card}, Run: m.run})
}

// pause between two words, as if somebody thought.
const pause = 20 * time.Millisecond

func (m *memory) run(ctx context.Context, t *pluginsdk.Task) error {
	text, _ := t.Text("request")
	if text = strings.TrimSpace(text); text == "" {
		return errors.New("say something: the input \"request\" is empty")
	}
	name, _ := t.Text("conversation")
	// The owner is who calls: nobody reads the conversations of others.
	reply := answer(m.say(key{t.OrgID, t.OwnerID, name}, text))
	if t.HasStream {
		if err := speak(ctx, t, reply); err != nil {
			return err
		}
	}
	return t.Send(pluginsdk.Artifact{OutputID: "reply", MIMEType: "text/plain", Data: []byte(reply)})
}

func speak(ctx context.Context, t *pluginsdk.Task, reply string) error {
	s, err := t.CreateStream(ctx, pluginsdk.StreamOptions{})
	if err != nil {
		return err
	}
	for word := range strings.SplitAfterSeq(reply, " ") {
		if err := s.WriteText(word); err != nil {
			return err
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil // the stream ends with the task
}

// answer is said to the last of what was said.
func answer(said []string) string {
	last := said[len(said)-1]
	if len(said) == 1 {
		return fmt.Sprintf("You said %q, and that is the first thing you tell me.", last)
	}
	return fmt.Sprintf("You said %q. Before that, you said %q. That makes %d messages.", last, said[len(said)-2], len(said))
}
