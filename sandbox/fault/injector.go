package fault

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"

	"github.com/blocksd/blocksd/sandbox/route"
)

// maxRules bounds the number of rules.
const maxRules = 1000

// Injector holds the rules and applies them. It is safe for concurrent use.
type Injector struct {
	routes route.Table
	armed  atomic.Bool // there are rules, or requests are recorded

	mu     sync.Mutex // guards all below
	rules  []*active
	nextID int
	held   map[*poll]struct{}
	rec    recording
	closed bool
}

// New returns an injector without rules. routes says what a request is for.
func New(routes route.Table) *Injector { return &Injector{routes: routes} }

// Endpoints lists the names that a rule may use.
func (j *Injector) Endpoints() []string { return j.routes.Endpoints }

// active is a rule with its state.
type active struct {
	Rule
	number  int // as in the id
	seen    int
	removed chan struct{} // closed when the rule is removed
	pockets map[string][]byte
}

// poll is one that may be held, and can be cut.
type poll struct {
	facts func() *facts // read when a rule asks for them
	end   context.CancelFunc
	cut   bool // guarded by the lock of the injector
}

// Add adds a rule and returns its id.
func (j *Injector) Add(r Rule) (string, error) {
	r.Hits = 0
	if err := r.check(j.routes.Endpoints); err != nil {
		return "", fmt.Errorf("add fault: %w", err)
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if len(j.rules) >= maxRules {
		return "", fmt.Errorf("add fault: there are %d rules, as many as are allowed: delete some", len(j.rules))
	}
	j.nextID++
	r.ID = "fault_" + strconv.Itoa(j.nextID)
	a := &active{Rule: r, number: j.nextID, removed: make(chan struct{}), pockets: map[string][]byte{}}
	j.rules = append(j.rules, a)
	j.armed.Store(true)
	for p := range j.held {
		a.cutHeldLocked(p)
	}
	return r.ID, nil
}

// cutHeldLocked cuts a poll that is being held, if the rule says so.
func (a *active) cutHeldLocked(p *poll) {
	if a.Held && a.matches(p.facts()) {
		p.cut = true
		p.end()
	}
}

// newest is the number of the newest rule.
func (j *Injector) newest() int {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.nextID
}

// hold notes a poll as one that is being held. newest is the number of the newest rule when it was looked at: a rule that was
// added since then has not met it.
func (j *Injector) hold(p *poll, newest int) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.held == nil {
		j.held = map[*poll]struct{}{}
	}
	j.held[p] = struct{}{}
	for _, a := range j.rules {
		if a.number > newest {
			a.cutHeldLocked(p)
		}
	}
}

// Outage takes a whole side down until the rule that it returns is removed: new requests are dropped, and so are polls
// that are being held.
func (j *Injector) Outage(side string) (string, error) {
	return j.Add(Rule{Endpoint: side, Action: Drop, Held: true})
}

// Remove removes a rule; requests that hang because of it end.
func (j *Injector) Remove(id string) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	i := slices.IndexFunc(j.rules, func(a *active) bool { return a.ID == id })
	if i < 0 {
		return false
	}
	close(j.rules[i].removed)
	j.rules = slices.Delete(j.rules, i, i+1)
	j.armLocked()
	return true
}

// Clear removes all rules.
func (j *Injector) Clear() {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, a := range j.rules {
		close(a.removed)
	}
	j.rules = nil
	j.armLocked()
}

// Close is Clear, after which no request hangs any more.
func (j *Injector) Close() {
	j.Clear()
	j.mu.Lock()
	defer j.mu.Unlock()
	j.closed = true
}

// armLocked says whether requests have to be looked at.
func (j *Injector) armLocked() { j.armed.Store(len(j.rules) > 0 || j.rec.on) }

// Rules lists the rules, oldest first.
func (j *Injector) Rules() []Rule {
	j.mu.Lock()
	defer j.mu.Unlock()
	out := make([]Rule, 0, len(j.rules))
	for _, a := range j.rules {
		out = append(out, a.Rule)
	}
	return out
}

// claimLocked counts a hit and says whether the rule applies.
func (a *active) claimLocked() bool {
	a.seen++
	if a.seen <= a.Skip || a.Every > 1 && (a.seen-a.Skip)%a.Every != 0 || a.Times > 0 && a.Hits >= a.Times {
		return false
	}
	a.Hits++
	return true
}

// pick returns the first rule that applies to a request, nil if none does.
func (j *Injector) pick(f *facts) *active {
	j.mu.Lock()
	rules := slices.Clone(j.rules)
	j.mu.Unlock()
	for _, a := range rules {
		// Matching may read the body, so not under the lock; its fields do not change.
		if a.onMessages() || !a.matches(f) {
			continue
		}
		j.mu.Lock()
		ok := a.claimLocked()
		j.mu.Unlock()
		if ok {
			return a
		}
	}
	return nil
}
