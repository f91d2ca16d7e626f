package agent

import (
	"context"

	"github.com/blocksd/blocksd/dispatch"
	"github.com/blocksd/blocksd/network/wire"
)

// Call implements dispatch.Caller.
func (p port) Call(ctx context.Context, r dispatch.CallRequest) (dispatch.Call, error) {
	c, err := p.caller()
	if err != nil {
		return nil, err
	}
	return c.Call(ctx, r)
}

// Called implements dispatch.Caller.
func (p port) Called(taskID string) (dispatch.Call, error) {
	c, err := p.caller()
	if err != nil {
		return nil, err
	}
	return c.Called(taskID)
}

// caller makes the calls of the task. It is there from the first one on.
func (j *job) caller() (dispatch.Caller, error) {
	if j.agent.cfg.Calls == nil {
		return dispatch.NoCalls{}, nil
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.callsOver {
		return nil, dispatch.ErrTaskOver
	}
	if j.calls == nil {
		j.calls = j.agent.cfg.Calls.Task(j.agent.cfg.APIKey, j.agent.name(), j.task.ID)
		j.calls.Traceparent = j.task.TraceContext[wire.TraceParent]
	}
	return j.calls, nil
}

// endCallsLocked cancels what the task has sent to other agents and has not ended.
func (j *job) endCallsLocked() {
	j.callsOver = true
	if j.calls != nil {
		j.calls.End()
	}
}
