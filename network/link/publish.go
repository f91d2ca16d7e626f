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

	"github.com/blocksd/blocksd/internal/jsonscan"
	"github.com/blocksd/blocksd/internal/retry"
	"github.com/blocksd/blocksd/network/link/carrier"
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
	if _, ok := jsonscan.Check(m.Meta); m.Meta != nil && !ok {
		return "", fmt.Errorf("publish on channel %s: the metadata is not JSON", m.Channel)
	}
	done, err := l.count()
	if err != nil {
		return "", fmt.Errorf("publish on channel %s: %w", m.Channel, err)
	}
	defer done()

	began := l.cfg.Now()
	p := publication{m: m, since: l.newest.v.Load()}
	if p.since == 0 {
		p.since = timetokenOf(began.Add(-clockSkew))
	}
	var wait time.Duration
	n := 0
	if l.isCarried(m.Body) { // the carrier knows when the link closes; nearly every publish ends here
		timetoken, wait, err = l.attempt(ctx, &p)
		n = 1
	}
	if n == 0 || err != nil {
		timetoken, err = l.persist(ctx, &p, n, wait, err)
	}
	if err == nil && l.cfg.OnPublished != nil {
		l.cfg.OnPublished(l.cfg.Now().Sub(began))
	}
	return timetoken, err
}

// persist sends what n attempts have not brought to the network, the last of which failed with err; wait is what the network
// asked for then.
func (l *Link) persist(ctx context.Context, p *publication, n int, wait time.Duration, err error) (timetoken string, _ error) {
	m := p.m
	ctx, done, closed := l.enter(ctx)
	if closed != nil {
		return "", fmt.Errorf("publish on channel %s: %w", m.Channel, closed)
	}
	defer done()
	for ; ; n++ {
		if n > 0 {
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
		if timetoken, wait, err = l.attempt(ctx, p); err == nil {
			return timetoken, nil
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
	var done func()
	if l.isCarried(m.Body) {
		done, err = l.count()
	} else {
		ctx, done, err = l.enter(ctx)
	}
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

// post sends m once.
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
		u = appendEscaped(u, m.Meta)
	}
	u = l.appendSuffix(u, m.UserID)
	if token != "" {
		u = append(u, "&auth="...)
		u = appendEscaped(u, token)
	}
	return l.carry(ctx, l.cfg.Timeouts.Request, carrier.Request{Method: http.MethodPost, Target: u, Body: m.Body})
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
func decodePublishAnswer(b []byte) (timetoken uint64, ok bool) {
	v, ok := jsonscan.Check(b)
	if !ok {
		return 0, false
	}
	n, ok := 0, false
	for element := range v.Elements {
		switch n++; n {
		case 1:
			if string(element) != "1" {
				return 0, false
			}
		case 3:
			timetoken, ok = parseTimetoken(json.RawMessage(element))
		}
	}
	return timetoken, ok
}
