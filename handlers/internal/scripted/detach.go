package main

import (
	"context"
	"encoding/json"
	"time"

	"github.com/blocksd/blocksd/pluginsdk"
)

// detachStep is the argument of the step "detach".
type detachStep struct {
	Name  string
	Chunk json.RawMessage
	// Count of writes after the handler has returned, Every so many seconds; without a count they go on until the task
	// is over.
	Count int
	Every float64
	// Fail is the error that the task ends with after the last one; without it the task is completed.
	Fail string
}

// detach has a pipe task go on after its handler has returned: the chunk is written again and again, then the task ends.
func (w *work) detach(a detachStep) error {
	// The context of the handler ends when it returns, so the stream needs another one.
	s, err := w.CreateStream(context.Background(), pluginsdk.StreamOptions{Declared: a.Name})
	if err != nil {
		return err
	}
	task := w.Task
	go func() {
		for n := 0; a.Count == 0 || n < a.Count; n++ {
			time.Sleep(duration(a.Every))
			if writeChunk(s, a.Chunk) != nil {
				return // the task is over
			}
		}
		var why error
		if a.Fail != "" {
			why = failure(a.Fail)
		}
		for range 1000 {
			if task.EndTask(context.Background(), why) == nil {
				return
			}
			time.Sleep(10 * time.Millisecond) // its result is still on the way
		}
	}()
	return nil
}

type failure string

func (f failure) Error() string { return string(f) }
