package stream

import (
	"context"
	"errors"
	"log/slog"
	"time"

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
	// OnError is called when the network fails, once until it works again, and for the error that ends the reader. It
	// must not block.
	OnError func(*Error)
	// OnDenied gets a new token after the network has refused the old one; nil means that a refusal ends the reader.
	OnDenied func(ctx context.Context) error
	// Log is nil to discard.
	Log *slog.Logger
	// Now is nil for time.Now.
	Now func() time.Time
}

// Reader reads one stream, from the first message on that the network still has. Its methods may be called from any
// goroutine, but a Delivery goes to one caller of Next only.
type Reader struct {
	cfg ReaderConfig
}

// NewReader makes a Reader. Nothing is asked for before Run.
func NewReader(cfg ReaderConfig) (*Reader, error) {
	if !cfg.Format.Valid() || cfg.Endpoint.Link == nil || cfg.Endpoint.Channel == "" || cfg.Endpoint.UserID == "" || cfg.Endpoint.Token == nil {
		return nil, errors.New("make the reader of a stream: the format or the endpoint is not complete")
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Reader{cfg: cfg}, nil
}

// Run receives until the stream is over, and returns nil then; when ctx ends first the stream is Closed, and the error is
// ctx's. It must be called exactly once.
func (r *Reader) Run(ctx context.Context) error { panic("not implemented yet") }

// Next returns what comes next. The error is ctx's, or an *End when everything has been returned; it stays.
func (r *Reader) Next(ctx context.Context) (Delivery, error) { panic("not implemented yet") }

// End ends the reader from this side. What has arrived can still be read, unless the reason is Closed; messages that are
// missing before it become gaps. detail may be empty. The first end counts.
func (r *Reader) End(reason EndReason, detail string) { panic("not implemented yet") }

// Arrived is closed when nothing more arrives: the stream is over, whether everything has been read or not.
func (r *Reader) Arrived() <-chan struct{} { panic("not implemented yet") }

// Ended returns how the stream ended; nil until Arrived is closed.
func (r *Reader) Ended() *End { panic("not implemented yet") }

// ReaderStats counts what a Reader has got.
type ReaderStats struct {
	// Items and Bytes have arrived in order, Waiting of the bytes have not been read yet.
	Items, Bytes, Waiting int64
	// Gaps is how many gaps there were, and Lost how many messages were missing in them.
	Gaps, Lost int64
}

// Stats returns the counts so far.
func (r *Reader) Stats() ReaderStats { panic("not implemented yet") }
