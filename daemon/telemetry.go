package daemon

import (
	"cmp"
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/blocksd/blocksd/daemon/config"
	"github.com/blocksd/blocksd/daemon/metrics"
	"github.com/blocksd/blocksd/daemon/tracing"
	"github.com/blocksd/blocksd/runtime/agent"
)

// openTelemetry prepares what monitoring gets.
func (d *Daemon) openTelemetry(t config.Telemetry) error {
	if err := d.openTraces(t.Traces); err != nil {
		return err
	}
	return d.openMetrics(t.Listen)
}

// openMetrics opens the listener for monitoring, if there is to be one.
func (d *Daemon) openMetrics(address string) error {
	if address == "" {
		return nil
	}
	var err error
	if d.metricsListener, err = metrics.Listen(context.Background(), address); err != nil {
		return err
	}
	d.metrics, err = metrics.New(metrics.Config{Version: d.cfg.Version, Events: d.events, Snapshot: d.snapshot, Log: d.cfg.Log})
	return err
}

// closeTelemetry is for a daemon that was not run.
func (d *Daemon) closeTelemetry() error {
	if d.tracer != nil {
		d.tracer.Close()
	}
	if d.metrics == nil {
		return nil
	}
	d.metrics.Close()
	return d.metricsListener.Close()
}

// serveMetrics counts and answers until ctx ends. A listener that fails is said, and hinders nothing else.
func (d *Daemon) serveMetrics(ctx context.Context) {
	if d.metrics == nil {
		return
	}
	d.cfg.Log.Info("metrics are served", "listen", d.metricsListener.Addr().String())
	var counting sync.WaitGroup
	counting.Go(func() { _ = d.metrics.Run(ctx) })
	if err := d.metrics.Serve(ctx, d.metricsListener); err != nil {
		d.cfg.Log.Error("metrics are not served any more; all else goes on", "err", err)
	}
	counting.Wait()
}

// committed counts a write of the journal, if somebody counts.
func (d *Daemon) committed(took time.Duration) {
	if d.metrics != nil {
		d.metrics.Committed(took)
	}
}

// meters are what agents tell how long things take.
func (d *Daemon) meters() (m agent.Meters) {
	if d.metrics != nil {
		m = agent.Meters{Published: d.metrics.Published, Delivered: d.metrics.Delivered, Streamed: d.metrics.Streamed}
	}
	if counted := m.Delivered; d.tracer != nil {
		m.Delivered = func(agent, taskID string, took, total time.Duration) {
			d.tracer.Delivered(taskID)
			if counted != nil {
				counted(agent, taskID, took, total)
			}
		}
	}
	return m
}

// openTraces prepares the traces of tasks, if they are to be sent anywhere. Nobody has to be there yet.
func (d *Daemon) openTraces(endpoint string) error {
	if endpoint == "" {
		return nil
	}
	headers, err := tracing.Headers(d.cfg.Getenv("OTEL_EXPORTER_OTLP_HEADERS"))
	if err == nil {
		d.tracer, err = tracing.New(tracing.Config{
			Endpoint: endpoint, Headers: headers, Service: cmp.Or(d.cfg.Getenv("OTEL_SERVICE_NAME"), "blocksd"), Version: d.cfg.Version,
			Events: d.events, Log: d.cfg.Log,
		})
	}
	if err != nil {
		return fmt.Errorf("prepare the traces of tasks: %w: correct that, or leave telemetry.traces out", err)
	}
	return nil
}

// trace sends traces until ctx ends.
func (d *Daemon) trace(ctx context.Context) {
	if d.tracer != nil {
		d.tracer.Run(ctx)
	}
}

// snapshot is the daemon for the metrics.
func (d *Daemon) snapshot() metrics.Snapshot {
	s := metrics.Snapshot{EventsMissed: d.events.Missed()}
	slots, handlers := d.served.all(), d.fleet.Status()
	ends := map[string]time.Time{}
	for _, k := range d.keys.all() {
		for _, name := range k.agents {
			ends[name] = k.ends
		}
	}
	agents := make([]agent.Status, len(slots))
	for i, slot := range slots {
		a := slot.status()
		agents[i] = a
		c := a.Counts
		s.Outbox += c.Outbox
		if running := slot.get(); running != nil {
			if since := running.OldestOutcome(); s.OldestOutcome.IsZero() || !since.IsZero() && since.Before(s.OldestOutcome) {
				s.OldestOutcome = since
			}
		}
		s.Agents = append(s.Agents, metrics.Agent{
			Name: a.Name, State: a.State, Running: a.Running,
			Completed: c.Completed, Failed: c.Failed, Canceled: c.Canceled, Refused: c.Refused, KeyEnds: ends[a.Name],
		})
	}
	for _, h := range handlers {
		form := metrics.Handler{Name: h.Name}
		for _, p := range h.Processes {
			form.Processes = append(form.Processes, metrics.Process{PID: p.PID, State: p.State, RSSBytes: p.RSSBytes, CPUSeconds: p.CPUTime.Seconds()})
		}
		s.Handlers = append(s.Handlers, form)
	}
	ready, why := d.conditions(agents, handlers)
	s.Ready = ready
	for _, reason := range why {
		s.Reasons = append(s.Reasons, reason.Text())
	}
	return s
}
