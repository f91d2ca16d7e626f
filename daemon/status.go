package daemon

import (
	"cmp"
	"context"
	"os"
	"slices"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/blocksd/blocksd/daemon/control"
	controlv1 "github.com/blocksd/blocksd/proto/blocks/control/v1"
	"github.com/blocksd/blocksd/runtime/agent"
	"github.com/blocksd/blocksd/supervisor"
)

// What the control socket shows. Nothing here waits for network, disk or handlers.

// Status implements control.Daemon.
func (d *Daemon) Status() *controlv1.StatusResponse {
	r := &controlv1.StatusResponse{Version: d.cfg.Version, Pid: int32(os.Getpid()), Tasks: &controlv1.TaskCounts{}}
	handlers := d.fleet.Status()
	slots := d.served.all()
	agents := make([]agent.Status, len(slots))
	counts := d.served.retiredCounts()
	for i, s := range slots {
		st := s.status()
		agents[i] = st
		counts = counts.Plus(st.Counts)
		r.Agents = append(r.Agents, &controlv1.Agent{
			Name: st.Name, State: st.State, Reason: st.Reason, InstanceId: st.InstanceID, BillingMode: string(st.BillingMode),
			Handler: st.Handler, Running: int32(st.Running), Concurrency: int32(st.Concurrency),
			Streams: int32(st.Streams), StreamBytesInbound: st.StreamsInbound, StreamBytesOutbound: st.StreamsOutbound,
		})
		r.Tasks.Running += int64(st.Running)
	}
	r.Tasks.Accepted, r.Tasks.Completed, r.Tasks.Failed, r.Tasks.Canceled = counts.Accepted, counts.Completed, counts.Failed, counts.Canceled
	r.Tasks.Outbox = counts.Outbox
	r.Handlers = d.handlerForms(handlers)
	ready, why := d.conditions(agents, handlers)
	r.Ready = ready
	for _, reason := range why {
		text := reason.Text()
		r.Reasons = append(r.Reasons, text)
		r.Conditions = append(r.Conditions, &controlv1.Condition{Code: string(reason.Code), Object: reason.Object, Text: text})
	}
	return r
}

// retiredCounts are those of agents that are not served any more. What they had in the outbox is counted by whoever finds
// it in the journal.
func (s *served) retiredCounts() agent.Counts {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.retired
	c.Outbox = 0
	return c
}

// Handlers implements control.Daemon.
func (d *Daemon) Handlers() []*controlv1.Handler { return d.handlerForms(d.fleet.Status()) }

func (d *Daemon) handlerForms(all []supervisor.HandlerStatus) []*controlv1.Handler {
	var out []*controlv1.Handler
	for _, h := range all {
		r := &controlv1.Handler{
			Name: h.Name, State: h.State, Reason: h.Reason, Notice: d.noticeOf(h), Path: h.Path, Sha256: h.SHA256, Generation: h.Generation, Restarts: h.Restarts,
		}
		r.SkippedLimits = h.Skipped
		r.Isolation, r.IsolationOpen, r.Version = h.Isolation, h.Open, h.Version
		if h.Crash != nil {
			r.Crash = crash(h.Name, *h.Crash)
			r.Crash.Lines = nil // many, and for those who ask
		}
		for _, p := range h.Processes {
			r.Processes = append(r.Processes, &controlv1.Process{
				Pid: int32(p.PID), State: p.State, Running: int32(p.Running), StartedAt: timestamppb.New(p.StartedAt), RssBytes: p.RSSBytes,
			})
		}
		out = append(out, r)
	}
	slices.SortFunc(out, func(a, b *controlv1.Handler) int { return cmp.Compare(a.Name, b.Name) })
	return out
}

// Tasks implements control.Daemon.
func (d *Daemon) Tasks() []*controlv1.Task {
	var all []agent.TaskInfo
	for _, s := range d.served.all() {
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
	for _, s := range d.served.all() {
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
