package daemon

import (
	"time"

	"github.com/blocksd/blocksd/daemon/metrics"
	"github.com/blocksd/blocksd/runtime/agent"
)

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
