package daemon

import (
	"context"
	"sync"
	"time"

	"github.com/blocksd/blocksd/daemon/metrics"
	"github.com/blocksd/blocksd/runtime/agent"
)

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

// closeMetrics is for a daemon that was not run.
func (d *Daemon) closeMetrics() error {
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
func (d *Daemon) meters() agent.Meters {
	if d.metrics == nil {
		return agent.Meters{}
	}
	return agent.Meters{Published: d.metrics.Published, Delivered: d.metrics.Delivered, Streamed: d.metrics.Streamed}
}

// snapshot is the daemon for the metrics.
func (d *Daemon) snapshot() metrics.Snapshot {
	s := metrics.Snapshot{EventsMissed: d.events.Missed()}
	slots, handlers := d.served.all(), d.fleet.Status()
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
			Completed: c.Completed, Failed: c.Failed, Canceled: c.Canceled, Refused: c.Refused,
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
