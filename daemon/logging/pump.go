package logging

import (
	"io"
	"sync"
	"time"
)

// Limits of a Pump.
const (
	// maxWaiting bounds the bytes of the records that wait for the reader of the log.
	maxWaiting = 1 << 20
	// maxSpare bounds the room that is kept for the next records.
	maxSpare = 64 << 10
	// flushTimeout is how long Close waits for that reader.
	flushTimeout = 2 * time.Second
)

// Pump writes a log in a goroutine of its own. A reader of the log that stands still, a full pipe or a terminal that was
// stopped, must not stop the tasks, and they write records too. What it does
// not read in time is left out, and the log says how much that was.
type Pump struct {
	// Lost is called, if it is not nil, when records were left out and the reader reads again. It may write to the Pump.
	// It must be set before the first Write.
	Lost func(records int)

	w    io.Writer
	wake chan struct{} // capacity 1
	done chan struct{}

	mu      sync.Mutex // guards what follows; never held over a write to w
	waiting []byte
	lost    int
	closed  bool // Close was called
	ended   bool // nothing is written any more
}

// NewPump starts a pump to w, which gets whole records, sometimes several in one Write. Close must be called.
func NewPump(w io.Writer) *Pump {
	p := &Pump{w: w, wake: make(chan struct{}, 1), done: make(chan struct{})}
	go p.run()
	return p
}

// Write takes one record. It never waits and never fails.
func (p *Pump) Write(record []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.ended:
	case len(p.waiting)+len(record) > maxWaiting:
		p.lost++
		p.notify()
	default:
		p.waiting = append(p.waiting, record...)
		p.notify()
	}
	return len(record), nil
}

// Close writes what waits, for as long as it has patience, and ends the pump. What is written later is left out.
func (p *Pump) Close() {
	p.mu.Lock()
	p.closed = true
	p.notify()
	p.mu.Unlock()
	patience := time.NewTimer(flushTimeout)
	defer patience.Stop()
	select {
	case <-p.done:
	case <-patience.C: // the process ends, and the write with it
	}
}

func (p *Pump) notify() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

func (p *Pump) run() {
	defer close(p.done)
	var spare []byte
	for range p.wake {
		for {
			p.mu.Lock()
			batch, lost := p.waiting, p.lost
			p.waiting, p.lost = spare[:0], 0
			p.ended = p.closed && len(batch) == 0 && lost == 0
			ended := p.ended
			p.mu.Unlock()
			if ended {
				return
			}
			if len(batch) > 0 {
				_, _ = p.w.Write(batch) // there is nowhere to say that the log cannot be written
			}
			if lost > 0 && p.Lost != nil {
				p.Lost(lost)
			}
			if spare = batch; cap(spare) > maxSpare { // of a burst; mostly there is far less
				spare = nil
			}
			if len(batch) == 0 && lost == 0 {
				break
			}
		}
	}
}
