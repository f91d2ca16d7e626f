package blocks

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/blocksd/blocksd/client"
)

func (w *work) rows() ([]string, error) {
	w.Who = "stranger"
	c, err := w.client(w.ctx, w.Who)
	if err != nil {
		return nil, err
	}
	var sent []string
	for range 3 {
		_, s, err := w.send()
		if err != nil {
			return nil, err
		}
		_, err = s.Wait(w.ctx)
		s.Close()
		if err != nil {
			return nil, err
		}
		if err := w.awaitRow(c, s.TaskID(), client.Completed); err != nil {
			return nil, err
		}
		sent = append(sent, s.TaskID())
	}
	row, err := c.Task(w.ctx, sent[0])
	if err != nil {
		return nil, err
	}
	boolean := map[bool]string{true: "True", false: "False"}
	said := []string{fmt.Sprintf("row %s %s %s %s %s", row.Agent, row.Owner, row.State, boolean[row.CreatedAt != ""], boolean[row.UpdatedAt != ""])}
	var seen []string
	pages, filter := 0, client.TaskFilter{Agent: w.Agent, State: client.Completed, Limit: 2}
	for {
		page, next, err := c.Tasks(w.ctx, filter)
		if err != nil {
			return nil, err
		}
		for _, t := range page {
			seen = append(seen, t.ID)
		}
		pages++
		if filter.Cursor = next; next == "" {
			break
		}
	}
	all := 0
	for t, err := range c.AllTasks(w.ctx, client.TaskFilter{Agent: w.Agent, State: client.Completed, Limit: 2}) {
		if err != nil || !slices.Contains(sent, t.ID) {
			return nil, fmt.Errorf("AllTasks: %+v, %w", t, err)
		}
		all++
	}
	slices.Sort(sent)
	slices.Sort(seen)
	said = append(said, fmt.Sprintf("all listed once %s on %d pages of %d", boolean[slices.Equal(sent, seen)], pages, all))
	failed, _, err := c.Tasks(w.ctx, client.TaskFilter{Agent: w.Agent, State: client.Failed})
	return append(said, fmt.Sprintf("failed ones %d", len(failed))), err
}

// awaitRow waits until the table of tasks says what the events have said already.
func (w *work) awaitRow(c *client.Client, id string, state client.State) error {
	for {
		row, err := c.Task(w.ctx, id)
		if err != nil || row.State == state {
			return err
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-w.ctx.Done():
			return fmt.Errorf("the row of task %s says %s, not %s: %w", id, row.State, state, w.ctx.Err())
		}
	}
}

func (w *work) card() ([]string, error) {
	c, err := w.client(w.ctx, w.Who)
	if err != nil {
		return nil, err
	}
	found, err := c.AgentCard(w.ctx, w.Agent)
	if _, none := errors.AsType[*client.NotFoundError](err); none {
		return []string{"no card"}, nil
	}
	return []string{found.DisplayName}, err
}

func (w *work) many() ([]string, error) {
	first := *w
	first.Steps = w.First
	_, holder, err := first.send()
	if err != nil {
		return nil, err
	}
	sessions := []*client.Session{holder}
	defer func() {
		for _, s := range sessions {
			s.Close()
		}
	}()
	if _, err := w.follow(holder, "status ready"); err != nil {
		return nil, err
	}
	queued := 0
	for range w.Count {
		_, s, err := w.send()
		if err != nil {
			return nil, err
		}
		sessions = append(sessions, s)
		if s.Queued() {
			queued++
		}
	}
	if err := holder.Cancel(w.ctx); err != nil {
		return nil, err
	}
	var ends []string
	for _, s := range sessions {
		end, err := s.Wait(w.ctx)
		if err != nil {
			return nil, err
		}
		ends = append(ends, string(end.State))
	}
	return []string{fmt.Sprintf("queued %d", queued), "ends " + asPythonList(ends)}, nil
}

func (w *work) started() ([]string, error) {
	_, s, err := w.send()
	if err != nil {
		return nil, err
	}
	defer s.Close()
	_, err = w.follow(s, "status ready")
	return []string{s.TaskID()}, err
}

func (w *work) endOf() ([]string, error) {
	c, err := w.client(w.ctx, w.Who)
	if err != nil {
		return nil, err
	}
	s, err := c.Connect(w.ctx, w.Task)
	if err != nil {
		return nil, err
	}
	defer s.Close()
	end, err := s.Wait(w.ctx)
	return []string{"ends " + string(end.State)}, err
}
