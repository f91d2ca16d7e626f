package stream

import (
	"context"
	"errors"
	"net"
	"net/http"
	"time"

	"github.com/blocksd/blocksd/network/link"
)

// publish sends one part and reports what came of it.
func (w *Writer) publish(ctx context.Context, p publish) {
	token := w.cfg.Endpoint.Token()
	err := w.cfg.Endpoint.publish(ctx, token, w.meta, p.body)
	if status := statusOf(err); status == http.StatusForbidden && w.cfg.OnDenied != nil && w.renewed(ctx, token) {
		err = w.cfg.Endpoint.publish(ctx, w.cfg.Endpoint.Token(), w.meta, p.body)
	}
	if ctx.Err() != nil {
		return // Run ends, and says why
	}
	if err == nil {
		w.mu.Lock()
		w.stats.Messages++
		w.troubled = false
		w.stepLocked(sent{p.ref})
		w.mu.Unlock()
		return
	}
	e := describe(err, w.cfg.Endpoint.Channel, w.cfg.Now())
	w.mu.Lock()
	told := w.closed || w.dying || w.troubled && !e.Fatal
	w.troubled, w.dying = true, w.dying || e.Fatal
	if !e.Fatal {
		var wait time.Duration
		if s, ok := errors.AsType[*link.StatusError](err); ok {
			wait = s.RetryAfter
		}
		w.stepLocked(failed{ref: p.ref, throttled: statusOf(err) == http.StatusTooManyRequests, wait: wait})
	}
	w.mu.Unlock()
	if !told {
		w.cfg.Log.Debug("publishing on a stream failed", "channel", e.Channel, "fatal", e.Fatal, "err", err)
		if w.cfg.OnError != nil {
			w.cfg.OnError(e)
		}
	}
	if e.Fatal && !told {
		w.finish(e)
	}
}

// renewed gets a new token unless there is another one than the refused one already.
func (w *Writer) renewed(ctx context.Context, refused string) bool {
	w.renewing.Lock()
	defer w.renewing.Unlock()
	return w.cfg.Endpoint.Token() != refused || w.cfg.OnDenied(ctx) == nil
}

func statusOf(err error) int {
	if s, ok := errors.AsType[*link.StatusError](err); ok {
		return s.Status
	}
	return 0
}

// describe sorts an error of the link.
func describe(err error, channel string, now time.Time) *Error {
	e := &Error{Category: NetworkIssues, Channel: channel, Time: now, Err: err}
	var timeout net.Error
	switch status := statusOf(err); {
	case errors.Is(err, link.ErrClosed):
		e.Category, e.Fatal = Other, true
	case status == http.StatusForbidden:
		e.Category, e.Fatal = AccessDenied, true
	case status == http.StatusBadRequest, status == http.StatusRequestEntityTooLarge, status == http.StatusRequestURITooLong:
		e.Category, e.Fatal = BadRequest, true
	case status != 0:
	case errors.As(err, &timeout) && timeout.Timeout(), errors.Is(err, context.DeadlineExceeded):
		e.Category = Timeout
	case errors.As(err, new(*net.OpError)):
		e.Category = NetworkDown
	}
	return e
}
