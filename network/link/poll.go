package link

import (
	"fmt"
	"math"
	"net/http"
	"slices"
	"strconv"
	"time"
	"unique"

	"github.com/blocksd/blocksd/internal/retry"
)

// This file decides what a subscription does after each answer. It is pure: the shell in subscribe.go sends what it is
// asked to and reports what came of it.
//
// One request at a time: a handshake (cursor 0, answered at once) after the start and after every failure, which shows
// that the network is there and gives the first cursor; then polls, each from the cursor of the answer before. The
// cursor never goes back and is never lost, whatever arrives.

// State of a subscription.
type State int

// The states. Connected means that the network has answered; until then messages may pass unseen at the very start.
const (
	Connecting State = iota + 1
	Connected
	Lost   // a request failed; tries again by itself
	Denied // the token is refused
)

func (s State) String() string {
	switch s {
	case Connecting:
		return "connecting"
	case Connected:
		return "connected"
	case Lost:
		return "lost"
	case Denied:
		return "denied"
	}
	return "unknown"
}

// pollEvent is what happened.
type pollEvent interface{ pollEvent() }

type (
	// started opens the subscription.
	started struct{}
	// answered: a poll or handshake brought a usable answer.
	answered struct{ answer pollAnswer }
	// failed: no answer, or none that can be used.
	failed struct{ err error }
	// refused: an answer with another status than 200. wait is what the network asks for.
	refused struct {
		err  *StatusError
		wait time.Duration
	}
	// waited: the time of a wait action is over.
	waited struct{}
	// renewed: a renew action ended; a nil err means that there may be a new token.
	renewed struct{ err error }
)

func (started) pollEvent()  {}
func (answered) pollEvent() {}
func (failed) pollEvent()   {}
func (refused) pollEvent()  {}
func (waited) pollEvent()   {}
func (renewed) pollEvent()  {}

// pollAction is what to do. Exactly one of request, wait and renew is the last of each step.
type pollAction interface{ pollAction() }

type (
	// request sends a handshake (cursor 0) or a poll.
	request struct {
		cursor uint64
		region int64
	}
	// wait lets time pass.
	wait struct{ d time.Duration }
	// renew asks for a new token.
	renew struct{}
	// deliver hands over one message.
	deliver struct{ m Received }
	// suspect says that older messages than those that follow may be lost.
	suspect struct{}
	// announce reports a change of state, or why the state is still the same.
	announce struct {
		state State
		err   error
		again bool
	}
)

func (request) pollAction()  {}
func (wait) pollAction()     {}
func (renew) pollAction()    {}
func (deliver) pollAction()  {}
func (suspect) pollAction()  {}
func (announce) pollAction() {}

// Limits of the decisions.
const (
	// seenMessages are remembered to drop duplicates.
	seenMessages = 4096
	// ringSize is how many messages of a channel the network keeps for subscribers that come back; it drops older ones
	// silently.
	ringSize = 100
	// quickAnswers is how many polls in a row may be answered at once with nothing new before it counts as a fault:
	// without a limit a broken proxy makes us send as fast as it answers.
	quickAnswers = 5
	// quickAnswer is what "at once" means.
	quickAnswer = 100 * time.Millisecond
)

type pollMachine struct {
	backoff  retry.Backoff
	canRenew bool // someone gets a new token when the old one is refused

	cursor    uint64 // 0 until the first handshake
	region    int64
	state     State
	handshake bool      // the request under way is one
	sentAt    time.Time // of the request under way
	// caughtUp: a poll has been answered since the last break, so nothing older than its answer is missing.
	caughtUp bool
	// afterWait is what follows a wait.
	afterWait pollAction
	// badHandshakes and badPolls are failures in a row. A good handshake clears only the former: a network on which
	// handshakes work and polls do not must not be asked ten times a second.
	badHandshakes, badPolls int
	denials                 int // refusals of the token in a row
	quick                   int // quick answers in a row
	seen                    seenSet
}

func newPollMachine(cursor uint64, canRenew bool, t Timeouts, jitter func() float64) *pollMachine {
	return &pollMachine{
		backoff: retry.Backoff{First: t.BackoffStart, Max: t.BackoffCap, Jitter: jitter}, canRenew: canRenew, cursor: cursor,
		seen: seenSet{limit: seenMessages},
	}
}

// Step decides what follows e.
func (p *pollMachine) Step(e pollEvent, now time.Time) []pollAction {
	switch e := e.(type) {
	case started:
		return p.sendHandshake(p.announce(nil, Connecting, nil), now)
	case answered:
		return p.answered(e.answer, now)
	case failed:
		return p.failed(nil, e.err, 0, now)
	case refused:
		if e.err.Status != http.StatusForbidden {
			return p.failed(nil, e.err, e.wait, now)
		}
		return p.denied(e.err)
	case renewed:
		if e.err != nil {
			p.afterWait = renew{}
			d := p.delay(p.denials)
			p.denials++ // a network that gives no token is asked less and less often
			return []pollAction{wait{d}}
		}
		return p.sendHandshake(nil, now)
	case waited:
		next := p.afterWait
		p.afterWait = nil
		if _, ok := next.(renew); ok {
			return []pollAction{renew{}}
		}
		return p.sendHandshake(nil, now)
	}
	panic(fmt.Sprintf("unknown event %T", e))
}

func (p *pollMachine) answered(a pollAnswer, now time.Time) []pollAction {
	var out []pollAction
	p.denials, p.badHandshakes = 0, 0
	if a.region != 0 {
		p.region = a.region
	}
	if p.handshake {
		p.handshake = false
		if p.cursor == 0 {
			p.cursor, p.caughtUp = a.cursor, true // from now on: there is nothing to catch up with
			out = p.deliver(out, a.entries)
		}
		// Otherwise the handshake only shows that the network is there: what it brings comes again from our cursor.
		return p.sendPoll(p.announce(out, Connected, nil), now)
	}
	p.badPolls = 0
	out = p.announce(out, Connected, nil)
	if a.cursor <= p.cursor && len(a.entries) == 0 && now.Sub(p.sentAt) < quickAnswer {
		p.quick++
	} else {
		p.quick = 0
	}
	p.cursor = max(p.cursor, a.cursor)
	if !p.caughtUp && len(a.entries) >= ringSize {
		out = append(out, suspect{})
	}
	p.caughtUp = true
	out = p.deliver(out, a.entries)
	if p.quick >= quickAnswers {
		p.afterWait = nil
		return append(out, wait{p.delay(p.quick - quickAnswers + 1)})
	}
	return p.sendPoll(out, now)
}

func (p *pollMachine) failed(out []pollAction, err error, ask time.Duration, now time.Time) []pollAction {
	n := 0
	switch {
	case p.handshake:
		p.badHandshakes++
		n = max(p.badHandshakes, p.badPolls)
	default:
		if now.Sub(p.sentAt) > p.backoff.Max { // it lived long enough not to count as one of a series
			p.badPolls = 0
		}
		p.badPolls++
		n = p.badPolls
	}
	p.quick = 0
	return append(p.announce(out, Lost, err), wait{max(p.delay(n), ask)})
}

func (p *pollMachine) denied(err *StatusError) []pollAction {
	p.denials++
	out := p.announce(nil, Denied, err)
	switch {
	case !p.canRenew:
		return append(out, wait{p.delay(p.denials)})
	case p.denials == 1:
		return append(out, renew{})
	}
	// The new token was refused too: no more than one renewal per wait.
	p.afterWait = renew{}
	return append(out, wait{p.delay(p.denials - 1)})
}

// sendHandshake sends a handshake.
func (p *pollMachine) sendHandshake(out []pollAction, now time.Time) []pollAction {
	p.caughtUp = false
	p.handshake, p.sentAt = true, now
	return append(out, request{0, p.region})
}

func (p *pollMachine) sendPoll(out []pollAction, now time.Time) []pollAction {
	p.handshake, p.sentAt = false, now
	return append(out, request{p.cursor, p.region})
}

func (p *pollMachine) deliver(out []pollAction, entries []Received) []pollAction {
	for _, m := range entries {
		if p.seen.add(seenKeyOf(m)) {
			out = append(out, deliver{m})
		}
	}
	return out
}

// announce adds a change of state. A failure in the same state is reported too, because its reason may be another by now.
func (p *pollMachine) announce(out []pollAction, s State, err error) []pollAction {
	again := p.state == s
	if again && err == nil {
		return out
	}
	p.state = s
	return append(out, announce{s, err, again})
}

func (p *pollMachine) delay(n int) time.Duration { return p.backoff.Delay(n) }

// seenKey is a message, as short as can be: a reader of a thousand streams remembers many.
type seenKey struct {
	channel unique.Handle[string]
	time    uint64
}

func seenKeyOf(m Received) seenKey {
	if v, err := strconv.ParseUint(m.Timetoken, 10, 63); err == nil {
		return seenKey{unique.Make(m.Channel), v}
	}
	return seenKey{unique.Make(m.Channel + " " + m.Timetoken), math.MaxUint64} // no time of the network
}

// seenSet remembers the last limit keys.
type seenSet struct {
	limit int
	order []seenKey // ring once full
	next  int
	keys  map[seenKey]struct{} // nil where few are remembered
}

// seenFew are looked through one by one: a map takes twice as much memory beside them.
const seenFew = 256

// add reports whether key is new.
func (s *seenSet) add(key seenKey) bool {
	if s.keys == nil && s.limit > seenFew {
		s.keys = make(map[seenKey]struct{})
	}
	if s.has(key) {
		return false
	}
	if s.keys != nil {
		s.keys[key] = struct{}{}
	}
	if len(s.order) < s.limit {
		s.order = append(s.order, key)
		return true
	}
	delete(s.keys, s.order[s.next])
	s.order[s.next] = key
	s.next = (s.next + 1) % s.limit
	return true
}

func (s *seenSet) has(key seenKey) bool {
	if s.keys == nil {
		return slices.Contains(s.order, key)
	}
	_, ok := s.keys[key]
	return ok
}
