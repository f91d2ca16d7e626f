package blocks

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"
)

func (w *work) tokens() ([]string, error) {
	c, s, err := w.send()
	if err != nil {
		return nil, err
	}
	defer s.Close()
	said, err := w.outcome(c, s)
	if w.Who == "endpoint" {
		said = append(said, w.asked.first())
	}
	return append(said, "user "+c.UserID()), err
}

// fails does something that should fail, and returns its error.
func (w *work) fails() error {
	id := w.Task
	switch w.Does {
	case "create":
		c, err := w.newClient(w.ctx, w.Who)
		if err == nil {
			c.Close()
		}
		return err
	case "send":
		_, s, err := w.send()
		if err == nil {
			s.Close()
		}
		return err
	}
	if id == "" {
		mine := *w
		mine.Who = "free"
		_, s, err := mine.send()
		if err != nil {
			return fmt.Errorf("the task that it is about: %w", err)
		}
		_, err = s.Wait(w.ctx)
		s.Close()
		if err != nil {
			return fmt.Errorf("the task that it is about: %w", err)
		}
		id = s.TaskID()
	}
	c, err := w.client(w.ctx, w.Who)
	if err != nil {
		return err
	}
	switch w.Does {
	case "connect":
		s, err := c.Connect(w.ctx, id)
		if err == nil {
			s.Close()
		}
		return err
	case "get_task":
		_, err = c.Task(w.ctx, id)
	case "cancel_task":
		err = c.Cancel(w.ctx, id)
	}
	return err
}

func (w *work) error() ([]string, error) {
	mine := *w
	var sent atomic.Int64
	if w.Does != "create" {
		_, _ = w.client(w.ctx, w.Who) // what a new client asks for does not count
	}
	mine.ctx = context.WithValue(w.ctx, countKey{}, &sent)
	err := mine.fails()
	return []string{kindOf(err, sent.Load() > 0)}, nil
}

func (w *work) errors() (said []string, err error) {
	for range w.Times {
		once, err := w.error()
		if err != nil {
			return nil, err
		}
		said = append(said, once...)
	}
	return said, nil
}

func (w *work) cancelFinished() ([]string, error) {
	c, s, err := w.send()
	if err != nil {
		return nil, err
	}
	defer s.Close()
	if _, err := s.Wait(w.ctx); err != nil {
		return nil, err
	}
	before, err := w.history(c, s.TaskID())
	if err != nil {
		return nil, err
	}
	if err := s.Cancel(w.ctx); err != nil {
		return nil, err
	}
	after, err := w.history(c, s.TaskID())
	if err != nil {
		return nil, err
	}
	row, err := c.Task(w.ctx, s.TaskID())
	changed := "False"
	if !slices.Equal(before, after) {
		changed = "True"
	}
	return []string{"changed " + changed, "row " + string(row.State)}, err
}
