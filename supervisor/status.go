package supervisor

import (
	"bytes"
	"fmt"
	"os"
	"slices"
	"strconv"
	"time"

	"github.com/blocksd/blocksd/supervisor/unit"
)

// HandlerStatus is a handler as users see it.
type HandlerStatus struct {
	Name  string
	State string // one of the states of unit
	// Reason why it is not ready, in one sentence; "" when it is.
	Reason       string
	Path, SHA256 string
	Generation   int64 // counts the binaries that it has had, from 1
	Restarts     int64 // after a failure, since the daemon started
	Processes    []ProcessStatus
}

// ProcessStatus is one process of a handler.
type ProcessStatus struct {
	PID       int // 0 while it starts
	State     string
	Running   int // tasks
	StartedAt time.Time
	RSSBytes  int64 // resident memory; 0 when unknown
}

// Status of all handlers, in the order of the configuration.
func (f *Fleet) Status() []HandlerStatus {
	all := make([]HandlerStatus, len(f.order))
	for i, h := range f.order {
		all[i] = h.status()
	}
	return all
}

func (h *handler) status() HandlerStatus {
	h.mu.Lock()
	state := h.unit.State()
	s := HandlerStatus{
		Name: h.config.Name, State: state.String(), Reason: h.reason, Path: h.config.Path, Generation: h.generation, Restarts: h.unit.Restarts(),
	}
	ids := make([]int64, 0, len(h.processes))
	for id := range h.processes {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	for _, id := range ids {
		p := h.processes[id]
		s.Processes = append(s.Processes, ProcessStatus{PID: pid(p), State: h.unit.ProcessState(id).String(), Running: p.running, StartedAt: p.startedAt})
	}
	h.mu.Unlock()

	switch {
	case state == unit.Ready:
		s.Reason = ""
	case state == unit.Quarantined:
		s.Reason = fmt.Sprintf("%s; it failed too often and is tried again every %v", s.Reason, h.config.Restart.Filled().ProbeEvery)
	case s.Reason == "":
		s.Reason = fmt.Sprintf("handler %s is %v", h.config.Name, state)
	}
	if s.SHA256 = h.sum.last(); s.SHA256 == "" {
		s.SHA256 = h.config.SHA256
	}
	for i := range s.Processes {
		s.Processes[i].RSSBytes = residentBytes(s.Processes[i].PID)
	}
	return s
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
