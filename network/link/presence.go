package link

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/blocksd/blocksd/internal/retry"
	"github.com/blocksd/blocksd/network/link/carrier"
)

// ErrLeft is the error of WaitFirst on a Presence that has left.
var ErrLeft = errors.New("presence has left the channel")

// Presence announces one state on one channel. A change goes out at once; there is one request under way at a time, and
// of several changes meanwhile only the latest is sent. Heartbeats carry the state, so that a network that has forgotten
// it gets it back.
type Presence struct {
	link              *Link
	channel           string
	timeout, interval time.Duration

	wake  chan struct{} // capacity 1
	first chan struct{} // closed at the first acknowledgement
	// sending is held around each request (capacity 1); Leave takes it so that its request is the last one.
	sending chan struct{}

	mu      sync.Mutex
	want    func() []byte // encodes the state to announce; nil before the first Set
	taken   func()        // of that state; may be nil
	version uint64        // counts changes of want and calls of Resync
	heard   time.Time     // when the network last answered; zero before the first time
	lapse   time.Time     // when it answered again after a silence longer than timeout; zero for never
	silent  bool          // onSilence was told of a silence that has not ended
	// onSilence may be nil.
	onSilence func(err error)
	left      bool
	leaving   chan struct{} // closed when left becomes true
}

// NewPresence makes a Presence for channel. timeout is how long the network waits before it takes us for lost (whole
// seconds), interval the time between heartbeats. Nothing is sent before Run.
func (l *Link) NewPresence(channel string, timeout, interval time.Duration) *Presence {
	return &Presence{
		link: l, channel: channel, timeout: timeout, interval: interval,
		wake: make(chan struct{}, 1), first: make(chan struct{}), sending: make(chan struct{}, 1), leaving: make(chan struct{}),
	}
}

// OnSilence has f called when the network has not answered for longer than the timeout, so that it may have taken us for
// lost, with the latest failure; and with nil when it answers again. A poll that the network holds says nothing of it for
// minutes. f must not block; OnSilence must be called before Run.
func (p *Presence) OnSilence(f func(err error)) { p.onSilence = f }

// Set changes the state, a JSON object. It never blocks and keeps a copy.
func (p *Presence) Set(state []byte) {
	state = bytes.Clone(state)
	p.SetLater(func() []byte { return state }, nil)
}

// SetLater is Set with a function that encodes the state. It is called when the state is sent, without any lock, and not at
// all for a state that gave way to a newer one: under load most do. taken, unless it is nil, is called when the network has
// taken the state; it must not block.
func (p *Presence) SetLater(encode func() []byte, taken func()) {
	p.mu.Lock()
	p.want, p.taken = encode, taken
	p.version++
	p.mu.Unlock()
	p.wakeRun()
}

// Resync sends the state again; to be called after a reconnect, when the network may have forgotten it.
func (p *Presence) Resync() {
	p.mu.Lock()
	p.version++
	p.mu.Unlock()
	p.wakeRun()
}

// wakeRun has Run look at the state. It never blocks.
func (p *Presence) wakeRun() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// WaitFirst returns when the network has confirmed a state for the first time.
func (p *Presence) WaitFirst(ctx context.Context) error {
	select {
	case <-p.first:
		return nil
	case <-p.leaving:
		return ErrLeft
	case <-ctx.Done():
		return fmt.Errorf("wait for the network to confirm presence on channel %s: %w", p.channel, ctx.Err())
	}
}

// Run announces until ctx ends, the link closes or Leave is called; then it sends nothing more and returns ctx's error,
// ErrClosed or nil.
func (p *Presence) Run(ctx context.Context) error {
	parent := ctx
	ctx, done, err := p.link.enter(ctx)
	if err != nil {
		return err
	}
	defer done()
	m := &announceMachine{interval: p.interval, gap: p.link.cfg.Timeouts.PresenceGap, backoff: p.link.backoff(p.interval)}
	timer := time.NewTimer(p.interval) // the one timer
	defer timer.Stop()
	for event := announceEvent(began{}); ; {
		for _, a := range m.Step(event, p.link.cfg.Now()) {
			switch a := a.(type) {
			case confirm:
				close(p.first)
			case complain:
				level := slog.LevelWarn
				if a.failures > 1 { // an outage is logged once
					level = slog.LevelDebug
				}
				p.link.log.Log(ctx, level, "could not announce presence", "channel", p.channel, "attempt", a.failures, "err", a.err)
			case stop:
				return nil
			case sleep:
				timer.Reset(a.until.Sub(p.link.cfg.Now()))
				event, err = p.await(ctx, timer)
			case sendHeartbeat:
				event, err = p.send(ctx, true)
			case sendState:
				event, err = p.send(ctx, false)
			}
		}
		if err == nil {
			continue
		}
		if err := parent.Err(); err != nil {
			return err
		}
		return ErrClosed
	}
}

// await waits for the next event. The only error is that of ctx.
func (p *Presence) await(ctx context.Context, timer *time.Timer) (announceEvent, error) {
	for {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-p.leaving:
			return leaving{}, nil
		case <-timer.C:
			return slept{}, nil
		case <-p.wake:
		}
		p.mu.Lock()
		want, version := p.want, p.version
		p.mu.Unlock()
		if want != nil {
			return wanted{version}, nil
		}
	}
}

// send makes one request: a heartbeat with the state, or the state alone. The only error is that of ctx.
func (p *Presence) send(ctx context.Context, heartbeat bool) (announceEvent, error) {
	select {
	case p.sending <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	defer func() { <-p.sending }()
	p.mu.Lock()
	want, known, version, left := p.want, p.taken, p.version, p.left
	p.mu.Unlock()
	if left {
		return leaving{}, nil
	}
	var state []byte
	if want != nil {
		state = want()
	}
	var e *exchange
	var op string
	if heartbeat {
		op, version, known = "heartbeat", 0, nil
		e = p.heartbeat(ctx, state)
	} else {
		op = "setting the presence state"
		e = p.setState(ctx, state)
	}
	if !e.ok() {
		err := e.failure(op, p.channel)
		if ctx.Err() == nil {
			p.unanswered(p.link.cfg.Now(), err)
		}
		return missed{err}, ctx.Err()
	}
	p.answered(p.link.cfg.Now())
	if known != nil {
		known()
	}
	return taken{version}, nil
}

func (p *Presence) answered(now time.Time) {
	p.mu.Lock()
	if !p.heard.IsZero() && now.Sub(p.heard) > p.timeout {
		p.lapse = now
	}
	p.heard = now
	over := p.silent
	p.silent = false
	p.mu.Unlock()
	if over {
		p.onSilence(nil)
	}
}

func (p *Presence) unanswered(now time.Time, err error) {
	p.mu.Lock()
	begins := !p.silent && p.onSilence != nil && !p.heard.IsZero() && now.Sub(p.heard) > p.timeout
	p.silent = p.silent || begins
	p.mu.Unlock()
	if begins {
		p.onSilence(err)
	}
}

// LapsedSince reports whether at some time since t the network had not answered for longer than the timeout, so that it
// may have taken us for lost.
func (p *Presence) LapsedSince(t time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.lapse.After(t) || !p.heard.IsZero() && p.link.cfg.Now().Sub(p.heard) > p.timeout
}

func (p *Presence) heartbeat(ctx context.Context, state []byte) *exchange {
	q := map[string]string{"heartbeat": strconv.Itoa(int(p.timeout.Seconds()))}
	if state != nil {
		// As a query parameter of our own: the SDK would send its State unescaped.
		name, _ := json.Marshal(p.channel)
		q["state"] = "{" + string(name) + ":" + string(state) + "}"
	}
	return p.link.do(ctx, p.link.cfg.Timeouts.Presence, "", func(ctx context.Context) error {
		_, _, err := p.link.sdk.HeartbeatWithContext(ctx).Channels([]string{p.channel}).QueryParam(q).Execute()
		return err
	})
}

// setState is what an agent under load sends most after publishes; through the SDK each took 28 KiB, most of it for escaping.
func (p *Presence) setState(ctx context.Context, state []byte) *exchange {
	if !json.Valid(state) || bytes.TrimSpace(state)[0] != '{' {
		return &exchange{err: errors.New("the presence state is not a JSON object")}
	}
	l := p.link
	u := append(make([]byte, 0, 2<<10), "/v2/presence/sub-key/"...)
	u = appendEscaped(u, l.cfg.Keys.SubscribeKey)
	u = appendEscaped(append(u, "/channel/"...), p.channel)
	u = appendEscaped(append(u, "/uuid/"...), l.cfg.UserID)
	u = appendEscaped(append(u, "/data?state="...), state)
	u = append(u, l.publishSuffix...)
	if token := l.currentToken(); token != "" {
		u = appendEscaped(append(u, "&auth="...), token)
	}
	return l.carryRare(ctx, l.cfg.Timeouts.Presence, carrier.Request{Method: http.MethodGet, Target: u})
}

// Leave stops announcing and informs the network that we have left. It waits for what would otherwise undo it, which is the
// request under way, and a poll that was given up so lately that it may not have arrived; and for the answer: at most
// Timeouts.Presence, Arrival and Leave. A Presence that has left stays so; make a new one to come back. A poll joins
// again, so the subscription must have ended before.
func (p *Presence) Leave(ctx context.Context) error {
	ctx, done, err := p.link.enter(ctx)
	if err != nil {
		return fmt.Errorf("leave channel %s: %w", p.channel, err)
	}
	defer done()
	p.mu.Lock()
	if !p.left {
		p.left = true
		close(p.leaving)
	}
	p.mu.Unlock()
	select {
	case p.sending <- struct{}{}:
	case <-ctx.Done():
		return fmt.Errorf("leave channel %s: %w", p.channel, ctx.Err())
	}
	defer func() { <-p.sending }()
	if err := p.link.letPollArrive(ctx); err != nil {
		return fmt.Errorf("leave channel %s: %w", p.channel, err)
	}
	ctx, cancel := context.WithTimeout(ctx, p.link.cfg.Timeouts.Leave)
	defer cancel()
	for n := 1; ; n++ {
		e := p.link.do(ctx, p.link.cfg.Timeouts.Leave, "", func(ctx context.Context) error {
			_, err := p.link.sdk.LeaveWithContext(ctx).Channels([]string{p.channel}).Execute()
			return err
		})
		if e.ok() {
			return nil
		}
		err := e.failure("leave", p.channel)
		var status *StatusError
		if errors.As(err, &status) && status.final() {
			return err
		}
		if retry.Pause(ctx, p.link.backoff(0).Delay(n)) != nil {
			return fmt.Errorf("leave channel %s: %w", p.channel, err)
		}
	}
}

// letPollArrive waits while a poll that was given up may still be on its way.
func (l *Link) letPollArrive(ctx context.Context) error {
	at := l.polled.Load()
	if at == 0 {
		return nil
	}
	arrival := l.cfg.Timeouts.Arrival
	for pause := range arrivalPauses(arrival, arrival-l.cfg.Now().Sub(time.Unix(0, at))) {
		if err := retry.Pause(ctx, pause); err != nil {
			return err
		}
	}
	return nil
}

// arrivalPauses divides what is left of a wait into short pauses: one in which the machine stands still, and the poll with it, is
// only one of them.
func arrivalPauses(whole, left time.Duration) iter.Seq[time.Duration] {
	return func(yield func(time.Duration) bool) {
		for left = min(left, whole); left > 0; left -= whole / 10 {
			if !yield(min(left, whole/10)) {
				return
			}
		}
	}
}
