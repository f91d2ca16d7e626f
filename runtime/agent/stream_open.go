package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/blocksd/blocksd/dispatch"
	"github.com/blocksd/blocksd/network/stream"
	"github.com/blocksd/blocksd/network/wire"
	"github.com/blocksd/blocksd/runtime/streams"
)

// openStream is a stream that can be used, by one task or by several.
type openStream struct {
	table   *streamTable
	id      string
	channel string
	userID  string
	spec    streams.Spec
	token   atomic.Pointer[string]
	expires time.Time

	// writer and reader are nil where the agent does not do that, both of an external stream.
	writer  *stream.Writer
	reader  *stream.Reader
	reading atomic.Bool // somebody reads

	life    context.Context // ends when the stream has ended, or the agent
	kill    context.CancelFunc
	running sync.WaitGroup // the writer and the reader
	ended   chan struct{}  // closed when it has ended

	// streamTable.mu guards what follows.
	ending  bool
	failure string // why it has failed
	renewal *time.Timer
}

// newOpenStream makes the writer and the reader that the agent needs for a stream which the network has granted.
func (t *streamTable) newOpenStream(life context.Context, kill context.CancelFunc, s streams.SetUp, g wire.StreamGrant) (*openStream, error) {
	a := t.agent
	o := &openStream{
		table: t, id: s.Stream, channel: g.Channel, userID: t.users.Next(a.name()), spec: s.Spec, life: life, kill: kill, ended: make(chan struct{}),
		expires: a.cfg.Now().Add(time.Duration(g.TTLMinutes) * time.Minute),
	}
	o.token.Store(&g.Token)
	end := stream.Endpoint{
		Link: t.session.link, Channel: g.Channel, UserID: o.userID, Token: func() string { return *o.token.Load() },
	}
	log := a.log.With("stream", o.id)
	var onDenied func(context.Context) error
	if s.Spec.Affinity == wire.Shared {
		onDenied = o.renew
	}
	onError := func(e *stream.Error) {
		level := slog.LevelInfo
		if e.Fatal {
			level = slog.LevelWarn
		}
		log.Log(life, level, "a stream has trouble with the network", "err", e, "fatal", e.Fatal)
	}
	var err error
	if s.Spec.Writes() {
		t.mu.Lock()
		buffer := largeBuffer
		if len(t.open) >= largeBuffers {
			buffer = smallBuffer
		}
		t.mu.Unlock()
		o.writer, err = stream.NewWriter(stream.WriterConfig{
			Endpoint: end, StreamID: o.id, Format: s.Spec.Format, EndMarker: s.Spec.Marked(),
			FirstSeq: stream.FirstSeq(s.Spec.Format, s.Spec.Affinity == wire.Shared, a.cfg.Now()),
			Limits:   stream.Limits{Buffer: buffer, MaxItem: maxStreamItem}, OnError: onError, OnDenied: onDenied, Log: log, Now: a.cfg.Now, Jitter: a.cfg.Jitter,
		})
	}
	if s.Spec.Reads() && err == nil {
		o.reader, err = stream.NewReader(stream.ReaderConfig{
			Endpoint: end, Format: s.Spec.Format, EndMarker: wire.HasEndMarker(s.Spec.Direction, s.Spec.Affinity),
			IgnoreOwn: s.Spec.Writes(), OnError: onError, OnDenied: onDenied, Log: log, Now: a.cfg.Now,
		})
	}
	if err != nil {
		return nil, err
	}
	if o.writer != nil {
		o.running.Go(func() { _ = o.writer.Run(life) }) // what ends it is said by OnError and by each write
	}
	if o.reader != nil {
		o.running.Go(func() { _ = o.reader.Run(life) })
	}
	return o, nil
}

// maxStreamItem bounds one item of a stream, in bytes.
const maxStreamItem = 4 << 20

// stop ends the stream, and waits no longer than patience for what is still to be sent.
func (o *openStream) stop(patience time.Duration) {
	t := o.table
	t.mu.Lock()
	if o.renewal != nil {
		o.renewal.Stop()
	}
	failure := o.failure
	t.mu.Unlock()
	if o.writer != nil {
		ctx, cancel := context.WithTimeout(o.life, patience)
		end := o.writer.End
		if failure != "" {
			end = func(ctx context.Context) error { return o.writer.Fail(ctx, failure) }
		}
		if err := end(ctx); err != nil && o.life.Err() == nil {
			t.agent.log.Warn("a stream could not be ended for its readers", "stream", o.id, "err", err)
		}
		cancel()
	}
	if o.reader != nil {
		o.reader.End(stream.Closed, "")
	}
	o.kill()
	o.running.Wait()
}

// fault is an error of the writer as a handler gets it.
func (o *openStream) fault(err error) error {
	var item *stream.ItemError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &item):
		return streamFault(dispatch.StreamBadItem, "stream %s takes no such item: %s", o.id, item.Reason)
	case errors.Is(err, stream.ErrFull):
		return streamFault(dispatch.StreamFull, "stream %s has no room: the network takes less than is written", o.id)
	case errors.Is(err, stream.ErrEnded), errors.Is(err, stream.ErrClosed):
		return o.over()
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return err
	}
	return streamFault(dispatch.StreamClosed, "stream %s has failed: %v", o.id, err)
}

func (o *openStream) over() error {
	return streamFault(dispatch.StreamClosed, "stream %s has ended", o.id)
}

func streamFault(f dispatch.StreamFault, format string, args ...any) error {
	return &dispatch.StreamError{Fault: f, Text: fmt.Sprintf(format, args...)}
}
