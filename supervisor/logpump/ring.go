package logpump

import (
	"slices"
	"sync"
)

// ring keeps the last lines of a process for its crash record, each one cut.
type ring struct {
	mu    sync.Mutex
	lines []string // guarded by mu
	next  int      // guarded by mu; where the next line goes once lines is full
	size  int
}

// ringLine is how much of a line the ring keeps, in bytes.
const ringLine = 2 << 10

func (r *ring) add(line []byte) {
	if len(line) > ringLine {
		line = line[:ringLine]
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.lines) < r.size {
		r.lines = append(r.lines, string(line))
		return
	}
	r.lines[r.next] = string(line)
	r.next = (r.next + 1) % r.size
}

// last returns up to n lines, oldest first.
func (r *ring) last(n int) []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := make([]string, 0, len(r.lines))
	all = append(all, r.lines[r.next:]...)
	all = append(all, r.lines[:r.next]...)
	return all[max(0, len(all)-n):]
}

// panicLines of a panic or traceback are kept: its beginning says what happened, the rest is often every goroutine.
const panicLines = 60

// panicText is the beginning of the last panic.
type panicText struct {
	mu    sync.Mutex
	lines []string // guarded by mu
}

func (p *panicText) add(line []byte, first bool) {
	if len(line) > ringLine {
		line = line[:ringLine]
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if first {
		p.lines = nil
	}
	if len(p.lines) < panicLines {
		p.lines = append(p.lines, string(line))
	}
}

func (p *panicText) get() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.lines)
}
