package metrics

import (
	"bytes"
	"maps"
	"os"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// agentStates are all that an agent may be in; the one it is in is 1, the others 0.
var agentStates = []string{"connecting", "online", "draining", "offline", "failed"}

// state collects how things are: it asks once for each scrape.
type state struct {
	m   *Metrics
	cpu cpuTimes

	ready, agentState, keyEnds    *prometheus.Desc
	tasks, running                *prometheus.Desc
	processes, memory, cpuSeconds *prometheus.Desc
	outbox, oldest, missed        *prometheus.Desc
}

func newState(m *Metrics) *state {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("blocksd_"+name, help, labels, nil)
	}
	return &state{
		m: m, cpu: cpuTimes{read: processSeconds, last: map[int]float64{}, sums: map[string]float64{}},

		ready:      desc("ready", "1 when every agent that is served is online."),
		agentState: desc("agent_state", "1 for the state that the agent is in, 0 for the others.", "agent", "state"),
		keyEnds:    desc("api_key_end_timestamp_seconds", "When the API key of the agent ends, where that is known.", "agent"),
		tasks:      desc("tasks_total", "Tasks that have ended, by outcome: completed, failed, canceled, refused.", "agent", "outcome"),
		running:    desc("tasks_running", "Tasks that hold a slot.", "agent"),
		processes:  desc("handler_processes", "Processes of the handler, by state.", "handler", "state"),
		memory:     desc("handler_memory_bytes", "Resident memory of all processes of the handler.", "handler"),
		cpuSeconds: desc("handler_cpu_seconds_total", "CPU time of the processes of the handler and of the children that they have waited for.", "handler"),
		outbox:     desc("outbox_terminals", "Outcomes that the network has not acknowledged yet."),
		oldest:     desc("outbox_oldest_seconds", "How long the oldest of them has waited."),
		missed:     desc("events_missed_total", "Events that watchers were too slow for, counted for each watcher."),
	}
}

// Describe implements prometheus.Collector.
func (s *state) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		s.ready, s.agentState, s.keyEnds, s.tasks, s.running, s.processes, s.memory, s.cpuSeconds, s.outbox, s.oldest, s.missed,
	} {
		out <- d
	}
	s.m.streams.Describe(out)
}

// Collect implements prometheus.Collector.
func (s *state) Collect(out chan<- prometheus.Metric) {
	now := s.m.cfg.Snapshot()
	for i := range now.Agents {
		now.Agents[i].Name = label(now.Agents[i].Name)
	}
	for i := range now.Handlers {
		now.Handlers[i].Name = label(now.Handlers[i].Name)
	}
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	counter := func(d *prometheus.Desc, v float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, v, labels...)
	}
	gauge(s.ready, oneIf(now.Ready))
	for _, a := range now.Agents {
		for _, state := range agentStates {
			gauge(s.agentState, oneIf(a.State == state), a.Name, state)
		}
		if !a.KeyEnds.IsZero() {
			gauge(s.keyEnds, float64(a.KeyEnds.Unix()), a.Name)
		}
		gauge(s.running, float64(a.Running), a.Name)
		counter(s.tasks, float64(a.Completed), a.Name, "completed")
		counter(s.tasks, float64(a.Failed), a.Name, "failed")
		counter(s.tasks, float64(a.Canceled), a.Name, "canceled")
		counter(s.tasks, float64(a.Refused), a.Name, "refused")
		for _, inbound := range []bool{false, true} { // so that both are there from the beginning
			s.m.streams.WithLabelValues(a.Name, direction(inbound))
		}
	}
	s.m.streams.Collect(out)
	cpu := s.cpu.update(now.Handlers)
	for _, h := range now.Handlers {
		states, memory := map[string]int{"ready": 0}, int64(0)
		for _, p := range h.Processes {
			states[p.State]++
			memory += p.RSSBytes
		}
		for _, state := range slices.Sorted(maps.Keys(states)) {
			gauge(s.processes, float64(states[state]), h.Name, state)
		}
		gauge(s.memory, float64(memory), h.Name)
		counter(s.cpuSeconds, cpu[h.Name], h.Name)
	}
	gauge(s.outbox, float64(now.Outbox))
	oldest := 0.0
	if !now.OldestOutcome.IsZero() {
		oldest = max(0, time.Since(now.OldestOutcome).Seconds())
	}
	gauge(s.oldest, oldest)
	counter(s.missed, float64(now.EventsMissed))
}

func oneIf(is bool) float64 {
	if is {
		return 1
	}
	return 0
}

// cpuTimes adds up the CPU time of handlers over processes that come and go. What a process used between the last scrape
// and its end is lost.
type cpuTimes struct {
	read func(pid int) (seconds float64, ok bool)

	mu   sync.Mutex // guards what follows: scrapes may be concurrent
	last map[int]float64
	sums map[string]float64
}

func (c *cpuTimes) update(handlers []Handler) map[string]float64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	seen, sums := map[int]float64{}, map[string]float64{}
	for _, h := range handlers {
		sum := c.sums[h.Name]
		for _, p := range h.Processes {
			seconds, ok := c.read(p.PID)
			if !ok {
				seconds = p.CPUSeconds
			}
			if !ok && seconds == 0 {
				continue
			}
			if last := c.last[p.PID]; last <= seconds {
				sum += seconds - last
			} else { // another process with the number of an old one
				sum += seconds
			}
			seen[p.PID] = seconds
		}
		sums[h.Name] = sum
	}
	c.last, c.sums = seen, sums
	return sums
}

// ticksPerSecond of the times in /proc: a constant of Linux, whatever its real clock is.
const ticksPerSecond = 100

// processSeconds reads the CPU time of a process and of its children that have ended.
func processSeconds(pid int) (seconds float64, ok bool) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0, false
	}
	// The name of the program, in brackets, may hold anything; the state follows it.
	fields := bytes.Fields(b[bytes.LastIndexByte(b, ')')+1:])
	const first, count = 11, 4 // utime, stime, cutime, cstime
	if len(fields) < first+count {
		return 0, false
	}
	for _, f := range fields[first : first+count] {
		n, err := strconv.ParseInt(string(f), 10, 64)
		if err != nil {
			return 0, false
		}
		seconds += float64(n) / ticksPerSecond
	}
	return seconds, true
}
