package daemon

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"slices"
	"strings"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/blocksd/blocksd/daemon/control"
	controlv1 "github.com/blocksd/blocksd/proto/blocks/control/v1"
	"github.com/blocksd/blocksd/runtime/agent"
	"github.com/blocksd/blocksd/supervisor"
)

// What the control socket shows. Nothing here waits for network, disk or handlers.

// Status implements control.Daemon.
func (d *Daemon) Status() *controlv1.StatusResponse {
	r := &controlv1.StatusResponse{Version: d.cfg.Version, Pid: int32(os.Getpid()), Handlers: d.Handlers(), Tasks: &controlv1.TaskCounts{}}
	everyone := d.everyone()
	ready := len(everyone) > 0
	d.mu.Lock()
	r.Tasks.Accepted, r.Tasks.Completed, r.Tasks.Failed, r.Tasks.Canceled = d.gone.Accepted, d.gone.Completed, d.gone.Failed, d.gone.Canceled
	d.mu.Unlock()
	for _, s := range everyone {
		st := s.status()
		r.Agents = append(r.Agents, &controlv1.Agent{
			Name: st.Name, State: st.State, Reason: st.Reason, InstanceId: st.InstanceID, BillingMode: string(st.BillingMode),
			Handler: st.Handler, Running: int32(st.Running), Concurrency: int32(st.Concurrency),
		})
		r.Tasks.Running += int64(st.Running)
		r.Tasks.Accepted += st.Counts.Accepted
		r.Tasks.Completed += st.Counts.Completed
		r.Tasks.Failed += st.Counts.Failed
		r.Tasks.Canceled += st.Counts.Canceled
		r.Tasks.Outbox += st.Counts.Outbox
		if st.State != agent.StateOnline {
			ready = false
			r.Reasons = append(r.Reasons, reason("agent "+st.Name, st.State, st.Reason))
		}
	}
	slices.SortFunc(r.Agents, func(a, b *controlv1.Agent) int { return cmp.Compare(a.Name, b.Name) })
	for _, h := range r.Handlers {
		if h.State != "ready" && h.State != "idle" {
			r.Reasons = append(r.Reasons, reason("handler "+h.Name, h.State, h.Reason))
		}
		for _, skipped := range h.SkippedLimits {
			r.Reasons = append(r.Reasons, "handler "+h.Name+": "+skipped)
		}
		if h.Notice != "" {
			r.Reasons = append(r.Reasons, h.Notice)
		}
	}

	d.mu.Lock()
	defer d.mu.Unlock()
	for _, name := range d.undescribed() {
		ready = false
		r.Reasons = append(r.Reasons, fmt.Sprintf("handler %s has not said yet which agents it serves", name))
	}
	r.Reasons = append(r.Reasons, d.reasons...)
	switch {
	case d.stopping:
		ready = false
		r.Reasons = append(r.Reasons, "the daemon stops")
	case d.drained:
		ready = false
		r.Reasons = append(r.Reasons, "the daemon is drained: blocksd undrain brings its agents back")
	case !d.planned:
		ready = false
		r.Reasons = append(r.Reasons, "the daemon starts")
	case len(everyone) == 0:
		r.Reasons = append(r.Reasons, "no agent is served: put a handler with its card into a plugins directory, or name a card in the configuration")
	}
	r.Ready = ready
	return r
}

// reason says what is so and why. A why that names the object itself stands alone.
func reason(object, state, why string) string {
	why = strings.TrimSuffix(why, ".")
	switch {
	case why == "":
		return object + " is " + state
	case strings.HasPrefix(why, object+" "):
		return why
	}
	return object + " is " + state + ": " + why
}

// Handlers implements control.Daemon.
func (d *Daemon) Handlers() []*controlv1.Handler {
	fleet := d.theFleet()
	if fleet == nil {
		return nil
	}
	var out []*controlv1.Handler
	for _, h := range fleet.Status() {
		r := &controlv1.Handler{
			Name: h.Name, State: fmt.Sprint(h.State), Reason: h.Reason, Notice: d.noticeOf(h), Path: h.Path, Sha256: h.SHA256, Generation: h.Generation, Restarts: h.Restarts,
		}
		r.SkippedLimits = h.Skipped
		if h.Crash != nil {
			r.Crash = crash(h.Name, *h.Crash)
			r.Crash.Lines = nil // many, and for those who ask
		}
		for _, p := range h.Processes {
			r.Processes = append(r.Processes, &controlv1.Process{
				Pid: int32(p.PID), State: fmt.Sprint(p.State), Running: int32(p.Running), StartedAt: timestamppb.New(p.StartedAt), RssBytes: p.RSSBytes,
			})
		}
		out = append(out, r)
	}
	slices.SortFunc(out, func(a, b *controlv1.Handler) int { return cmp.Compare(a.Name, b.Name) })
	return out
}

// noticeOf says why a handler does not run what its file holds, "" when it does.
func (d *Daemon) noticeOf(h supervisor.HandlerStatus) string {
	if h.Notice != "" || d.shelf.store == nil {
		return h.Notice
	}
	if held := d.shelf.store.Held(h.Name); held != "" {
		return fmt.Sprintf("handler %s is rolled back to %s until its file changes", h.Name, held)
	}
	return ""
}

// Tasks implements control.Daemon.
func (d *Daemon) Tasks() []*controlv1.Task {
	var all []agent.TaskInfo
	for _, s := range d.everyone() {
		if a := s.get(); a != nil {
			all = append(all, a.Tasks()...)
		}
	}
	slices.SortStableFunc(all, func(a, b agent.TaskInfo) int { return a.Since.Compare(b.Since) })
	out := make([]*controlv1.Task, len(all))
	for i, t := range all {
		r := &controlv1.Task{TaskId: t.TaskID, Agent: t.Agent, Handler: t.Handler, State: t.State, Since: timestamppb.New(t.Since)}
		if t.PID != nil {
			pid := int32(*t.PID)
			r.Pid = &pid
		}
		if !t.Deadline.IsZero() {
			r.Deadline = timestamppb.New(t.Deadline)
		}
		out[i] = r
	}
	return out
}

// CancelTask implements control.Daemon.
func (d *Daemon) CancelTask(ctx context.Context, taskID string) error {
	for _, s := range d.everyone() {
		a := s.get()
		if a == nil {
			continue
		}
		if found, err := a.CancelTask(ctx, taskID); found || err != nil {
			return err
		}
	}
	return control.ErrNoTask
}

// WaitReady returns when the daemon is ready or ctx ends, then with the reasons why it is not.
func (d *Daemon) WaitReady(ctx context.Context) error {
	return d.waitFor(ctx, func(s *controlv1.StatusResponse) bool { return s.Ready })
}

// WaitSettled returns when every agent is online or will not be for a while, or when ctx ends.
func (d *Daemon) WaitSettled(ctx context.Context) error {
	return d.waitFor(ctx, func(s *controlv1.StatusResponse) bool {
		d.mu.Lock()
		settled := d.planned && len(d.undescribed()) == 0
		d.mu.Unlock()
		return settled && !slices.ContainsFunc(s.Agents, func(a *controlv1.Agent) bool { return a.State == agent.StateConnecting })
	})
}

func (d *Daemon) waitFor(ctx context.Context, cond func(*controlv1.StatusResponse) bool) error {
	for {
		changed := d.changed.wait()
		s := d.Status()
		if cond(s) {
			return nil
		}
		select {
		case <-ctx.Done():
			why := "no reason is known"
			if len(s.Reasons) > 0 {
				why = s.Reasons[0]
			}
			return fmt.Errorf("the daemon is not ready: %s", why)
		case <-changed:
		}
	}
}
