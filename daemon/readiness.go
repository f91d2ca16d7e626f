package daemon

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/blocksd/blocksd/daemon/control"
	"github.com/blocksd/blocksd/daemon/roster"
	"github.com/blocksd/blocksd/event"
	controlv1 "github.com/blocksd/blocksd/proto/blocks/control/v1"
	"github.com/blocksd/blocksd/runtime/agent"
	"github.com/blocksd/blocksd/supervisor"
)

// Whether the daemon is ready, and who wants to know.

// handlersReady are the states of a handler that need no explanation.
var handlersReady = []string{"ready", "idle"}

// conditions returns whether the daemon is ready, and everything that is not as it should be.
func (d *Daemon) conditions(agents []agent.Status, handlers []supervisor.HandlerStatus) (ready bool, why []roster.Reason) {
	ready = len(agents) > 0
	for _, a := range agents {
		if a.State != agent.StateOnline {
			ready = false
			if a.Reason == reasonDrained { // said once, below
				continue
			}
			why = append(why, roster.Reason{Code: roster.AgentNotOnline, Object: a.Name, State: a.State, Detail: a.Reason})
		}
	}
	for _, h := range handlers {
		if !slices.Contains(handlersReady, h.State) {
			why = append(why, roster.Reason{Code: roster.HandlerNotReady, Object: h.Name, State: h.State, Detail: h.Reason})
		}
		for _, limit := range h.Skipped {
			why = append(why, roster.Reason{Code: roster.LimitSkipped, Object: h.Name, Detail: limit})
		}
		if notice := d.noticeOf(h); notice != "" {
			why = append(why, roster.Reason{Code: roster.OtherProgram, Object: h.Name, Detail: notice})
		}
	}
	reasons, decided := d.served.why()
	for _, r := range reasons {
		ready = ready && r.Code != roster.NotDescribed
	}
	why = append(append(why, reasons...), d.keys.reasons(time.Now())...)
	switch {
	case d.ending.begun.Load():
		return false, append(why, roster.Reason{Code: roster.Stopping})
	case d.sessions.isDrained():
		return false, append(why, roster.Reason{Code: roster.Drained})
	case !decided:
		return false, append(why, roster.Reason{Code: roster.Starting})
	case len(agents) == 0:
		return false, append(why, roster.Reason{Code: roster.NothingServed})
	}
	return ready, why
}

// why returns the reasons of the last decision, and whether there has been one.
func (s *served) why() (reasons []roster.Reason, decided bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.reasons, s.decided
}

// noticeOf says why a handler does not run what its file holds, "" when it does.
func (d *Daemon) noticeOf(h supervisor.HandlerStatus) string {
	if h.Notice != "" {
		return h.Notice
	}
	if held := d.programs.rolledBackTo(h.Name); held != "" {
		return fmt.Sprintf("handler %s is rolled back to %s until its file changes", h.Name, held)
	}
	return ""
}

// report says when the daemon becomes ready or stops being so, and tells systemd.
func (d *Daemon) report(ctx context.Context) {
	changes := d.events.Follow(event.States()...)
	defer changes.Close()
	for was := false; ; {
		if s := d.Status(); s.Ready != was {
			was = s.Ready
			if was {
				d.events.Emit(event.Event{
					Type: event.Notice, State: "ready", Reason: "daemon is ready", Details: []slog.Attr{slog.Int("agents", len(s.Agents))},
				})
				d.notify.send(fmt.Sprintf("STATUS=ready, %d agents online", len(s.Agents)))
			} else {
				d.events.Emit(event.Event{
					Type: event.Notice, State: "not_ready", Reason: "daemon is not ready", Details: []slog.Attr{slog.Any("reasons", s.Reasons)},
				})
				d.notify.send("STATUS=not ready, see blocksd status")
			}
		}
		if nextChange(ctx, changes) != nil {
			return
		}
	}
}

// nextChange waits for an event and skips all that are there: a reader of the current state needs only one look.
func nextChange(ctx context.Context, changes *event.Reader) error {
	if _, err := changes.Next(ctx); err != nil {
		return err
	}
	for ok := true; ok; {
		_, ok = changes.TryNext()
	}
	return nil
}

// WaitReady returns when the daemon is ready or ctx ends, then with the reasons why it is not.
func (d *Daemon) WaitReady(ctx context.Context) error {
	return d.waitFor(ctx, func(s *controlv1.StatusResponse) bool { return s.Ready })
}

// WaitSettled returns when every agent is online or will not be for a while, or when ctx ends.
func (d *Daemon) WaitSettled(ctx context.Context) error {
	return d.waitFor(ctx, func(s *controlv1.StatusResponse) bool {
		pending := func(c *controlv1.Condition) bool {
			return c.Code == string(roster.Starting) || c.Code == string(roster.NotDescribed)
		}
		return !slices.ContainsFunc(s.Conditions, pending) &&
			!slices.ContainsFunc(s.Agents, func(a *controlv1.Agent) bool { return a.State == agent.StateConnecting })
	})
}

func (d *Daemon) waitFor(ctx context.Context, cond func(*controlv1.StatusResponse) bool) error {
	changes := d.events.Follow(event.States()...)
	defer changes.Close()
	for {
		s := d.Status()
		if cond(s) {
			return nil
		}
		if nextChange(ctx, changes) != nil {
			why := "no reason is known"
			if len(s.Reasons) > 0 {
				why = s.Reasons[0]
			}
			return fmt.Errorf("the daemon is not ready: %s", why)
		}
	}
}

// alive asks the daemon the way a client would, but nothing that the content of an answer could spoil.
func (d *Daemon) alive(ctx context.Context) error {
	c, err := control.Dial(ctx, d.settings().Socket)
	if err != nil {
		return err
	}
	defer c.Close()
	return c.Ping(ctx)
}
