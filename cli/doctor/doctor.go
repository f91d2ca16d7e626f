// Package doctor looks at everything that blocksd needs on a machine and in the network, and says what to do about what is
// wrong. It changes nothing. What is looked at is gathered in files of the same name as the check; what that means is
// decided by pure functions there.
package doctor

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"
)

// State is how a check ended.
type State string

// The states.
const (
	OK   State = "ok"
	Warn State = "warn"
	Fail State = "fail"
	Skip State = "skip" // it could not be looked at, or there is nothing to look at
)

// Result is one line of the report.
type Result struct {
	Check  string `json:"check"`
	State  State  `json:"state"`
	Detail string `json:"detail"`
	// Fix says what to do; "" where there is nothing to do.
	Fix string `json:"fix"`
}

func ok(format string, args ...any) Result {
	return Result{State: OK, Detail: fmt.Sprintf(format, args...)}
}

func skip(fix, format string, args ...any) Result {
	return Result{State: Skip, Detail: fmt.Sprintf(format, args...), Fix: fix}
}

func warn(fix, format string, args ...any) Result {
	return Result{State: Warn, Detail: fmt.Sprintf(format, args...), Fix: fix}
}

func fail(fix, format string, args ...any) Result {
	return Result{State: Fail, Detail: fmt.Sprintf(format, args...), Fix: fix}
}

// check is one thing to look at. It may have several results, one for each object.
type check struct {
	name string
	run  func(ctx context.Context, w *world) []Result
}

// checks in the order of the report.
var checks = []check{
	{"configuration", configuration}, {"key", key}, {"clock", clock}, {"cdm", document}, {"registry", registry}, {"pubnub", pubnub},
	{"plugins", plugins}, {"state", stateDir}, {"journal", journalFile}, {"cgroups", cgroups}, {"landlock", landlock}, {"systemd", unit},
	{"daemon", daemon},
}

// Limit is how long a check may take.
const Limit = 10 * time.Second

// Run makes all checks, side by side. A check that does not end in time fails, and is left behind.
func Run(ctx context.Context, cfg Config) []Result {
	w := newWorld(cfg)
	defer w.close()
	results := make([][]Result, len(checks))
	var all sync.WaitGroup
	for i, c := range checks {
		all.Go(func() { results[i] = c.within(ctx, w, Limit) })
	}
	all.Wait()
	return slices.Concat(results...)
}

// within runs a check. What it asks of the network ends with its time; a disk that hangs does not.
func (c check) within(ctx context.Context, w *world, limit time.Duration) []Result {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	done := make(chan []Result, 1)
	go func() { done <- c.run(ctx, w) }() // ends at the latest with the process
	timer := time.NewTimer(limit + limit/10)
	defer timer.Stop()
	var rs []Result
	select {
	case rs = <-done:
	case <-timer.C:
		rs = []Result{fail("see whether a disk or the network hangs, then try again", "it did not end within %s", limit)}
	}
	for i := range rs {
		rs[i].Check = c.name
	}
	return rs
}

// Failed reports whether one of the checks failed.
func Failed(rs []Result) bool {
	return slices.ContainsFunc(rs, func(r Result) bool { return r.State == Fail })
}
