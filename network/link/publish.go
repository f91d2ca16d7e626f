package link

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"time"

	"github.com/blocksd/blocksd/internal/retry"
)

// clockSkew is how far our clock may be ahead of the network's when nothing has been heard from it yet.
const clockSkew = time.Minute

// Message is one message to publish.
type Message struct {
	Channel string
	// Token permits it; empty for the link's.
	Token string
	// UserID publishes it; empty for the link's.
	UserID string
	// Meta is publisher metadata as JSON, nil for none.
	Meta []byte
	// Body is the message as JSON.
	Body []byte
	// Store keeps it in the channel's history.
	Store bool
	// Again, if not nil, is asked before every attempt but the first; its error ends the publish and is returned.
	Again func(ctx context.Context) error
}

// Publish sends m and returns its timetoken. It tries again, with growing random waits, until ctx ends or the answer is
// final: then the error is a *StatusError (status 400, 403, 413 or 414).
//
// A stored message is not sent twice just because an answer was lost: history is asked first, for the same body from
// the same publisher since the first attempt. Where history may not be read, it is sent again. Two concurrent publishes
// of equal stored messages on one channel can be mistaken for each other.
func (l *Link) Publish(ctx context.Context, m Message) (timetoken string, err error) {
	if m.Channel == "" || len(m.Body) == 0 {
		return "", fmt.Errorf("publish on channel %q: a channel and a body are required", m.Channel)
	}
	if l.cfg.Keys.PublishKey == "" {
		return "", fmt.Errorf("publish on channel %s: the link has no publish key", m.Channel)
	}
	if m.Meta != nil && !json.Valid(m.Meta) {
		return "", fmt.Errorf("publish on channel %s: the metadata is not JSON", m.Channel)
	}
	ctx, done, err := l.enter(ctx)
	if err != nil {
		return "", fmt.Errorf("publish on channel %s: %w", m.Channel, err)
	}
	defer done()

	began := l.cfg.Now()
	p := publication{m: m, since: l.newest.v.Load()}
	if p.since == 0 {
		p.since = timetokenOf(l.cfg.Now().Add(-clockSkew))
	}
	for n := 1; ; n++ {
		timetoken, wait, err := l.attempt(ctx, &p)
		if err == nil {
			if l.cfg.OnPublished != nil {
				l.cfg.OnPublished(l.cfg.Now().Sub(began))
			}
			return timetoken, nil
		}
		var status *StatusError
		if errors.As(err, &status) && status.final() {
			return "", err
		}
		if ctx.Err() == nil {
			l.log.Debug("publish failed, trying again", "channel", m.Channel, "attempt", n, "err", err)
			_ = retry.Pause(ctx, max(wait, l.backoff(0).Delay(n)))
		}
		if m.Again != nil && ctx.Err() == nil {
			if err := m.Again(ctx); err != nil && ctx.Err() == nil {
				return "", fmt.Errorf("publish on channel %s: %w", m.Channel, err)
			}
		}
		if ctx.Err() != nil {
			return "", l.gaveUp(ctx, fmt.Sprintf("publish on channel %s: gave up after %d attempts", m.Channel, n), err)
		}
	}
}

// PublishOnce sends m once and returns its timetoken. Any error but a *StatusError leaves open whether the message was
// published; a message that is stored must not be sent this way, because it could come twice.
func (l *Link) PublishOnce(ctx context.Context, m Message) (timetoken string, err error) {
	switch {
	case m.Channel == "" || len(m.Body) == 0:
		return "", fmt.Errorf("publish on channel %q: a channel and a body are required", m.Channel)
	case l.cfg.Keys.PublishKey == "":
		return "", fmt.Errorf("publish on channel %s: the link has no publish key", m.Channel)
	case m.Store:
		return "", fmt.Errorf("publish on channel %s: a message that is stored needs Publish", m.Channel)
	}
	ctx, done, err := l.enter(ctx)
	if err != nil {
		return "", fmt.Errorf("publish on channel %s: %w", m.Channel, err)
	}
	defer done()
	timetoken, _, err = l.attempt(ctx, &publication{m: m})
	return timetoken, err
}

// publication is a message on its way.
type publication struct {
	m     Message
	since uint64 // a time of the network before the first attempt
	// uncertain means that the message may be stored though no answer says so.
	uncertain bool
	// blind means that history may not be read with this token.
	blind bool
}

// attempt looks for the message if it may be stored already, else sends it once. wait is what the network asks for.
func (l *Link) attempt(ctx context.Context, p *publication) (timetoken string, wait time.Duration, err error) {
	if p.uncertain && !p.blind {
		timetoken, found, err := l.lookUp(ctx, p.m, p.since)
		var status *StatusError
		switch {
		case found:
			return timetoken, 0, nil
		case errors.As(err, &status) && status.final():
			p.blind = true
		case err != nil:
			// Joined as text only: what history answers says nothing about the publish.
			return "", 0, fmt.Errorf("look up whether the message is stored: %v", err)
		}
		p.uncertain = false
	}
	e := l.post(ctx, p.m)
	if e.ok() {
		if v, ok := decodePublishAnswer(e.answer); ok {
			l.newest.see(v)
			return formatTimetoken(v), 0, nil
		}
		e.err = errors.New("the answer is not one to a publish")
	}
	// A refusal for too many requests is the only failure that says that nothing was stored.
	if p.m.Store && e.wrote.Load() && e.status != http.StatusTooManyRequests {
		p.uncertain = true
	}
	return "", retry.After(e.header, maxRetryAfter), e.failure("publish", p.m.Channel)
}

// post sends m once. It speaks the request itself: in a profile of a daemon under load the SDK's publish took 37 % of all
// allocations, most of them in escaping the URL rune by rune, and publishes are nearly all that a provider sends.
func (l *Link) post(ctx context.Context, m Message) *exchange {
	store := "0"
	if m.Store {
		store = "1"
	}
	token := m.Token
	if token == "" {
		token = l.currentToken()
	}
	u := make([]byte, 0, len(l.publishPrefix)+len(m.Channel)+2*len(m.Meta)+len(token)+len(l.publishSuffix)+64)
	u = append(u, l.publishPrefix...)
	u = appendEscaped(u, m.Channel)
	u = append(u, "/0?store="...)
	u = append(u, store...)
	if m.Meta != nil {
		u = append(u, "&meta="...)
		u = appendEscaped(u, string(m.Meta))
	}
	u = l.appendSuffix(u, m.UserID)
	if token != "" {
		u = append(u, "&auth="...)
		u = appendEscaped(u, token)
	}
	ctx, cancel := context.WithTimeout(ctx, l.cfg.Timeouts.Request)
	defer cancel()
	e := &exchange{}
	ctx = e.traced(ctx)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, string(u), bytes.NewReader(m.Body))
	if err != nil {
		e.err = errors.New("the origin or a key of the link does not make a URL")
		return e
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := l.transport.RoundTrip(req)
	e.record(resp, err)
	return e
}

// appendSuffix appends who publishes and with what.
func (l *Link) appendSuffix(u []byte, userID string) []byte {
	if userID == "" {
		return append(u, l.publishSuffix...)
	}
	return append(appendEscaped(append(u, "&uuid="...), userID), l.publishSuffix[l.suffixRest:]...)
}

// gaveUp is the error of a call whose context ended: errors.Is finds the context's error, or ErrClosed.
func (l *Link) gaveUp(ctx context.Context, what string, last error) error {
	why := context.Cause(ctx)
	l.mu.Lock()
	if l.closed {
		why = ErrClosed
	}
	l.mu.Unlock()
	if last == nil || errors.Is(last, why) {
		return fmt.Errorf("%s: %w", what, why)
	}
	return fmt.Errorf("%s: %w (%w)", what, last, why)
}

// lookUp searches history for a message that we may have published after the timetoken since.
func (l *Link) lookUp(ctx context.Context, m Message, since uint64) (timetoken string, found bool, err error) {
	stored, err := l.history(ctx, m.Channel, m.Token, since)
	if err != nil {
		return "", false, err
	}
	publisher := m.UserID
	if publisher == "" {
		publisher = l.cfg.UserID
	}
	for _, s := range stored {
		if s.Publisher == publisher && equalJSON(s.Body, m.Body) {
			return s.Timetoken, true, nil
		}
	}
	return "", false, nil
}

// equalJSON compares two JSON texts by value: history may write a message differently than it was sent.
func equalJSON(a, b []byte) bool {
	if bytes.Equal(a, b) {
		return true
	}
	decode := func(t []byte) (v any, err error) {
		d := json.NewDecoder(bytes.NewReader(t))
		d.UseNumber() // as text: large numbers must not become equal by rounding
		err = d.Decode(&v)
		return v, err
	}
	va, errA := decode(a)
	vb, errB := decode(b)
	return errA == nil && errB == nil && reflect.DeepEqual(va, vb)
}

// decodePublishAnswer reads [1,"Sent","<timetoken>"].
func decodePublishAnswer(b []byte) (uint64, bool) {
	var a []json.RawMessage
	if json.Unmarshal(b, &a) != nil || len(a) < 3 || string(bytes.TrimSpace(a[0])) != "1" {
		return 0, false
	}
	return parseTimetoken(bytes.TrimSpace(a[2]))
}
