package main

import (
	"slices"
	"sync"
	"time"

	"github.com/blocksd/blocksd/pluginsdk"
)

// broadcaster writes the broadcast while there are tasks that have it: all of them have the same stream, so it is written
// once, through the handle of any task.
type broadcaster struct {
	mu      sync.Mutex // guards what follows
	members []*member
	tick    int
	stop    chan struct{} // of the goroutine that writes; nil while there is none
}

// member is a task that has the broadcast.
type member struct{ write func(any) error }

// announcement is one event of the broadcast.
type announcement struct {
	Tick int    `json:"tick"`
	Kind string `json:"kind"`
}

// join has the broadcast written for as long as the task has it; the task must leave.
func (b *broadcaster) join(s *pluginsdk.Stream) (leave func()) {
	return b.add(&member{s.TryWriteEvent}, interval)
}

func (b *broadcaster) add(m *member, every time.Duration) (leave func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.members = append(b.members, m)
	if b.stop == nil {
		b.stop = make(chan struct{})
		go b.write(b.stop, every)
	}
	return func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.members = slices.DeleteFunc(b.members, func(o *member) bool { return o == m })
		if len(b.members) == 0 {
			close(b.stop)
			b.stop = nil
		}
	}
}

func (b *broadcaster) write(stop <-chan struct{}, every time.Duration) {
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		b.next()
		select {
		case <-ticker.C:
		case <-stop:
			return
		}
	}
}

// next writes one event through the first task that can: one may be ending.
func (b *broadcaster) next() {
	b.mu.Lock()
	members := slices.Clone(b.members)
	b.tick++
	a := announcement{b.tick, "broadcast"}
	b.mu.Unlock()
	for _, m := range members {
		if m.write(a) == nil {
			return
		}
	}
}
