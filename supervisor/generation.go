package supervisor

import (
	"time"

	"github.com/blocksd/blocksd/network/card"
	"github.com/blocksd/blocksd/supervisor/plug"
	"github.com/blocksd/blocksd/supervisor/rollout"
	"github.com/blocksd/blocksd/supervisor/unit"
)

// generation is the processes of a handler that run the same program in the same way. It carries out what its unit decides.
// Its fields are guarded by handler.mu, but for those of the first line, which never change.
type generation struct {
	h           *handler
	id, program int64 // of the rollout
	config      HandlerConfig
	number      int64 // counts the contents that the handler has had

	processes map[int64]*process // by the number that the unit gave
	timer     *time.Timer
	sum       string   // of the program, as it was when a process was started last
	reason    string   // why it is not ready, or was not lately
	hopeless  bool     // the last failure was one that a restart does not help with
	skipped   []string // limits that this machine does not keep, a sentence each
	isolation string   // the level of its processes, and what that leaves open here
	open      []string
	described bool // its cards were handed on
	used      bool // that its content works was handed on
}

// event is an event of the generation's unit.
func (g *generation) event(e unit.Event) rollout.Event {
	return rollout.Event{Kind: rollout.OfUnit, Generation: g.id, Unit: e}
}

// stepLocked feeds an event to the unit of the generation.
func (g *generation) stepLocked(e unit.Event) { g.h.stepLocked(g.event(e)) }

// armLocked sends the unit a Timer at that time; the zero time means never.
func (g *generation) armLocked(at time.Time) {
	g.disarmLocked()
	if at.IsZero() {
		return
	}
	g.timer = time.AfterFunc(at.Sub(g.h.fleet.config.Now()), func() {
		g.h.mu.Lock()
		defer g.h.mu.Unlock()
		g.stepLocked(unit.Event{Kind: unit.Timer})
	})
}

func (g *generation) disarmLocked() {
	if g.timer != nil {
		g.timer.Stop()
		g.timer = nil
	}
}

// anyConnLocked is the connection to a process that is ready, nil when none is.
func (g *generation) anyConnLocked() *plug.Conn {
	for _, p := range g.processes {
		if p.conn != nil {
			return p.conn
		}
	}
	return nil
}

// announce hands on, once each, the cards of a generation that takes the tasks and that its content works.
func (g *generation) announce(conn *plug.Conn) {
	h := g.h
	h.announcing.Lock()
	defer h.announcing.Unlock()
	h.mu.Lock()
	current := h.currentLocked() == g
	describe, use := current && !g.described, current && !g.used && h.rollout.Worked(g.id)
	g.described, g.used = g.described || describe, g.used || use
	h.mu.Unlock()
	if use && h.fleet.config.OnUsed != nil && g.config.Content != "" {
		h.fleet.config.OnUsed(h.name, g.config.Content)
	}
	d := conn.Description()
	if !describe || h.fleet.config.OnCards == nil || !d.Described {
		return
	}
	cards := make([]card.Card, 0, len(d.Cards))
	for _, doc := range d.Cards {
		c, err := card.Parse(doc)
		if err != nil {
			h.emitBadCard(err)
			continue
		}
		cards = append(cards, c)
	}
	h.fleet.config.OnCards(h.name, cards)
}
