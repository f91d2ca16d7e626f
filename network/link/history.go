package link

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/blocksd/blocksd/internal/retry"
)

// pageSize is the largest page that the network gives.
const pageSize = 100

// readAttempts bounds how often a read is tried; its caller knows better than we do whether to go on.
const readAttempts = 4

// Stored is one message of a channel's history.
type Stored struct {
	Body      json.RawMessage
	Meta      json.RawMessage // nil for none
	Timetoken string
	Publisher string
}

// at is the timetoken as a number.
func (s Stored) at() uint64 {
	v, _ := strconv.ParseUint(s.Timetoken, 10, 64) // always one of ours
	return v
}

// Time returns the network's present time.
func (l *Link) Time(ctx context.Context) (string, error) {
	ctx, done, err := l.enter(ctx)
	if err != nil {
		return "", fmt.Errorf("read the network's time: %w", err)
	}
	defer done()
	var v uint64
	err = l.retryRead(ctx, func() error {
		e := l.do(ctx, l.cfg.Timeouts.Request, "", func(ctx context.Context) error {
			_, _, err := l.sdk.TimeWithContext(ctx).Execute()
			return err
		})
		if !e.ok() {
			return e.failure("reading the time", "")
		}
		var ok bool
		if v, ok = decodeTimeAnswer(e.answer); !ok {
			return errors.New("the answer is not a time")
		}
		return nil
	})
	if err != nil {
		return "", fmt.Errorf("read the network's time from %s: %w", l.cfg.Origin, err)
	}
	l.newest.see(v)
	return formatTimetoken(v), nil
}

// decodeTimeAnswer reads [17069876543210000].
func decodeTimeAnswer(b []byte) (uint64, bool) {
	var a []json.RawMessage
	if json.Unmarshal(b, &a) != nil || len(a) < 1 {
		return 0, false
	}
	return parseTimetoken(a[0])
}

// History returns the stored messages of channel that are strictly newer than the timetoken after, oldest first; empty
// means all. The error is a *StatusError where the token (empty for the link's) may not read it.
func (l *Link) History(ctx context.Context, channel, token string, after string) ([]Stored, error) {
	ctx, done, err := l.enter(ctx)
	if err != nil {
		return nil, fmt.Errorf("read history of channel %s: %w", channel, err)
	}
	defer done()
	var since uint64
	if after != "" {
		if since, err = strconv.ParseUint(after, 10, 63); err != nil {
			return nil, fmt.Errorf("read history of channel %s: %q is not a timetoken", channel, after)
		}
	}
	return l.retryHistory(ctx, channel, token, since)
}

// searchPages bounds a search: 5,000 messages. A channel of a task that has more is not read to its beginning.
const searchPages = 50

// Search passes the stored messages of channel to is, the newest first, until it returns true or there are no more, at
// most 5,000. Errors are those of History.
func (l *Link) Search(ctx context.Context, channel, token string, is func(Stored) bool) (found bool, err error) {
	ctx, done, err := l.enter(ctx)
	if err != nil {
		return false, fmt.Errorf("search history of channel %s: %w", channel, err)
	}
	defer done()
	var p historyPage
	for n := 0; n < searchPages; n++ {
		before := p.next // a failed attempt leaves no page
		err := l.retryRead(ctx, func() (err error) {
			p, err = l.page(ctx, channel, token, before)
			return err
		})
		if err != nil {
			return false, fmt.Errorf("search history of channel %s: %w", channel, err)
		}
		for _, s := range slices.Backward(p.stored) {
			if is(s) {
				return true, nil
			}
		}
		if p.next == 0 {
			break
		}
	}
	return false, nil
}

func (l *Link) retryHistory(ctx context.Context, channel, token string, since uint64) (stored []Stored, err error) {
	err = l.retryRead(ctx, func() (err error) {
		stored, err = l.history(ctx, channel, token, since)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read history of channel %s: %w", channel, err)
	}
	return stored, nil
}

// history reads the pages back to since once.
func (l *Link) history(ctx context.Context, channel, token string, since uint64) ([]Stored, error) {
	var pages [][]Stored
	for before := uint64(0); ; {
		p, err := l.page(ctx, channel, token, before)
		if err != nil {
			return nil, err
		}
		pages = append(pages, slices.DeleteFunc(p.stored, func(s Stored) bool { return s.at() <= since }))
		if p.next <= since {
			break
		}
		before = p.next
	}
	slices.Reverse(pages)
	return slices.Concat(pages...), nil
}

// historyPage is one page, its messages oldest first. next is before which timetoken the next page ends, 0 for no more.
type historyPage struct {
	stored []Stored
	next   uint64
}

// page reads the newest page of the messages before a timetoken, exclusively; 0 for now.
func (l *Link) page(ctx context.Context, channel, token string, before uint64) (historyPage, error) {
	e := l.do(ctx, l.cfg.Timeouts.Request, token, func(ctx context.Context) error {
		b := l.sdk.FetchWithContext(ctx).Channels([]string{channel}).Count(pageSize).IncludeMeta(true).IncludeUUID(true)
		if before > 0 {
			b.Start(int64(before))
		}
		_, _, err := b.Execute()
		return err
	})
	if !e.ok() {
		return historyPage{}, e.failure("reading history", channel)
	}
	all, size, err := decodeHistory(e.answer, channel)
	if err != nil {
		return historyPage{}, err
	}
	var p historyPage
	var oldest uint64
	for _, s := range all {
		at := s.at()
		if oldest == 0 || at < oldest {
			oldest = at
		}
		l.newest.see(at)
		if before == 0 || at < before {
			p.stored = append(p.stored, s)
		}
	}
	// A page that does not lead further back would be asked for again and again.
	if size >= pageSize && (before == 0 || oldest < before) {
		p.next = oldest
	}
	return p, nil
}

// decodeHistory reads one page of the history of one channel, oldest first. Entries without a usable timetoken or
// message are left out; size counts them.
func decodeHistory(b []byte, channel string) (page []Stored, size int, err error) {
	var answer struct {
		Channels map[string][]json.RawMessage `json:"channels"`
	}
	if err := json.Unmarshal(b, &answer); err != nil {
		return nil, 0, errors.New("the answer is not a page of history")
	}
	entries, ok := answer.Channels[channel]
	if !ok && len(answer.Channels) == 1 { // the network may write the name percent-encoded
		for _, entries = range answer.Channels {
		}
	}
	for _, raw := range entries {
		var m struct {
			Message   json.RawMessage `json:"message"`
			Timetoken json.RawMessage `json:"timetoken"`
			UUID      json.RawMessage `json:"uuid"`
			Meta      json.RawMessage `json:"meta"`
		}
		if json.Unmarshal(raw, &m) != nil {
			continue
		}
		v, ok := parseTimetoken(m.Timetoken)
		if !ok || v == 0 || len(m.Message) == 0 {
			continue
		}
		s := Stored{Body: m.Message, Timetoken: formatTimetoken(v)}
		_ = json.Unmarshal(m.UUID, &s.Publisher) // anything else than text counts as unknown
		if t := string(m.Meta); t != `""` && t != "null" {
			s.Meta = m.Meta
		}
		page = append(page, s)
	}
	return page, len(entries), nil
}

// retryRead calls read until it succeeds, the answer is final, ctx ends or it has failed often enough.
func (l *Link) retryRead(ctx context.Context, read func() error) error {
	for n := 1; ; n++ {
		err := read()
		var status *StatusError
		if err == nil || n == readAttempts || errors.As(err, &status) && (status.final() || status.Status == 404) {
			return err
		}
		if ctx.Err() != nil || retry.Pause(ctx, l.backoff(0).Delay(n)) != nil {
			return l.gaveUp(ctx, fmt.Sprintf("gave up after %d attempts", n), err)
		}
	}
}
