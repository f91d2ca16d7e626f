package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"time"

	"github.com/blocksd/blocksd/dispatch"
	"github.com/blocksd/blocksd/network/link"
	"github.com/blocksd/blocksd/network/wire"
	"github.com/blocksd/blocksd/runtime/streams"
)

// defaultRunningTime is how long a request task may run when its card does not say.
const defaultRunningTime = time.Hour

// setUp does what the registry asks of the network, and answers it.
func (t *streamTable) setUp(s streams.SetUp, h *streamHandle) {
	life, end := t.session.work()
	select {
	case <-h.job.channel.begun: // what the network publishes about the stream follows that the task runs
	case <-life.Done():
	}
	grant, err := t.handshake(life, s, h.job, h.metadata)
	if err != nil {
		end()
		t.answer(s.Number, nil, err)
		return
	}
	if s.Phase == wire.PhaseActivate {
		end()
		t.answer(s.Number, nil, nil)
		return
	}
	t.mu.Lock()
	h.first = true
	t.mu.Unlock()
	open, err := t.newOpenStream(life, end, s, grant)
	if err != nil {
		end()
		t.answer(s.Number, nil, streamFault(dispatch.StreamUnavailable, "stream %s cannot be opened: %v", s.Stream, err))
		return
	}
	t.noteStream(life, h, open)
	t.answer(s.Number, open, nil)
	if s.Spec.Affinity == wire.Shared {
		open.watchToken(grant)
	}
}

// handshake asks the network about a stream with the write token of a task. It is tried again while the network does not
// answer; the answer itself, a refusal, is final.
func (t *streamTable) handshake(ctx context.Context, s streams.SetUp, j *job, metadata json.RawMessage) (wire.StreamGrant, error) {
	if j.decided() {
		return wire.StreamGrant{}, dispatch.ErrTaskOver
	}
	fail := func(err error) (wire.StreamGrant, error) {
		return wire.StreamGrant{}, streamFault(dispatch.StreamUnavailable, "set up stream %s of task %s: %v", s.Stream, j.task.ID, err)
	}
	body, err := wire.StreamSetup{
		TaskID: j.task.ID, OrgID: j.task.OrgID, AgentName: t.agent.name(), StreamID: s.Stream,
		Direction: s.Spec.Direction, Format: s.Spec.Format, Affinity: s.Spec.Affinity,
		TaskKind: j.task.Kind, DurationMinutes: t.agent.streamMinutes(&j.task), Declared: s.Spec.Declared, Phase: s.Phase, Metadata: metadata,
	}.Encode()
	if err != nil {
		return wire.StreamGrant{}, streamFault(dispatch.StreamUndeclared, "set up stream %s of task %s: %v", s.Stream, j.task.ID, err)
	}
	ctx, cancel := context.WithTimeout(ctx, t.agent.cfg.Timeouts.StreamSetup)
	defer cancel()
	_, err = t.session.link.Publish(ctx, link.Message{
		Channel: wire.SetupChannel(j.task.OrgID, j.task.ID), Token: j.channel.token, Body: body,
		Again: func(context.Context) error {
			if j.decided() {
				return dispatch.ErrTaskOver
			}
			return nil
		},
	})
	var answer *link.StatusError
	switch {
	case err == nil:
		answer = &link.StatusError{Status: http.StatusOK}
	case !errors.As(err, &answer) || ctx.Err() != nil:
		return fail(err)
	}
	grant, err := wire.DecodeSetupAnswer(answer.Status, answer.Body, s.Phase)
	if err != nil {
		return fail(err)
	}
	if grant.TaskID != j.task.ID || grant.StreamID != s.Stream || grant.Channel != wire.StreamChannel(t.agent.name(), s.Stream) {
		return fail(fmt.Errorf("the network's answer is about stream %s of task %s", wire.CutText(grant.StreamID, 64), wire.CutText(grant.TaskID, 64)))
	}
	return grant, nil
}

// streamMinutes is for how long a stream of the task is needed.
func (a *Agent) streamMinutes(t *wire.Task) int {
	limit := t.Duration
	if t.Kind != wire.Pipe {
		limit = defaultRunningTime
		if s := a.cfg.Card.MaxRunningTimeSec; s != nil && *s > 0 {
			limit = time.Duration(*s) * time.Second
		}
	}
	return max(1, min(int(math.Ceil(limit.Minutes())), wire.MaxPipeMinutes))
}

// watchToken renews the token of a shared stream ahead of its end: it was granted for as long as the first task may run.
func (o *openStream) watchToken(g wire.StreamGrant) {
	life := time.Duration(g.TTLMinutes) * time.Minute
	t := o.table
	t.mu.Lock()
	defer t.mu.Unlock()
	if o.ending {
		return
	}
	o.renewal = time.AfterFunc(time.Duration(renewShare*float64(life)), func() {
		t.agent.work.Go(func() {
			ctx, cancel := context.WithTimeout(o.life, t.agent.cfg.Timeouts.StreamSetup)
			defer cancel()
			if err := o.renew(ctx); err != nil && o.life.Err() == nil {
				t.agent.log.Warn("the token of a shared stream could not be renewed ahead of its end", "stream", o.id, "err", err)
			}
		})
	})
}

// renew gets a new token for a shared stream through a task that has it and goes on for longest. The network announces the
// stream to the task's consumer once more, which consumers ignore.
func (o *openStream) renew(ctx context.Context) error {
	t := o.table
	var through *streamHandle
	t.mu.Lock()
	for _, h := range t.handles {
		if h.open == o && (through == nil || h.job.task.Deadline.After(through.job.task.Deadline)) {
			through = h
		}
	}
	t.mu.Unlock()
	if through == nil {
		return errNoTaskLeft
	}
	s := streams.SetUp{Stream: o.id, Task: through.job.task.ID, Spec: o.spec, Phase: wire.PhaseEmbedded}
	grant, err := t.handshake(ctx, s, through.job, through.metadata)
	if err != nil {
		return err
	}
	token := grant.Token
	o.token.Store(&token)
	o.watchToken(grant)
	return nil
}
