package supervisor

import (
	"fmt"

	"github.com/blocksd/blocksd/supervisor/rollout"
	"github.com/blocksd/blocksd/supervisor/unit"
)

// carryOutLocked carries out what the rollout decided because of an event. It may return an event that follows from it.
func (h *handler) carryOutLocked(a rollout.Action, because rollout.Event) (rollout.Event, bool) {
	g := h.generations[a.Generation]
	switch a.Kind {
	case rollout.NewGeneration:
		h.addLocked(a.Generation, a.Program.ID, h.wanted)
		if h.rollout.Next() == a.Generation {
			h.emitStarting(h.generations[a.Generation])
		}
	case rollout.TakeOver:
		h.notice = ""
		h.queue.SetLimits(g.config.queueLimits())
		h.emitDone(g)
		if conn := g.anyConnLocked(); conn != nil {
			h.work.Go(func() { g.announce(conn) })
		}
	case rollout.GiveUp:
		h.notice = fmt.Sprintf("handler %s goes on with its running program%s because the replacement%s does not start: %s",
			h.name, short(h.currentLocked().config.Content), short(g.config.Content), g.reason)
		h.emitRejected(h.notice)
	case rollout.Supersede:
		h.emitSuperseded(g, because.Kind)
	case rollout.Quarantine:
		h.emitQuarantine(g)
	case rollout.Forget:
		g.disarmLocked()
		delete(h.generations, g.id)
	case rollout.ForUnit:
		return g.carryOutLocked(a.Unit)
	}
	return rollout.Event{}, false
}

// carryOutLocked carries out what the unit of the generation decided.
func (g *generation) carryOutLocked(a unit.Action) (rollout.Event, bool) {
	p := g.processes[a.Process]
	switch a.Kind {
	case unit.StartProcess:
		g.startLocked(a.Process)
	case unit.SetTimer:
		g.armLocked(a.At)
	}
	if p == nil {
		return rollout.Event{}, false
	}
	switch a.Kind {
	case unit.DrainProcess:
		p.drainLocked()
		if h := g.h; h.queue.Running(p) == 0 {
			return g.event(unit.Event{Kind: unit.ProcessIdle, Process: p.id}), true
		}
	case unit.StopProcess:
		p.stopLocked()
	case unit.KillProcess:
		p.killLocked()
	}
	return rollout.Event{}, false
}

// short is how texts name a content.
func short(sum string) string {
	if len(sum) < 12 {
		return ""
	}
	return " (" + sum[:12] + ")"
}
