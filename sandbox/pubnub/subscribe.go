package pubnub

import (
	"encoding/json"
	"net/http"
	"strconv"
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
	sub := pubsub.Subscription{
		Channels: names(q.seg[3]), Groups: q.query.get("channel-group") != "", UUID: q.query.get("uuid"),
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
	if !k.permit(q, access.Read, sub.Channels...) {
		return
	}
	if state := q.query.get("state"); state != "" {
		k.Space.Heartbeat(sub.Channels, sub.UUID, sub.Timeout, states(state))
	}
	if sub.Cursor == 0 {
		send(q.w, pubsub.Batch{Cursor: k.Space.Handshake(sub)})
		return
	}
	batch, answered := s.held(q, k.Space, sub)
	if answered {
		send(q.w, batch)
	}
}

// held waits until there is something for the poll, the hold is over, a newer poll has taken its place, or the client
// is gone (then there is no answer).
func (s *Server) held(q *request, space *pubsub.Space, sub pubsub.Subscription) (batch pubsub.Batch, answered bool) {
	p := space.Open(sub)
	defer func() { p.Close(answered) }()
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

// timeout is the presence time-out that a client asks for; zero means the default.
func timeout(q *request) time.Duration {
	n, err := strconv.Atoi(q.query.get("heartbeat"))
	if err != nil || n <= 0 || n > 24*3600 {
		return 0
	}
	return time.Duration(n) * time.Second
}

// states reads an object of states by channel; what is none is ignored.
func states(text string) map[string]json.RawMessage {
	var m map[string]json.RawMessage
	if json.Unmarshal([]byte(text), &m) != nil {
		return nil
	}
	return m
}
