package blocks

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/blocksd/blocksd/client"
)

func init() {
	operations = map[string]func(*work) ([]string, error){
		"task": (*work).task, "callbacks": (*work).callbacks, "replay": (*work).replay, "save": (*work).save,
		"connect_running": (*work).connectRunning, "connect_finished": (*work).connectFinished,
		"idempotent_finished": (*work).idempotentFinished, "idempotent_running": (*work).idempotentRunning, "idempotent_callers": (*work).idempotentCallers,
		"tokens": (*work).tokens, "error": (*work).error, "errors": (*work).errors, "cancel_finished": (*work).cancelFinished,
		"rows": (*work).rows, "card": (*work).card, "many": (*work).many, "started": (*work).started, "end_of": (*work).endOf,
		"read_stream": (*work).readStream, "joined_stream": (*work).joinedStream, "shared_stream": (*work).sharedStream,
		"write_stream": (*work).writeStream, "converse": (*work).converse, "late_stream": (*work).lateStream, "several_streams": (*work).severalStreams,
		"late_reader": (*work).lateReader, "symmetry": (*work).symmetry, "external_stream": (*work).externalStream,
	}
}

func (w *work) task() ([]string, error) {
	c, s, err := w.send()
	if err != nil {
		return nil, err
	}
	defer s.Close()
	if w.Then != nil {
		var then string
		if err := json.Unmarshal(w.Then, &then); err != nil {
			return nil, err
		}
		if _, err := w.follow(s, w.When); err != nil {
			return nil, err
		}
		if err := w.act(c, s, then); err != nil {
			return nil, err
		}
	}
	lines, err := w.outcome(c, s)
	if w.Brief {
		for i, l := range lines {
			lines[i], _, _ = strings.Cut(l, "=")
		}
	}
	return lines, err
}

// transcript answers with the events themselves.
func (w *work) transcript() (events []map[string]any, err error) {
	c, s, err := w.send()
	if err != nil {
		return nil, err
	}
	defer s.Close()
	var then []string
	if w.Then != nil {
		if err := json.Unmarshal(w.Then, &then); err != nil {
			return nil, err
		}
	}
	for _, what := range then {
		if _, err := w.follow(s, w.When); err != nil {
			return nil, err
		}
		if err := w.act(c, s, what); err != nil {
			return nil, err
		}
	}
	ctx := w.ctx
	if w.Patience > 0 {
		var cancel func()
		ctx, cancel = context.WithTimeout(ctx, time.Duration(w.Patience*float64(time.Second)))
		defer cancel()
	}
	for e, err := range s.Events(ctx) {
		if err != nil && w.Patience > 0 && ctx.Err() != nil && w.ctx.Err() == nil {
			return append(events, map[string]any{"type": "no end"}), nil
		}
		if err != nil {
			return nil, err
		}
		event, err := raw(e)
		if err != nil {
			return nil, err
		}
		events = append(events, event)
	}
	return events, nil
}

// eventsOf are the events of a task that somebody else may have sent.
func (w *work) eventsOf() (events []map[string]any, err error) {
	c, err := w.client(w.ctx, w.Who)
	if err != nil {
		return nil, err
	}
	s, err := c.Connect(w.ctx, w.Task)
	if err != nil {
		return nil, err
	}
	defer s.Close()
	for e, err := range s.Events(w.ctx) {
		if err != nil {
			return nil, err
		}
		event, err := raw(e)
		if err != nil {
			return nil, err
		}
		events = append(events, event)
	}
	return events, nil
}

// callbacks: there are none; what came after the beginning, by what the SDK's callbacks are called.
func (w *work) callbacks() (said []string, err error) {
	_, s, err := w.send()
	if err != nil {
		return nil, err
	}
	defer s.Close()
	if _, err := w.follow(s, "running 0"); err != nil { // before, a provider may end the task without its handler
		return nil, err
	}
	if err := s.Cancel(w.ctx); err != nil {
		return nil, err
	}
	for e, err := range s.Events(w.ctx) {
		if err != nil {
			return nil, err
		}
		event, err := raw(e)
		if err != nil {
			return nil, err
		}
		if l := line(event); e.Type != client.EventRequest && l != "running 0" {
			said = append(said, fmt.Sprintf("on_%s: %s", e.Type, l))
		}
	}
	return said, nil
}

func (w *work) replay() (said []string, err error) {
	_, s, err := w.send()
	if err != nil {
		return nil, err
	}
	defer s.Close()
	if _, err := s.Wait(w.ctx); err != nil {
		return nil, err
	}
	for e, err := range s.Events(w.ctx) {
		if err != nil {
			return nil, err
		}
		event, err := raw(e)
		if err != nil {
			return nil, err
		}
		switch e.Type {
		case client.EventArtifact:
			said = append(said, "on_artifact: "+line(event))
		case client.EventTerminal:
			said = append(said, "on_terminal: "+string(e.State))
		}
	}
	return said, nil
}

func (w *work) save() (said []string, err error) {
	c, s, err := w.send()
	if err != nil {
		return nil, err
	}
	defer s.Close()
	if _, err := s.Wait(w.ctx); err != nil {
		return nil, err
	}
	later, err := c.Connect(w.ctx, s.TaskID())
	if err != nil {
		return nil, err
	}
	defer later.Close()
	dir := w.t.TempDir()
	paths, err := later.Save(w.ctx, dir)
	for _, path := range paths {
		b, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		rel, err := filepath.Rel(dir, path)
		if err != nil {
			return nil, err
		}
		said = append(said, fmt.Sprintf("saved %s: %s", rel, shown(b)))
	}
	return said, err
}

func (w *work) connectRunning() ([]string, error) {
	c, s, err := w.send()
	if err != nil {
		return nil, err
	}
	defer s.Close()
	if _, err := w.follow(s, "status ready"); err != nil {
		return nil, err
	}
	other, err := c.Connect(w.ctx, s.TaskID())
	if err != nil {
		return nil, err
	}
	defer other.Close()
	said, err := w.follow(other, "status ready")
	if err != nil {
		return nil, err
	}
	before := len(said)
	if err := s.Cancel(w.ctx); err != nil {
		return nil, err
	}
	end, err := other.Wait(w.ctx)
	if err != nil {
		return nil, err
	}
	all, err := w.follow(other, "")
	if err != nil {
		return nil, err
	}
	said = append(append(said, "-- running"), all[before:]...)
	got, err := w.artifacts(other)
	return append(append(said, "state "+string(end.State)), got...), err
}

func (w *work) connectFinished() ([]string, error) {
	_, s, err := w.send()
	if err != nil {
		return nil, err
	}
	defer s.Close()
	if _, err := s.Wait(w.ctx); err != nil {
		return nil, err
	}
	who := w.Who2
	if who == "" {
		who = w.Who
	}
	c, err := w.client(w.ctx, who)
	if err != nil {
		return nil, err
	}
	other, err := c.Connect(w.ctx, s.TaskID())
	if err != nil {
		return nil, err
	}
	defer other.Close()
	said, err := w.follow(other, "")
	if err != nil {
		return nil, err
	}
	end, err := other.Wait(w.ctx)
	if err != nil {
		return nil, err
	}
	got, err := w.artifacts(other)
	return append(append(said, "state "+string(end.State)), got...), err
}

// again says how the second one of two sessions is related to the first one.
func again(first, second *client.Session) string {
	same := "other"
	if first.TaskID() == second.TaskID() {
		same = "same"
	}
	idempotent := "False"
	if second.Idempotent() {
		idempotent = "True"
	}
	return fmt.Sprintf("%s task, idempotent %s", same, idempotent)
}

func (w *work) idempotentFinished() ([]string, error) {
	_, first, err := w.send()
	if err != nil {
		return nil, err
	}
	defer first.Close()
	if _, err := first.Wait(w.ctx); err != nil {
		return nil, err
	}
	_, second, err := w.send()
	if err != nil {
		return nil, err
	}
	defer second.Close()
	end, err := second.Wait(w.ctx)
	return []string{again(first, second) + ", state " + string(end.State)}, err
}

func (w *work) idempotentRunning() ([]string, error) {
	_, first, err := w.send()
	if err != nil {
		return nil, err
	}
	defer first.Close()
	if _, err := w.follow(first, "status ready"); err != nil {
		return nil, err
	}
	_, second, err := w.send()
	if err != nil {
		return nil, err
	}
	defer second.Close()
	said := []string{again(first, second)}
	if err := second.Cancel(w.ctx); err != nil {
		return nil, err
	}
	for _, s := range []*client.Session{second, first} {
		end, err := s.Wait(w.ctx)
		if err != nil {
			return nil, err
		}
		said = append(said, "ends "+string(end.State))
	}
	return said, nil
}

func (w *work) idempotentCallers() ([]string, error) {
	_, first, err := w.send()
	if err != nil {
		return nil, err
	}
	defer first.Close()
	w.Who = w.Who2
	_, second, err := w.send()
	if err != nil {
		return nil, err
	}
	defer second.Close()
	said := []string{again(first, second)}
	for _, s := range []*client.Session{first, second} {
		end, err := s.Wait(w.ctx)
		if err != nil {
			return nil, err
		}
		said = append(said, string(end.State))
	}
	return said, nil
}
