package pubnub

import (
	"net/http"

	"github.com/blocksd/blocksd/sandbox/access"
	"github.com/blocksd/blocksd/sandbox/pubsub"
)

// registration serves /v1/channel-registration/sub-key/{sub}/channel-group[/{group}[/remove]].
func (s *Server) registration(q *request) {
	k := s.keyset(q, q.seg[3])
	if k == nil {
		return
	}
	if q.seg[2] != "sub-key" && q.seg[2] != "sub_key" || q.seg[4] != "channel-group" {
		notFound(q.w)
		return
	}
	rest := q.seg[5:]
	if len(rest) == 0 || len(rest) == 1 && rest[0] == "" {
		if k.permitKey(q) {
			b := appendStrings([]byte(`{"status":200,"payload":{"namespace":"","groups":`), k.Space.Groups())
			answerJSON(q.w, http.StatusOK, append(b, `},"service":"channel-registry","error":false}`...))
		}
		return
	}
	name := unescape(rest[0])
	if !validGroup(name) {
		registrationError(q.w, "Invalid channel group")
		return
	}
	add, remove := list(q.query.get("add")), list(q.query.get("remove"))
	end := len(rest) == 2 && rest[1] == "remove"
	right := access.Manage
	switch {
	case len(rest) > 1 && !end:
		notFound(q.w)
		return
	case !end && add == nil && remove == nil:
		right = access.Read
	}
	if !k.permitAll(q, right, nil, []string{name}) {
		return
	}
	for _, channel := range add {
		if !validChannel(channel) || pubsub.IsWildcard(channel) {
			registrationError(q.w, "Invalid channel")
			return
		}
	}
	switch {
	case end:
		k.Space.DeleteGroup(name)
	case add != nil || remove != nil:
		if err := k.Space.AddToGroup(name, add); err != nil {
			registrationError(q.w, "Maximum channel count exceeded")
			return
		}
		k.Space.RemoveFromGroup(name, remove)
	default:
		b := pubsub.AppendString([]byte(`{"status":200,"payload":{"group":`), name)
		b = appendStrings(append(b, `,"channels":`...), k.Space.Group(name))
		answerJSON(q.w, http.StatusOK, append(b, `},"service":"channel-registry","error":false}`...))
		return
	}
	answerJSON(q.w, http.StatusOK, []byte(`{"status":200,"message":"OK","service":"channel-registry","error":false}`))
}

func registrationError(w http.ResponseWriter, message string) {
	b := pubsub.AppendString([]byte(`{"status":400,"message":`), message)
	answerJSON(w, http.StatusBadRequest, append(b, `,"service":"channel-registry","error":true}`...))
}
