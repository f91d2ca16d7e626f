package rollout

import (
	"github.com/blocksd/blocksd/dispatch"
	"github.com/blocksd/blocksd/supervisor/unit"
)

// Current is the generation that takes the tasks.
func (r *Rollout) Current() int64 { return r.current.id }

// Next is the generation that is being started alongside the current one; 0 if there is none.
func (r *Rollout) Next() int64 {
	if r.next == nil {
		return 0
	}
	return r.next.id
}

// Target is the generation that runs what was asked for last: the next one, if there is one, else the current one.
func (r *Rollout) Target() int64 {
	if r.next != nil {
		return r.next.id
	}
	return r.current.id
}

// Wanted is the program that was asked for last.
func (r *Rollout) Wanted() Program { return r.wanted }

// State is that of the current generation, and of the handler.
func (r *Rollout) State() unit.State { return r.current.unit.State() }

// Availability of the handler.
func (r *Rollout) Availability() dispatch.Availability { return availability(r.State()) }

// Number counts the contents that the handler has had up to this generation, from 1; 0 for one that was forgotten.
func (r *Rollout) Number(generation int64) int64 {
	if g := r.find(generation); g != nil {
		return g.number
	}
	return 0
}

// ProcessState is the state of one process of a generation.
func (r *Rollout) ProcessState(generation, process int64) unit.State {
	if g := r.find(generation); g != nil {
		return g.unit.ProcessState(process)
	}
	return unit.Stopped
}

// Full reports whether the current generation has as many processes ready as it should.
func (r *Rollout) Full() bool { return r.current.unit.Full() }

// Worked reports whether a generation was ready once.
func (r *Rollout) Worked(generation int64) bool {
	g := r.find(generation)
	return g != nil && g.worked
}

// Failures of a generation since its start.
func (r *Rollout) Failures(generation int64) int {
	if g := r.find(generation); g != nil {
		return g.failures
	}
	return 0
}

// Restarts after a failure, of all generations.
func (r *Rollout) Restarts() int64 { return r.restarts + r.current.unit.Restarts() }

// Rejected reports whether the last rollout was given up, and nothing was asked for since.
func (r *Rollout) Rejected() bool { return r.rejected }

// Accepts reports whether the handler can be restarted: it was started, and is not to end.
func (r *Rollout) Accepts() bool { return r.started && !r.stopped && !r.removed }

// Ended reports whether the handler was removed and has no process any more.
func (r *Rollout) Ended() bool {
	return r.removed && len(r.retired) == 0 && r.current.unit.State() == unit.Stopped
}

// Outcome says what has become of a generation that had failed so many times before.
func (r *Rollout) Outcome(generation int64, failures int) Outcome {
	current := generation == r.current.id
	retired := !current && generation != r.Next()
	switch state := r.current.unit.State(); {
	case current && (state == unit.Ready || state == unit.Idle):
		return Runs
	case retired && r.rejected:
		return GivenUp
	case r.stopped || r.removed:
		return Ending
	case retired:
		return Superseded
	case current && r.current.failures > failures:
		return Failed
	}
	return Pending
}
