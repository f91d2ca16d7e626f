package stream

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/blocksd/blocksd/network/link"
	"github.com/blocksd/blocksd/network/wire"
)

// ReaderConfig of a Reader. Endpoint and Format are required.
type ReaderConfig struct {
	Endpoint Endpoint
	Format   wire.StreamFormat
	// EndMarker: the writer ends the stream with a marker; see wire.HasEndMarker. Otherwise the reader ends when the
	// token is refused or it is ended from this side.
	EndMarker bool
	// IgnoreOwn leaves out what Endpoint.UserID has sent, on a bidirectional stream.
	IgnoreOwn bool
	// GapTimeout is how long a missing message is waited for. 0 means 750 ms; below 0, messages are yielded as they
	// come, and doubles are not left out.
	GapTimeout time.Duration
	// Queue is how many bytes may wait for Next before the reader stops asking the network for more. Default 1 MiB. The
	// network keeps the newest 100 messages meanwhile; what it does not is a gap.
	Queue int
	// Spare may hold what does not fit into Queue; nil for none.
	Spare *Spare
	// OnError is called when the network fails, once until it works again, and for the error that ends the reader. It
	// must not block, nor call the reader.
	OnError func(*Error)
	// OnDenied gets a new token after the network has refused the old one; an error ends the reader as revoked. A nil
	// OnDenied means that the first refusal does.
	OnDenied func(ctx context.Context) error
	// Log is nil to discard.
	Log *slog.Logger
	// Now is nil for time.Now.
	Now func() time.Time
}

const (
	defaultQueue = 1 << 20
	// rememberedMessages are compared with what comes to drop doubles; the numbers do the rest.
	rememberedMessages = 256
	// maxRenewals is how many new tokens in a row may be refused.
	maxRenewals = 3
)

// Reader reads one stream, from the first message on that the network still has. Its methods may be called from any
// goroutine, but a Delivery goes to one caller of Next only.
type Reader struct {
	cfg     ReaderConfig
	arrived chan struct{}

	// Of the subscription's goroutine.
	meta     []byte // of the message before
	sender   string // in meta
	renewals int    // in a row

	mu      sync.Mutex // guards what follows
	lanes   *lanes
	queue   []Delivery
	queued  int           // bytes
	spared  int           // of them, in cfg.Spare
	more    chan struct{} // closed when there is something for Next; nil while nobody waits
	room    chan struct{} // closed when the queue has become shorter; nil while nobody waits
	timer   *time.Timer   // of Run
	cancel  context.CancelFunc
	end     *End
	stats   ReaderStats
	trouble bool // OnError has been told
}

// NewReader makes a Reader. Nothing is asked for before Run.
func NewReader(cfg ReaderConfig) (*Reader, error) {
	if err := cfg.Endpoint.check(cfg.Format); err != nil {
		return nil, fmt.Errorf("make the reader of a stream: %w", err)
	}
	if cfg.Queue <= 0 {
		cfg.Queue = defaultQueue
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Reader{cfg: cfg, arrived: make(chan struct{}), lanes: newLanes(cfg.Format, cfg.EndMarker, cfg.GapTimeout)}, nil
}

// Run receives until the stream is over, and returns nil then; when ctx or the link ends first the stream is Closed, and
// the error is ctx's or link.ErrClosed. It must be called once.
func (r *Reader) Run(ctx context.Context) error {
	receiving, cancel := context.WithCancel(ctx)
	defer cancel()
	r.mu.Lock()
	r.cancel = cancel
	r.timer = time.AfterFunc(time.Hour, func() { r.step(looked{}) })
	defer r.timer.Stop()
	over := r.end != nil
	r.mu.Unlock()
	if over {
		return nil
	}
	c := link.SubscribeConfig{
		Remember: rememberedMessages, Replays: true, Ahead: true, OnState: r.state,
		OnAnswer: func(timetoken string) { r.step(caughtUp{timetoken}) },
	}
	if r.cfg.OnDenied != nil {
		c.OnDenied = r.renew
	}
	err := r.cfg.Endpoint.subscribe(receiving, c, r.cfg.IgnoreOwn, func(m link.Received) { r.receive(receiving, m) })
	r.finish(&End{Reason: Closed, Err: err})
	if end := r.Ended(); err != nil && end.Err == err {
		return err
	}
	return nil
}

// receive takes one message, and does not return before there is room for more.
func (r *Reader) receive(ctx context.Context, m link.Received) {
	if len(m.Meta) == 0 || !bytes.Equal(m.Meta, r.meta) {
		r.meta = m.Meta
		r.sender = wire.StreamSender(m.Meta)
	}
	sender := r.sender
	if sender == "" {
		sender = m.Publisher
	}
	if r.cfg.IgnoreOwn && sender == r.cfg.Endpoint.UserID {
		return
	}
	message, err := wire.DecodeStreamMessage(m.Body)
	if err != nil {
		r.cfg.Log.Warn(err.Error(), "channel", m.Channel, "sender", sender)
		return
	}
	r.step(arrived{sender, m.Timetoken, message})
	if r.full() {
		r.step(network{false}) // nothing is asked for, so nothing is missing
		r.awaitRoom(ctx)
		r.step(network{true})
	}
}

func (r *Reader) full() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.fullLocked()
}

// fullLocked reports whether nothing more may wait, and takes from what is spare first.
func (r *Reader) fullLocked() bool {
	over := r.queued - r.cfg.Queue - r.spared
	if r.end != nil || over <= 0 {
		return false
	}
	if !r.cfg.Spare.take(over) {
		return true
	}
	r.spared += over
	return false
}

// giveBackLocked gives back what is spare and not needed.
func (r *Reader) giveBackLocked() {
	if n := min(r.spared, r.spared-(r.queued-r.cfg.Queue)); n > 0 {
		r.spared -= n
		r.cfg.Spare.give(n)
	}
}

// awaitRoom waits until there is room in the queue, or the stream is over.
func (r *Reader) awaitRoom(ctx context.Context) {
	for {
		r.mu.Lock()
		if r.end != nil || r.queued <= r.cfg.Queue {
			r.mu.Unlock()
			return
		}
		if r.room == nil {
			r.room = make(chan struct{})
		}
		room := r.room
		r.mu.Unlock()
		select {
		case <-room:
		case <-ctx.Done():
			return
		}
	}
}

// step tells the lanes what happened.
func (r *Reader) step(e lanesEvent) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.end == nil {
		r.stepLocked(e)
	}
}

func (r *Reader) stepLocked(e lanesEvent) {
	for _, a := range r.lanes.Step(e, r.cfg.Now()) {
		switch a := a.(type) {
		case deliver:
			r.queueLocked(a.d)
		case look:
			if r.timer != nil {
				r.timer.Reset(max(0, a.at.Sub(r.cfg.Now())))
			}
		case dropped:
			r.cfg.Log.Warn(a.err.Error(), "channel", r.cfg.Endpoint.Channel)
		case over:
			end := &End{Reason: Ended}
			if a.failure != "" {
				end = &End{Reason: Failed, Detail: a.failure}
			}
			r.finishLocked(end)
		}
	}
}

func (r *Reader) queueLocked(d Delivery) {
	if d.Gap != nil {
		r.stats.Gaps++
		r.stats.Lost += d.Gap.Messages()
	}
	r.stats.Items += int64(len(d.Items))
	for _, i := range d.Items {
		r.stats.Bytes += int64(len(i.Data) + len(i.Event))
	}
	r.queue = append(r.queue, d)
	r.queued += sizeOf(d)
	r.tellLocked()
}

// tellLocked wakes who waits in Next.
func (r *Reader) tellLocked() {
	if r.more != nil {
		close(r.more)
		r.more = nil
	}
}

func (r *Reader) finish(end *End) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.finishLocked(end)
}

// finishLocked ends the stream, unless it has ended.
func (r *Reader) finishLocked(end *End) {
	if end.Reason == Closed && r.spared > 0 { // what has come can be read on, but is nobody's concern any more
		r.cfg.Spare.give(r.spared)
		r.spared = 0
	}
	if r.end != nil {
		return
	}
	if end.Reason == Closed {
		r.queue, r.queued = nil, 0
	} else {
		r.stepLocked(closing{})
	}
	r.end = end
	r.lanes = newLanes(r.cfg.Format, r.cfg.EndMarker, r.cfg.GapTimeout) // what it held is not needed any more
	r.lanes.ended = true
	close(r.arrived)
	if r.cancel != nil {
		r.cancel()
	}
	r.tellLocked()
}

// Next returns what comes next. The error is ctx's, or an *End when everything has been returned; it stays.
func (r *Reader) Next(ctx context.Context) (Delivery, error) {
	for {
		r.mu.Lock()
		if len(r.queue) > 0 {
			d := r.popLocked()
			r.mu.Unlock()
			return d, nil
		}
		if r.end != nil {
			defer r.mu.Unlock()
			return Delivery{}, r.end
		}
		if r.more == nil {
			r.more = make(chan struct{})
		}
		more := r.more
		r.mu.Unlock()
		select {
		case <-more:
		case <-ctx.Done():
			return Delivery{}, context.Cause(ctx)
		}
	}
}

func (r *Reader) popLocked() Delivery {
	d := r.queue[0]
	r.queue[0] = Delivery{}
	r.queue = r.queue[1:]
	if len(r.queue) == 0 {
		r.queue = nil
	}
	r.queued -= sizeOf(d)
	r.giveBackLocked()
	if r.room != nil && r.queued <= r.cfg.Queue/2 {
		close(r.room)
		r.room = nil
	}
	return d
}

// End ends the reader from this side. What has arrived can still be read, unless the reason is Closed; messages that are
// missing before it become gaps. detail may be empty. The first end counts.
func (r *Reader) End(reason EndReason, detail string) { r.finish(&End{Reason: reason, Detail: detail}) }

// Arrived is closed when nothing more arrives: the stream is over, whether everything has been read or not.
func (r *Reader) Arrived() <-chan struct{} { return r.arrived }

// Ended returns how the stream ended; nil until Arrived is closed.
func (r *Reader) Ended() *End {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.end
}

// state takes a change of the subscription's state.
func (r *Reader) state(s link.State, err error) {
	switch s {
	case link.Connected:
		r.renewals = 0
		r.mu.Lock()
		r.trouble = false
		r.mu.Unlock()
		r.step(network{true})
	case link.Lost:
		r.step(network{false})
		e := describe(err, r.cfg.Endpoint.Channel, r.cfg.Now())
		r.report(e, Failed)
	case link.Denied:
		r.step(network{false})
		if r.cfg.OnDenied == nil {
			r.report(describe(err, r.cfg.Endpoint.Channel, r.cfg.Now()), Revoked)
		}
	}
}

// report tells OnError, and ends the stream with the reason if the error is fatal.
func (r *Reader) report(e *Error, reason EndReason) {
	r.mu.Lock()
	told := r.trouble && !e.Fatal || r.end != nil
	r.trouble = true
	r.mu.Unlock()
	if !told {
		r.cfg.Log.Debug("reading a stream failed", "channel", e.Channel, "fatal", e.Fatal, "err", e.Err)
		if r.cfg.OnError != nil {
			r.cfg.OnError(e)
		}
	}
	if e.Fatal && !errors.Is(e.Err, link.ErrClosed) {
		r.finish(&End{Reason: reason, Detail: e.Err.Error(), Err: e})
	}
}

// renew gets another token, or ends the stream.
func (r *Reader) renew(ctx context.Context) error {
	r.renewals++
	err := errors.New("the network refuses new tokens too")
	if r.renewals <= maxRenewals {
		err = r.cfg.OnDenied(ctx)
	}
	if err != nil && ctx.Err() == nil {
		denied := &link.StatusError{Op: "subscribe", Channel: r.cfg.Endpoint.Channel, Status: http.StatusForbidden}
		r.report(&Error{Category: AccessDenied, Fatal: true, Channel: r.cfg.Endpoint.Channel, Time: r.cfg.Now(), Err: errors.Join(denied, err)}, Revoked)
	}
	return err
}

// ReaderStats counts what a Reader has got.
type ReaderStats struct {
	// Items and Bytes have arrived in order, Waiting of the bytes have not been read yet.
	Items, Bytes, Waiting int64
	// Gaps is how many gaps there were, and Lost how many messages were missing in them.
	Gaps, Lost int64
}

// Stats returns the counts so far.
func (r *Reader) Stats() ReaderStats {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.stats
	s.Waiting = int64(r.queued)
	return s
}
