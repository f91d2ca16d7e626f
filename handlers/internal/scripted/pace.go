package main

import (
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/blocksd/blocksd/pluginsdk"
)

// paceStep is the argument of the step "pace".
type paceStep struct {
	Name string
	// Streams is how many streams are open at once, 1 when it is left out.
	Streams int
	// Size bytes are written to each, Every so many seconds, Count times or until the task ends.
	Size, Count int
	Every       float64
}

// pace writes to many streams at a steady rate.
func (w *work) pace(a paceStep) error {
	var all sync.WaitGroup
	errs := make(chan error, 1)
	for i := range max(1, a.Streams) {
		s, err := w.CreateStream(w.ctx, pluginsdk.StreamOptions{Declared: a.Name})
		if err != nil {
			return err
		}
		all.Go(func() {
			// Spread over the interval.
			every := duration(a.Every)
			time.Sleep(every * time.Duration(i) / time.Duration(max(1, a.Streams)))
			if err := w.keepPace(s, a, every); err != nil {
				select {
				case errs <- err:
				default:
				}
			}
		})
	}
	w.Status(fmt.Sprintf("%d streams", max(1, a.Streams)))
	all.Wait()
	select {
	case err := <-errs:
		return err
	default:
		return nil
	}
}

// clockStep is the argument of the step "clock".
type clockStep struct {
	Name  string
	Count int
	Every float64
}

// clock writes the time, now and then, as seconds since 1970.
func (w *work) clock(a clockStep) error {
	s, err := w.CreateStream(w.ctx, pluginsdk.StreamOptions{Declared: a.Name})
	if err != nil {
		return err
	}
	for range a.Count {
		time.Sleep(duration(a.Every))
		if err := s.WriteEvent(map[string]any{"now": float64(time.Now().UnixNano()) / 1e9}); err != nil {
			return err
		}
	}
	return s.End(w.ctx)
}

func (w *work) keepPace(s *pluginsdk.Stream, a paceStep, every time.Duration) error {
	text := strings.Repeat("x", a.Size)
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for n := 0; a.Count == 0 || n < a.Count; n++ {
		var err error
		if s.Format == pluginsdk.EventsFormat {
			err = s.WriteEvent(map[string]any{"n": n, "text": text})
		} else {
			err = s.WriteText(text)
		}
		if err != nil {
			return err
		}
		select {
		case <-ticker.C:
		case <-w.ctx.Done():
			return nil
		}
	}
	return nil
}
