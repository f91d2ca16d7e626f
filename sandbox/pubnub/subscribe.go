package pubnub

import (
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/blocksd/blocksd/sandbox/access"
	"github.com/blocksd/blocksd/sandbox/filter"
	"github.com/blocksd/blocksd/sandbox/pubsub"
)

// subscribe answers a handshake or holds a poll: /v2/subscribe/{sub}/{channels}/0.
func (s *Server) subscribe(q *request) {
	k := s.keyset(q, q.seg[2])
	if k == nil {
		return
	}
	q.pad(unescape(q.seg[4]))
	sub := pubsub.Subscription{
		Channels: names(q.seg[3]), Groups: q.groups(), UUID: q.query.get("uuid"),
		FilterText: q.query.get("filter-expr"), Timeout: timeout(q), Join: true,
	}
	var ok bool
	if sub.Cursor, ok = cursor(q.query); !ok {
		badRequest(q.w, "Invalid timetoken")
		return
	}
	if sub.FilterText != "" {
		var err error
		if sub.Filter, err = filter.Parse(sub.FilterText); err != nil {
			badRequest(q.w, "Invalid "+err.Error())
			return
		}
	}
	if !validSubscription(q, sub) || !k.permitAll(q, access.Read, sub.Channels, sub.Groups) {
		return
	}
	if state := q.query.get("state"); state != "" {
		k.Space.Heartbeat(sub.Channels, sub.UUID, sub.Timeout, states(state))
	}
	if sub.Cursor == 0 {
		send(q.w, pubsub.Batch{Cursor: k.Space.Handshake(sub)})
		return
	}
	if batch, ok := s.held(q, k, sub); ok {
		send(q.w, batch)
	}
}

// validSubscription answers a subscription that asks for what cannot be.
func validSubscription(q *request, sub pubsub.Subscription) bool {
	for _, name := range sub.Channels {
		switch {
		case !validChannel(name):
			badRequest(q.w, "Invalid Channel")
			return false
		case strings.HasSuffix(strings.TrimSuffix(name, "-pnpres"), ".*") && strings.Count(name, ".") > 2:
			badRequest(q.w, "Wildcard maximum depth exceeded")
			return false
		}
	}
	if !validGroups(q, sub.Groups) {
		return false
	}
	if len(sub.Channels) == 0 && len(sub.Groups) == 0 {
		badRequest(q.w, "Missing channels and channel groups")
		return false
	}
	return true
}

// held waits until there is something for the poll, the hold is over, a newer poll has superseded it, or the client
// disconnects or its token has ended (then batch is not the answer).
func (s *Server) held(q *request, k *Keyset, sub pubsub.Subscription) (batch pubsub.Batch, answered bool) {
	p := k.Space.Open(sub)
	defer func() { p.Close(answered) }()
	var ended <-chan struct{} // the token is
	if k.Access != nil && !q.signed {
		var stop func()
		ended, stop = k.Access.Watch(q.query.get("auth"))
		defer stop()
		// It may have been revoked since the first look.
		if !k.permitAll(q, access.Read, sub.Channels, sub.Groups) {
			return pubsub.Batch{}, false
		}
	}
	if batch, ok := p.Next(); ok {
		return batch, true
	}
	hold := time.NewTimer(s.hold)
	defer hold.Stop()
	superseded := p.Superseded()
	for {
		select {
		case <-p.Wake():
			if batch, ok := p.Next(); ok {
				return batch, true
			}
		case <-superseded:
			superseded = nil
			hold.Reset(supersedeDelay)
		case <-ended:
			ended = nil
			if !k.permitAll(q, access.Read, sub.Channels, sub.Groups) {
				return pubsub.Batch{}, false
			}
		case <-hold.C:
			return p.Empty(), true
		case <-q.r.Context().Done():
			return pubsub.Batch{}, false
		}
	}
}

func send(w http.ResponseWriter, b pubsub.Batch) {
	answer(w, http.StatusOK, b.AppendAnswer(make([]byte, 0, b.Size())))
}

// cursor reads tt, or t as one old SDK sends it. No cursor, an empty one and zero all ask for a handshake.
func cursor(q query) (int64, bool) {
	text := q.get("tt")
	if text == "" {
		if t := q.get("t"); t != "" {
			var v struct {
				T json.RawMessage `json:"t"`
			}
			if json.Unmarshal([]byte(t), &v) != nil {
				return 0, false
			}
			text = string(v.T)
			if len(text) > 1 && text[0] == '"' {
				text = text[1 : len(text)-1]
			}
		}
	}
	if text == "" {
		return 0, true
	}
	n, err := strconv.ParseInt(text, 10, 64)
	return n, err == nil && n >= 0
}
