package stream

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
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
	// OnError is called when publishing fails, once until it works again, and for the error that ends the writer. It is
	// called from Run and must not block.
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
	cfg WriterConfig
}

// NewWriter makes a Writer. Nothing is sent before Run.
func NewWriter(cfg WriterConfig) (*Writer, error) {
	var err error
	if err = wire.CheckStreamID(cfg.StreamID); err != nil {
		return nil, err
	}
	if !cfg.Format.Valid() || cfg.Endpoint.Link == nil || cfg.Endpoint.Channel == "" || cfg.Endpoint.UserID == "" || cfg.Endpoint.Token == nil {
		return nil, errors.New("make the writer of a stream: the format or the endpoint is not complete")
	}
	if cfg.Limits, err = cfg.Limits.withDefaults(); err != nil {
		return nil, err
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Jitter == nil {
		cfg.Jitter = rand.Float64
	}
	return &Writer{cfg: cfg}, nil
}

// Run publishes until the stream has ended (nil), the network refuses it for good (a fatal *Error), or ctx ends (its
// error; what waits is given up). It must be called exactly once; without it nothing is sent.
func (w *Writer) Run(ctx context.Context) error { panic("not implemented yet") }

// Write appends the items, all or none of them. It blocks while the buffer has no room. When it returns nil they will be
// sent; see Flush. The items are copied. Errors: an *ItemError for an item that can never be sent, ErrEnded, ctx's, or
// what ended the writer.
func (w *Writer) Write(ctx context.Context, items ...Item) error { panic("not implemented yet") }

// TryWrite is Write that does not wait for room: it returns ErrFull.
func (w *Writer) TryWrite(items ...Item) error { panic("not implemented yet") }

// Flush waits until the network has acknowledged everything that was written before.
func (w *Writer) Flush(ctx context.Context) error { panic("not implemented yet") }

// End ends the stream: what was written is sent, then the end marker if one is due. Writes fail from now on. It waits
// until the network has acknowledged all of it; when ctx ends before, Run goes on with it. Repeating it is harmless.
func (w *Writer) End(ctx context.Context) error { panic("not implemented yet") }

// Fail is End for a stream that did not end well: readers that know how get the reason.
func (w *Writer) Fail(ctx context.Context, reason string) error { panic("not implemented yet") }

// Close gives up what was not sent, without an end marker, and lets Run return. Waiting calls return err, ErrClosed if it
// is nil.
func (w *Writer) Close(err error) { panic("not implemented yet") }

// Done is closed when the writer sends nothing any more: it has ended, failed, or been closed.
func (w *Writer) Done() <-chan struct{} { panic("not implemented yet") }

// Err is nil until Done is closed, and then too if the stream ended well.
func (w *Writer) Err() error { panic("not implemented yet") }

// WriterStats counts what a Writer has done.
type WriterStats struct {
	// Items and Bytes were written, Waiting of the bytes are not acknowledged yet.
	Items, Bytes, Waiting int64
	// Messages were published, pieces counted one by one; Retries of them again.
	Messages, Retries int64
	// Stalled means that the last attempt to publish failed.
	Stalled bool
}

// Stats returns the counts so far.
func (w *Writer) Stats() WriterStats { panic("not implemented yet") }
