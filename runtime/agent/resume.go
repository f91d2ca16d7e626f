package agent

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/blocksd/blocksd/network/link"
	"github.com/blocksd/blocksd/runtime/journal"
)

// What an agent was before it was restarted, and how it goes on from there. Without a journal everything works the same,
// but a crash loses the outcomes of the tasks in flight, what was sent meanwhile, and which tasks were done already.

// openJournal returns the agent's part of the journal, nil without one, and takes the instance id from it.
func (c *Config) openJournal() (*journal.AgentJournal, error) {
	if c.Journal == nil {
		return nil, nil
	}
	record, err := c.Journal.Agent(c.Card.AgentName)
	if err != nil {
		return nil, fmt.Errorf("serve agent %s: %w", c.Card.AgentName, err)
	}
	if c.InstanceID == "" {
		c.InstanceID = record.InstanceID()
	}
	return record, nil
}

// restore takes from the journal what the agent was before it was restarted. It is part of New.
func (a *Agent) restore(record *journal.AgentJournal) error {
	if record == nil {
		return nil
	}
	a.journal, a.formerID = record, record.InstanceID()
	record.SetInstanceID(a.cfg.InstanceID)
	finished, err := record.Finished()
	if err != nil {
		return err
	}
	for _, f := range finished {
		a.tasks.finished.store(f.ID, f.Outcome, f.At)
	}
	open, err := record.Open()
	if err != nil {
		return err
	}
	for _, e := range open {
		a.tasks.recovering[e.Task.ID] = e
		a.outbox[e.Task.ID] = e.Task.Accepted
	}
	a.counts.Outbox = int64(len(open))
	return nil
}

// entryOf is a task that came through s as the journal keeps it.
func (a *Agent) entryOf(s *session, id string, r link.Received) journal.Task {
	return journal.Task{ID: id, Message: r.Body, Timetoken: r.Timetoken, BillingMode: s.mode, Accepted: a.cfg.Now()}
}

// noteReceived notes that everything on the control channel up to r needs no second look after a restart. Whatever r led
// to was given to the journal before.
func (a *Agent) noteReceived(r link.Received) {
	if a.journal != nil {
		a.journal.SetCursor(r.Channel, r.Timetoken)
	}
}

// resume returns where to begin to read the control channel: where the agent was before it was restarted, or now. Now is
// asked for and noted, so that a crash before the first message loses nothing either.
func (a *Agent) resume(ctx context.Context, s *session, channel string) string {
	if a.journal == nil {
		return ""
	}
	ctx, cancel := context.WithTimeout(ctx, a.cfg.Timeouts.Connect)
	defer cancel()
	before := a.cfg.Now()
	now, err := s.link.Time(ctx)
	if err == nil {
		_ = a.setClockOffset(now, before) // before the first message, which may be an old one
	}
	a.mu.Lock()
	first := !a.conn.resumed
	a.conn.resumed = true
	a.mu.Unlock()
	if cursor := a.journal.Cursor(channel); first && cursor != "" {
		if v, err := strconv.ParseInt(now, 10, 64); err == nil {
			a.mu.Lock()
			a.conn.resumedAt = v
			a.mu.Unlock()
		}
		a.log.Info("reading the control channel on from where it was left", "channel", channel, "cursor", cursor)
		return cursor
	}
	if err != nil {
		a.log.Warn("the network's time could not be read, so a crash before the next message may lose messages", "err", err)
		return ""
	}
	if err := a.journal.RecordCursor(ctx, channel, now); err != nil {
		a.log.Warn("a crash before the next message may lose messages", "err", err)
	}
	return now
}

// late reports whether a message was sent so long ago that the network may have taken us for lost since, or before the
// agent was restarted: when it left properly, the network gave what it had not begun to others at once.
func (a *Agent) late(r link.Received) bool {
	sent, err := strconv.ParseInt(r.Timetoken, 10, 64) // of 100 ns
	a.mu.Lock()
	defer a.mu.Unlock()
	now := a.cfg.Now()
	return err == nil && (sent < a.conn.resumedAt || now.Sub(a.sentLocked(r, now)) > a.cfg.Timeouts.Late)
}

// sentLocked is when a message that has come by now was sent, by our clock.
func (a *Agent) sentLocked(r link.Received, now time.Time) time.Time {
	sent, err := strconv.ParseInt(r.Timetoken, 10, 64) // of 100 ns
	if err != nil {
		return now
	}
	if at := time.Unix(sent/1e7, sent%1e7*100).Add(-a.conn.clockOffset); at.Before(now) {
		return at
	}
	return now
}
