package conformance

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/blocksd/blocksd/dispatch"
	"github.com/blocksd/blocksd/network/card"
	"github.com/blocksd/blocksd/network/wire"
)

const (
	// exampleTime bounds an example where its card allows more.
	exampleTime = 30 * time.Second
	// grace is what a canceled task has, as by default; graceSlack is for a busy machine.
	grace      = 5 * time.Second
	graceSlack = 2 * time.Second
	// pipeTime is how long a pipe task runs before it is over.
	pipeTime = time.Second
	// atOnce bounds the tasks that run at the same time.
	atOnce = 16
	// largeText is more than most messages hold, and less than one may.
	largeText = 4 << 20
)

// tasks gives the handler tasks of each agent.
func (s *suite) tasks(ctx context.Context) {
	for _, c := range s.Agents {
		parts, ok := card.ExampleParts(c)
		if !ok {
			s.add(Result{Check: s.of("example", c), State: Skip, Detail: "the card has no example for each required input, so no task can be made up"})
			continue
		}
		a := agent{s, c, parts}
		if !slices.Contains(c.TaskKinds, wire.Request) {
			a.pipe(ctx)
			continue
		}
		if a.example(ctx) {
			a.concurrency(ctx)
			a.streams(ctx)
		}
		a.cancel(ctx)
		a.odd(ctx, "no inputs", nil)
		if len(parts) > 0 {
			text := strings.Repeat("large ", largeText/6)
			a.odd(ctx, "large input", []wire.Part{{PartID: parts[0].PartID, ContentType: parts[0].ContentType, Text: &text}})
		}
	}
}

// of names a check; with several agents it names the agent, too.
func (s *suite) of(check string, c card.Card) string {
	if len(s.Agents) > 1 {
		return check + " of " + c.AgentName
	}
	return check
}

// agent is one agent of the handler.
type agent struct {
	*suite
	card  card.Card
	parts []wire.Part
}

// task makes a task up.
func (a agent) task(parts []wire.Part) Task {
	a.count++
	kind := wire.Request
	if !slices.Contains(a.card.TaskKinds, wire.Request) {
		kind = wire.Pipe
	}
	t := Task{Task: wire.Task{
		ID: fmt.Sprintf("check_%d", a.count), AgentName: a.card.AgentName, Kind: kind, Parts: parts, OwnerID: "check", OrgID: "check",
		Deadline: time.Now().Add(a.limit()),
	}}
	if kind == wire.Pipe {
		t.Duration = time.Minute
	}
	return t
}

// limit is how long a task may run.
func (a agent) limit() time.Duration {
	if m := a.card.MaxRunningTimeSec; m != nil && time.Duration(*m)*time.Second < exampleTime {
		return time.Duration(*m) * time.Second
	}
	return exampleTime
}

// within runs a task as the daemon does: it is canceled when its time is over.
func (a agent) within(ctx context.Context, t Task) Outcome {
	ctx, cancel := context.WithTimeoutCause(ctx, a.limit(), fmt.Errorf("it had not ended after %v", a.limit()))
	defer cancel()
	return a.handler.Do(ctx, t)
}

// example runs the task of the card's examples.
func (a agent) example(ctx context.Context) (ok bool) {
	o := a.within(ctx, a.task(a.parts))
	r := Result{Check: a.of("example", a.card), State: OK, Detail: fmt.Sprintf("completed, %s", artifacts(len(o.Artifacts))), Took: o.Took}
	if o.Err != nil {
		r.State, r.Detail = Fail, fmt.Sprintf("the task with the examples of the card of %s failed: %s", a.card.AgentName, why(o.Err))
	} else if detail := a.missing(o); detail != "" {
		r.State, r.Detail = Warn, detail
	}
	a.add(r)
	return o.Err == nil
}

// missing names a guaranteed output that the task did not have. An artifact without an id may be any of them.
func (a agent) missing(o Outcome) string {
	if slices.ContainsFunc(o.Artifacts, func(x Artifact) bool { return x.OutputID == "" }) {
		return ""
	}
	for _, out := range a.card.Outputs {
		if out.Guaranteed && !slices.ContainsFunc(o.Artifacts, func(x Artifact) bool { return x.OutputID == out.ID }) {
			return fmt.Sprintf("the card guarantees the output %q and the task had none of that id", out.ID)
		}
	}
	return ""
}

func artifacts(n int) string {
	if n == 1 {
		return "1 artifact"
	}
	return fmt.Sprintf("%d artifacts", n)
}

// why is an error for the person who wrote the handler.
func why(err error) string {
	var f *dispatch.TaskFailure
	if errors.As(err, &f) && f.Private != "" && f.Private != f.Public {
		first, _, _ := strings.Cut(f.Private, "\n")
		return strings.TrimSuffix(f.Public, ".") + " (" + first + ")"
	}
	return err.Error()
}

// concurrency runs as many examples at the same time as the card allows.
func (a agent) concurrency(ctx context.Context) {
	n := min(a.card.Concurrency, atOnce)
	if n < 2 {
		return
	}
	at := time.Now()
	outcomes := make([]Outcome, n)
	var running sync.WaitGroup
	for i := range n {
		t := a.task(a.parts)
		running.Go(func() { outcomes[i] = a.within(ctx, t) })
	}
	running.Wait()
	r := Result{Check: a.of("concurrency", a.card), State: OK, Detail: fmt.Sprintf("%d tasks at the same time", n), Took: time.Since(at)}
	for _, o := range outcomes {
		if o.Err != nil {
			r.State, r.Detail = Fail, fmt.Sprintf("of %d tasks at the same time, which the card allows, one failed: %s", n, why(o.Err))
			break
		}
	}
	a.add(r)
}

// streams runs the example for a caller that wants streams, who writes nothing and ends what it may write.
func (a agent) streams(ctx context.Context) {
	if len(a.card.Streams) == 0 {
		return
	}
	t := a.task(a.parts)
	t.HasStream, t.Streams = true, a.card.Streams
	o := a.within(ctx, t)
	r := Result{Check: a.of("streams", a.card), State: OK, Took: o.Took}
	written := 0
	for _, s := range o.Streams {
		written += len(s.Written)
	}
	r.Detail = fmt.Sprintf("%d made, %d written", len(o.Streams), written)
	switch {
	case o.Err != nil:
		r.State, r.Detail = Fail, "the task with the examples of the card failed for a caller that wants streams: "+why(o.Err)
	case len(o.Streams) == 0:
		r.State, r.Detail = Warn, "the card declares streams and the task made none"
	}
	a.add(r)
}

// cancel asks for the end of a task right after it has begun, and again after it has ended.
func (a agent) cancel(ctx context.Context) {
	took, err := a.canceled(ctx, a.task(a.parts), 0, dispatch.CancelUser)
	r := Result{Check: a.of("cancel", a.card), State: OK, Detail: "the task ended within the grace", Took: took}
	if err != nil {
		r.State, r.Detail = Fail, err.Error()
	}
	a.add(r)
}

// pipe runs a pipe task until its time is over.
func (a agent) pipe(ctx context.Context) {
	took, err := a.canceled(ctx, a.task(a.parts), pipeTime, dispatch.CancelExpired)
	r := Result{Check: a.of("pipe", a.card), State: OK, Detail: "the task ended within the grace after its time was over", Took: took}
	if err != nil {
		r.State, r.Detail = Fail, err.Error()
	}
	a.add(r)
}

// canceled runs a task, asks for its end after a time, and returns how long that took. The error is a sentence.
func (a agent) canceled(ctx context.Context, t Task, after time.Duration, reason dispatch.CancelReason) (time.Duration, error) {
	ctx, end := context.WithCancel(ctx)
	defer end()
	ended := make(chan Outcome, 1)
	go func() { ended <- a.handler.Do(ctx, t) }()
	select {
	case o := <-ended:
		return 0, a.alive(o)
	case <-time.After(after):
	}
	at := time.Now()
	// It may have ended by itself, or not have begun.
	for err := a.handler.Cancel(ctx, t.ID, reason, grace); err != nil; err = a.handler.Cancel(ctx, t.ID, reason, grace) {
		select {
		case o := <-ended:
			return time.Since(at), a.alive(o)
		case <-time.After(pause):
		}
		if time.Since(at) > grace {
			end()
			<-ended
			return 0, fmt.Errorf("it could not be asked to cancel a task: %w", err)
		}
	}
	select {
	case o := <-ended:
		return time.Since(at), a.alive(o)
	case <-time.After(grace + graceSlack):
	}
	end()
	<-ended
	if !a.handler.Description.Cancel {
		return 0, fmt.Errorf("a canceled task went on after the grace of %v: implement CancelTask, or the daemon replaces the process", grace)
	}
	return 0, fmt.Errorf("a canceled task went on after the grace of %v: end the StartTask call soon after CancelTask", grace)
}

// pause between two attempts.
const pause = 10 * time.Millisecond

// alive is an error when the process has not survived a task.
func (a agent) alive(o Outcome) error {
	var f *dispatch.TaskFailure
	if errors.As(o.Err, &f) && (f.Kind == dispatch.HandlerCrash || f.Kind == dispatch.NoProcess) {
		return fmt.Errorf("the process did not survive the task: %s", why(o.Err))
	}
	return nil
}

// odd runs a task that may well fail, and must end by an answer.
func (a agent) odd(ctx context.Context, what string, parts []wire.Part) {
	o := a.within(ctx, a.task(parts))
	r := Result{Check: a.of(what, a.card), State: OK, Took: o.Took}
	var f *dispatch.TaskFailure
	switch {
	case o.Err == nil:
		r.Detail = "completed"
	case errors.As(o.Err, &f) && f.Kind == dispatch.HandlerError:
		r.Detail = fmt.Sprintf("failed with %q", wire.CutText(f.Public, 100))
	default:
		r.State, r.Detail = Fail, fmt.Sprintf("a task with %s had no proper end: %s", what, why(o.Err))
	}
	a.add(r)
}
