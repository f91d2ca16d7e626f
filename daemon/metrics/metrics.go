// Package metrics counts what a daemon does, for Prometheus, and answers those who watch whether it is healthy. What happens
// comes from the event bus; how things are is asked at each scrape.
package metrics

import (
	"context"
	"errors"
	"log/slog"
	"runtime"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/blocksd/blocksd/event"
)

// Config of Metrics. Events, Snapshot and Log are required.
type Config struct {
	Version string
	Events  *event.Bus
	// Snapshot says how things are. It must not block.
	Snapshot func() Snapshot
	Log      *slog.Logger
}

// Snapshot is a daemon as it is now.
type Snapshot struct {
	Ready bool
	// Reasons say why it is not, one sentence each.
	Reasons  []string
	Agents   []Agent
	Handlers []Handler
	// OldestOutcome is since when an outcome waits for the network, zero when none does.
	OldestOutcome time.Time
	Outbox        int64
	EventsMissed  uint64
}

// Agent is one agent, with its tasks since the daemon began to serve it.
type Agent struct {
	Name, State                          string
	Running                              int
	Completed, Failed, Canceled, Refused int64
	// KeyEnds is when its API key ends; zero for never, and where nobody knows.
	KeyEnds time.Time
}

// Handler is one handler.
type Handler struct {
	Name      string
	Processes []Process
}

// Process is one process of a handler.
type Process struct {
	PID      int
	State    string
	RSSBytes int64
	// CPUSeconds counts where /proc does not say what the process has used; 0 when unknown.
	CPUSeconds float64
}

// The phases of a task, in the order in which they come. Total is from its arrival until the network has its outcome.
const (
	phaseAdmit   = "admit"
	phaseQueue   = "queue"
	phaseHandler = "handler"
	phasePublish = "publish"
	phaseTotal   = "total"
)

// Buckets in seconds: tasks take from a millisecond to an hour, writes and publishes from a tenth of a millisecond to ten
// seconds.
var (
	taskBuckets = []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 3600}
	stepBuckets = []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10}
)

// Metrics of one daemon. Its methods are safe for concurrent use; Run must be running for the events to count.
type Metrics struct {
	cfg      Config
	registry *prometheus.Registry
	reader   *event.Reader

	phases    *prometheus.HistogramVec
	restarts  *prometheus.CounterVec
	streams   *prometheus.CounterVec
	commits   prometheus.Histogram
	publishes prometheus.Histogram
}

// New returns metrics with a registry of their own. Close must follow, or Run.
func New(cfg Config) (*Metrics, error) {
	if cfg.Events == nil || cfg.Snapshot == nil || cfg.Log == nil {
		return nil, errors.New("metrics need the event bus, a snapshot of the daemon and a log")
	}
	m := &Metrics{
		cfg: cfg, registry: prometheus.NewRegistry(),
		phases: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "blocksd_task_duration_seconds", Help: "How long tasks took, by phase: admit, queue, handler, publish, total.", Buckets: taskBuckets,
		}, []string{"agent", "phase"}),
		restarts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "blocksd_handler_restarts_total", Help: "Handler processes that ended without being asked to, by reason.",
		}, []string{"handler", "reason"}),
		streams: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "blocksd_stream_bytes_total", Help: "Bytes of live streams, by direction: inbound or outbound.",
		}, []string{"agent", "direction"}),
		commits: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "blocksd_journal_commit_seconds", Help: "How long writes of the journal took.", Buckets: stepBuckets,
		}),
		publishes: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "blocksd_publish_seconds", Help: "How long messages took until the network had acknowledged them.", Buckets: stepBuckets,
		}),
	}
	build := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "blocksd_build_info", Help: "The version of blocksd; always 1.",
		ConstLabels: prometheus.Labels{"version": cfg.Version, "goversion": runtime.Version()},
	}, func() float64 { return 1 })
	for _, c := range []prometheus.Collector{
		build, m.phases, m.restarts, m.commits, m.publishes, newState(m),
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	} {
		if err := m.registry.Register(c); err != nil {
			return nil, err
		}
	}
	m.reader = cfg.Events.Follow(event.TaskAccepted, event.TaskStarted, event.TaskEnded, event.ProcessExited)
	return m, nil
}

// Close ends metrics that were not run.
func (m *Metrics) Close() { m.reader.Close() }

// Committed counts one write of the journal.
func (m *Metrics) Committed(took time.Duration) { m.commits.Observe(took.Seconds()) }

// Published counts one message that the network has acknowledged.
func (m *Metrics) Published(took time.Duration) { m.publishes.Observe(took.Seconds()) }

// Delivered counts the outcome of a task that the network has acknowledged.
func (m *Metrics) Delivered(agent, _ string, took, total time.Duration) {
	m.observe(agent, phasePublish, took)
	m.observe(agent, phaseTotal, total)
}

// Streamed counts bytes of a live stream. inbound is towards the handler.
func (m *Metrics) Streamed(agent string, inbound bool, bytes int) {
	m.streams.WithLabelValues(label(agent), direction(inbound)).Add(float64(bytes))
}

// label makes a name fit to be a label: file names may hold any bytes.
func label(name string) string { return strings.ToValidUTF8(name, "\uFFFD") }

func direction(inbound bool) string {
	if inbound {
		return "inbound"
	}
	return "outbound"
}

func (m *Metrics) observe(agent, phase string, took time.Duration) {
	m.phases.WithLabelValues(label(agent), phase).Observe(max(0, took.Seconds()))
}

// maxOpen bounds the tasks whose beginning is remembered.
const maxOpen = 1 << 16

// Run counts what happens until ctx ends.
func (m *Metrics) Run(ctx context.Context) error {
	defer m.reader.Close()
	open := map[string]openTask{} // by their ids
	for {
		item, err := m.reader.Next(ctx)
		if err != nil {
			return nil
		}
		if item.Missed > 0 || len(open) >= maxOpen { // their ends may have been missed
			clear(open)
		}
		m.count(item.Event, open)
	}
}

// openTask is a task that has not ended.
type openTask struct {
	phase string    // queue or handler
	since time.Time // when that began
}

func (m *Metrics) count(e event.Event, open map[string]openTask) {
	task, known := open[e.TaskID]
	if known && (e.Type == event.TaskStarted || e.Type == event.TaskEnded) {
		m.observe(e.Agent, task.phase, e.Time.Sub(task.since))
	}
	switch e.Type {
	case event.TaskAccepted:
		m.observe(e.Agent, phaseAdmit, e.Duration)
		open[e.TaskID] = openTask{phaseQueue, e.Time}
	case event.TaskStarted:
		open[e.TaskID] = openTask{phaseHandler, e.Time}
	case event.TaskEnded:
		delete(open, e.TaskID)
	case event.ProcessExited:
		if e.Level < slog.LevelError { // it was asked to
			return
		}
		reason := "unknown"
		for _, d := range e.Details {
			if d.Key == "reason" {
				reason = d.Value.String()
			}
		}
		m.restarts.WithLabelValues(label(e.Handler), label(reason)).Inc()
	}
}
