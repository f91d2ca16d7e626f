package supervisor

import (
	"bytes"
	"cmp"
	"fmt"
	"os"
	"slices"
	"strconv"
	"time"

	"github.com/blocksd/blocksd/internal/shell"
	"github.com/blocksd/blocksd/supervisor/logpump"
	"github.com/blocksd/blocksd/supervisor/plug"
	"github.com/blocksd/blocksd/supervisor/unit"
)

// HandlerStatus is a handler as users see it.
type HandlerStatus struct {
	Name  string
	State string // one of the states of unit
	// Reason why it is not ready, in one sentence; "" when it is.
	Reason       string
	Path, SHA256 string
	// Notice says in one sentence why it does not run what it should, "" when it does.
	Notice string
	// Skipped are limits that this machine does not keep as wished, one sentence each.
	Skipped []string
	// Isolation is one of launch's levels, "" before the first start; Open is what it does not keep away on this machine, one
	// sentence each.
	Isolation string
	Open      []string
	// Crash is what is known of the last process that ended without being asked to; nil when there was none.
	Crash      *logpump.Crash
	Generation int64  // counts the binaries that it has had, from 1
	Restarts   int64  // after a failure, since the daemon started
	Version    string // as it says itself, "" when it says none or has not run yet
	Processes  []ProcessStatus
}

// ProcessStatus is one process of a handler.
type ProcessStatus struct {
	PID       int
	State     string
	Running   int // tasks
	StartedAt time.Time
	RSSBytes  int64 // resident memory; 0 when unknown
	// CPUTime is what it has used where /proc does not say it; 0 when unknown.
	CPUTime time.Duration
}

// Status of all handlers, in the order of the configuration.
func (f *Fleet) Status() []HandlerStatus {
	order := f.all()
	all := make([]HandlerStatus, len(order))
	for i, h := range order {
		all[i] = h.status()
	}
	return all
}

func (h *handler) status() HandlerStatus {
	h.mu.Lock()
	g, state := h.currentLocked(), h.rollout.State()
	s := HandlerStatus{
		Name: h.name, State: state.String(), Reason: g.reason, Notice: h.noticeLocked(), Path: g.config.Path, SHA256: g.sum,
		Generation: g.number, Restarts: h.rollout.Restarts(), Skipped: g.skipped, Isolation: g.isolation, Open: g.open,
	}
	if c, ok := h.fleet.buffer.Crash(h.name); ok {
		s.Crash = &c
	}
	if conn := g.anyConnLocked(); conn != nil {
		s.Version = conn.Description().Version
	}
	var conns []*plug.Conn // of the processes
	for _, g := range h.generationsLocked() {
		ids := make([]int64, 0, len(g.processes))
		for id, p := range g.processes {
			if p.conn != nil { // else it has no number yet, or not one that means anything
				ids = append(ids, id)
			}
		}
		slices.Sort(ids)
		for _, id := range ids {
			p := g.processes[id]
			conns = append(conns, p.conn)
			s.Processes = append(s.Processes, ProcessStatus{PID: p.pidLocked(), State: h.rollout.ProcessState(g.id, id).String(), Running: h.queue.Running(p), StartedAt: p.startedAt})
		}
	}
	hopeless := g.hopeless
	h.mu.Unlock()

	switch {
	case state == unit.Ready, state == unit.Idle:
		s.Reason = ""
	case state == unit.Quarantined && hopeless:
		s.Reason = fmt.Sprintf("%s; it is tried again every %s, and when its file or its settings change", s.Reason, inWords(g.config.Restart.Filled().ProbeEvery))
	case state == unit.Quarantined:
		s.Reason = fmt.Sprintf("%s; it failed too often and is tried again every %s, when its file or its settings change, and by blocksd restart %s", s.Reason, inWords(g.config.Restart.Filled().ProbeEvery), shell.Word(h.name))
	case s.Reason == "":
		s.Reason = fmt.Sprintf("handler %s is %v", h.name, state)
	}
	if s.SHA256 == "" {
		s.SHA256 = cmp.Or(g.config.Content, g.config.SHA256)
	}
	for i := range s.Processes {
		p := &s.Processes[i]
		if p.RSSBytes = residentBytes(p.PID); p.RSSBytes == 0 { // processes of other users may be hidden
			p.RSSBytes = conns[i].ResidentBytes()
			p.CPUTime, _ = conns[i].CPUTime()
		}
	}
	return s
}

// noticeLocked says in one sentence why the handler does not run what it should, "" when it does.
func (h *handler) noticeLocked() string {
	if h.rollout.Rejected() {
		return h.notice
	}
	if next := h.rollout.Next(); next != 0 && h.rollout.Failures(next) > 0 {
		g := h.generations[next]
		return fmt.Sprintf("handler %s goes on with its running program while the replacement%s does not start: %s", h.name, short(g.config.Content), g.reason)
	}
	return ""
}

// residentBytes reads the second number of /proc/PID/statm, in pages.
func residentBytes(pid int) int64 {
	if pid == 0 {
		return 0
	}
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/statm")
	if err != nil {
		return 0
	}
	fields := bytes.Fields(b)
	if len(fields) < 2 {
		return 0
	}
	pages, _ := strconv.ParseInt(string(fields[1]), 10, 64)
	return pages * int64(os.Getpagesize())
}

// inWords is a duration for a sentence.
func inWords(d time.Duration) string {
	if d >= 2*time.Minute && d%time.Minute == 0 {
		return fmt.Sprintf("%d minutes", d/time.Minute)
	}
	return d.String()
}
