package stream

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"log/slog"
	mathrand "math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/blocksd/blocksd/network/wire"
)

// WriterConfig of a Writer. Endpoint, StreamID and Format are required.
type WriterConfig struct {
	Endpoint Endpoint
	StreamID string
	Format   wire.StreamFormat
	// FirstSeq is the number of the first message; see the function of this name.
	FirstSeq int64
	// EndMarker tells the reader when the stream ends; see wire.HasEndMarker.
	EndMarker bool
	Limits    Limits
	// OnError is called when publishing fails, once until it works again, and for the error that ends the writer. It must
	// not block, nor call the writer.
	OnError func(*Error)
	// OnDenied gets a new token after the network has refused the old one; on nil the message is sent again with what
	// Endpoint.Token returns then. A nil OnDenied means that a refusal is final.
	OnDenied func(ctx context.Context) error
	// Log is nil to discard.
	Log *slog.Logger
	// Now is nil for time.Now; Jitter returns a number in [0,1), nil for a random one.
	Now    func() time.Time
	Jitter func() float64
}

// Writer writes one stream. Its methods may be called from any goroutine; items of concurrent writes come in some order,
// those of one call together.
//
// Everything is sent in order and nothing is skipped: when the network fails, the writer stalls and tries again until
// Run's context ends or the network refuses the stream for good.
type Writer struct {
	cfg  WriterConfig
	meta []byte
	wake chan struct{} // for Run: there are actions
	done chan struct{}

	renewing sync.Mutex // one new token at a time

	mu       sync.Mutex // guards what follows
	sender   *sender
	actions  []senderAction // for Run
	waiters  []*waiter      // writes that wait for room, the first one first
	flushes  []*flushing
	ended    bool  // writes are refused
	closed   bool  // nothing is sent any more
	err      error // why, nil for a good end
	stats    WriterStats
	acked    int64 // items
	troubled bool  // OnError has been told
	dying    bool  // OnError is being told of the end
}

// waiter is a write that waits for room.
type waiter struct {
	elements []element
	cost     int
	taken    chan struct{} // closed when it has room, or never will
	err      error
}

// flushing is a Flush that waits until so many items have been acknowledged.
type flushing struct {
	upTo int64
	over chan struct{}
	err  error
}

// NewWriter makes a Writer. Nothing is sent before Run.
func NewWriter(cfg WriterConfig) (*Writer, error) {
	err := wire.CheckStreamID(cfg.StreamID)
	if err == nil {
		err = cfg.Endpoint.check(cfg.Format)
	}
	if err == nil {
		cfg.Limits, err = cfg.Limits.withDefaults()
	}
	if err != nil {
		return nil, fmt.Errorf("make the writer of a stream: %w", err)
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Jitter == nil {
		cfg.Jitter = mathrand.Float64
	}
	var suffix [3]byte
	rand.Read(suffix[:]) // never fails
	head := wire.StreamHead{StreamID: cfg.StreamID, Format: cfg.Format, FirstSeq: cfg.FirstSeq}
	return &Writer{
		cfg: cfg, meta: wire.StreamMeta(cfg.Endpoint.UserID), wake: make(chan struct{}, 1), done: make(chan struct{}),
		sender: newSender(head, cfg.Limits, cfg.EndMarker, hex.EncodeToString(suffix[:]), cfg.Jitter),
	}, nil
}

// Run publishes until the stream has ended (nil), the network refuses it for good (a fatal *Error), the writer is closed
// (ErrClosed, or what Close was given), or ctx ends (its error; what waits is given up). It must be called once; without
// it nothing is sent.
func (w *Writer) Run(ctx context.Context) error {
	publishing, stop := context.WithCancel(ctx)
	var parts sync.WaitGroup
	defer parts.Wait()
	defer stop()
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		w.mu.Lock()
		actions := w.actions
		w.actions = nil
		closed, err := w.closed, w.err
		w.mu.Unlock()
		if closed {
			return err
		}
		for _, a := range actions {
			switch a := a.(type) {
			case publish:
				parts.Go(func() { w.publish(publishing, a) })
			case look:
				timer.Reset(max(0, a.at.Sub(w.cfg.Now())))
			}
		}
		select {
		case <-w.wake:
		case <-timer.C:
			w.step(looked{})
		case <-ctx.Done():
			w.finish(context.Cause(ctx))
		}
	}
}

// step tells the sender what happened.
func (w *Writer) step(e senderEvent) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.stepLocked(e)
}

func (w *Writer) stepLocked(e senderEvent) {
	if w.closed {
		return
	}
	for _, a := range w.sender.Step(e, w.cfg.Now()) {
		switch a := a.(type) {
		case acknowledged:
			w.acked += int64(a.count)
			w.stats.Waiting -= int64(a.cost)
			w.flushes = slices.DeleteFunc(w.flushes, func(f *flushing) bool {
				if f.upTo > w.acked {
					return false
				}
				close(f.over)
				return true
			})
		case finished:
			w.finishLocked(nil)
		default:
			w.actions = append(w.actions, a)
		}
	}
	w.admitLocked()
	w.signal()
}

func (w *Writer) signal() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// admitLocked takes the writes for which there is room now.
func (w *Writer) admitLocked() {
	for len(w.waiters) > 0 && !w.closed && w.roomLocked(w.waiters[0].cost) {
		f := w.waiters[0]
		w.waiters = slices.Delete(w.waiters, 0, 1)
		close(f.taken)
		w.takeLocked(f.elements, f.cost)
	}
}

func (w *Writer) roomLocked(cost int) bool {
	return w.sender.cost == 0 || w.sender.cost+cost <= w.cfg.Limits.Buffer
}

func (w *Writer) takeLocked(elements []element, cost int) {
	w.stats.Items += int64(len(elements))
	w.stats.Bytes += int64(cost - len(elements)*itemOverhead)
	w.stats.Waiting += int64(cost)
	w.stepLocked(wrote{elements})
}

// finish ends everything.
func (w *Writer) finish(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.finishLocked(err)
}

func (w *Writer) finishLocked(err error) {
	if w.closed {
		return
	}
	w.closed, w.ended, w.err = true, true, err
	refusal := err
	if refusal == nil {
		refusal = ErrEnded
	}
	for _, f := range w.waiters {
		f.err = refusal
		close(f.taken)
	}
	for _, f := range w.flushes {
		f.err = err
		close(f.over)
	}
	w.waiters, w.flushes, w.actions = nil, nil, nil
	w.sender.forget()
	close(w.done)
	w.signal()
}

// elements checks items and copies them.
func (w *Writer) elements(items []Item) (elements []element, cost int, err error) {
	elements = make([]element, len(items))
	for i, item := range items {
		if elements[i], err = newElement(item, w.cfg.Format, w.cfg.Limits.MaxItem); err != nil {
			return nil, 0, err
		}
		cost += elements[i].cost
	}
	return elements, cost, nil
}

// Write appends the items, all or none of them. It blocks while the buffer has no room. When it returns nil they will be
// sent; see Flush. The items are copied. Errors: an *ItemError for an item that can never be sent, ErrEnded, ctx's, or
// what ended the writer.
func (w *Writer) Write(ctx context.Context, items ...Item) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	f, err := w.write(items, true)
	if f == nil {
		return err
	}
	select {
	case <-f.taken:
		return f.err
	case <-ctx.Done():
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if i := slices.Index(w.waiters, f); i >= 0 {
		w.waiters = slices.Delete(w.waiters, i, i+1)
		w.admitLocked() // a smaller one behind it may fit
		return context.Cause(ctx)
	}
	return f.err // it was taken at the same moment
}

// TryWrite is Write that does not wait for room: it returns ErrFull.
func (w *Writer) TryWrite(items ...Item) error {
	_, err := w.write(items, false)
	return err
}

// write takes the items, or returns what waits for room.
func (w *Writer) write(items []Item, wait bool) (*waiter, error) {
	elements, cost, err := w.elements(items)
	if err != nil {
		return nil, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.closed && w.err != nil:
		return nil, w.err
	case w.ended:
		return nil, ErrEnded
	case len(elements) == 0:
		return nil, nil
	case len(w.waiters) == 0 && w.roomLocked(cost):
		w.takeLocked(elements, cost)
		return nil, nil
	case !wait:
		return nil, ErrFull
	}
	f := &waiter{elements: elements, cost: cost, taken: make(chan struct{})}
	w.waiters = append(w.waiters, f)
	return f, nil
}

// Flush waits until the network has acknowledged everything that was written before.
func (w *Writer) Flush(ctx context.Context) error {
	w.mu.Lock()
	if w.closed || w.acked == w.stats.Items {
		defer w.mu.Unlock()
		return w.err
	}
	f := &flushing{upTo: w.stats.Items, over: make(chan struct{})}
	w.flushes = append(w.flushes, f)
	w.stepLocked(flush{})
	w.mu.Unlock()
	select {
	case <-f.over:
		return f.err
	case <-ctx.Done():
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.flushes = slices.DeleteFunc(w.flushes, func(g *flushing) bool { return g == f })
	return context.Cause(ctx)
}

// End ends the stream: what was written is sent, then the end marker if one is due. Writes fail from now on, also those
// that wait for room. It waits until the network has acknowledged all of it; when ctx ends before, Run goes on with it.
// Repeating it is harmless.
func (w *Writer) End(ctx context.Context) error { return w.end(ctx, "") }

// Fail is End for a stream that did not end well: readers that know how get the reason.
func (w *Writer) Fail(ctx context.Context, reason string) error { return w.end(ctx, reason) }

func (w *Writer) end(ctx context.Context, failure string) error {
	w.mu.Lock()
	if !w.ended {
		w.ended = true
		for _, f := range w.waiters {
			f.err = ErrEnded
			close(f.taken)
		}
		w.waiters = nil
		w.stepLocked(ending{failure})
	}
	w.mu.Unlock()
	select {
	case <-w.done:
		return w.Err()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Close gives up what was not sent, without an end marker, and lets Run return. Waiting calls return err, ErrClosed if it
// is nil. It does nothing when the stream has ended.
func (w *Writer) Close(err error) {
	if err == nil {
		err = ErrClosed
	}
	w.finish(err)
}

// Done is closed when the writer sends nothing any more: it has ended, failed, or been closed.
func (w *Writer) Done() <-chan struct{} { return w.done }

// Err is nil until Done is closed, and then too if the stream ended well.
func (w *Writer) Err() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.err
}

// WriterStats counts what a Writer has done.
type WriterStats struct {
	// Items and Bytes were written.
	Items, Bytes int64
	// Waiting is how much of the buffer and of what is under way they take until they are acknowledged.
	Waiting int64
	// Messages were published, pieces counted one by one; Retries of them again.
	Messages, Retries int64
	// Stalled means that the last attempt to publish failed.
	Stalled bool
}

// Stats returns the counts so far.
func (w *Writer) Stats() WriterStats {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := w.stats
	s.Retries, s.Stalled = w.sender.retries, w.sender.failures > 0
	return s
}
