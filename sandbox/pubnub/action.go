package pubnub

import (
	"encoding/json"
	"errors"
	"net/http"
	"strconv"

	"github.com/blocksd/blocksd/sandbox/access"
	"github.com/blocksd/blocksd/sandbox/pubsub"
)

// Limits of message actions.
const (
	actionPage   = 100
	maxActionLen = 512 // type and value, each
)

// actions serves /v1/message-actions/{sub}/channel/{channel}[/message/{timetoken}[/action/{timetoken}]].
func (s *Server) actions(q *request) {
	k := s.keysets[unescape(q.seg[2])]
	if k == nil {
		actionError(q.w, http.StatusBadRequest, "Invalid Subkey")
		return
	}
	channel := unescape(q.seg[4])
	if !validChannel(channel) {
		actionError(q.w, http.StatusBadRequest, "Invalid channel")
		return
	}
	rest := q.seg[5:]
	switch method := q.r.Method; {
	case method == http.MethodGet && len(rest) == 0:
		listActions(q, k, channel)
	case method == http.MethodPost && len(rest) == 2 && rest[0] == "message":
		addAction(q, k, channel, rest[1])
	case method == http.MethodDelete && len(rest) == 4 && rest[0] == "message" && rest[2] == "action":
		removeAction(q, k, channel, rest[1], rest[3])
	default:
		notFound(q.w)
	}
}

func addAction(q *request, k *Keyset, channel, message string) {
	if !k.permit(q, access.Write, channel) {
		return
	}
	timetoken, ok := parseTimetoken(message)
	if !ok {
		actionError(q.w, http.StatusBadRequest, "Invalid message timetoken")
		return
	}
	var a struct{ Type, Value string }
	body, err := q.readBody()
	if err != nil || json.Unmarshal(body, &a) != nil || a.Type == "" || a.Value == "" || len(a.Type) > maxActionLen || len(a.Value) > maxActionLen {
		actionError(q.w, http.StatusBadRequest, "Invalid action: type and value must be texts")
		return
	}
	added, err := k.Space.AddAction(channel, pubsub.Action{Type: a.Type, Value: a.Value, UUID: q.query.get("uuid"), MessageTimetoken: timetoken})
	if err != nil {
		actionError(q.w, http.StatusConflict, "Action Already Added")
		return
	}
	answer(q.w, http.StatusOK, append(appendAction([]byte(`{"status":200,"data":`), added), '}'))
}

func removeAction(q *request, k *Keyset, channel, message, action string) {
	if !k.permit(q, access.Delete, channel) {
		return
	}
	timetoken, ok := parseTimetoken(message)
	own, ok2 := parseTimetoken(action)
	if !ok || !ok2 {
		actionError(q.w, http.StatusBadRequest, "Invalid timetoken")
		return
	}
	err := k.Space.RemoveAction(channel, timetoken, own, q.query.get("uuid"))
	switch {
	case err == nil:
		answer(q.w, http.StatusOK, []byte(`{"status":200,"data":{}}`))
	case errors.Is(err, pubsub.ErrActionOfOther):
		actionError(q.w, http.StatusBadRequest, "Not deleting message action: wrong uuid specified")
	default:
		actionError(q.w, http.StatusNotFound, "No matching message actions to delete")
	}
}

func listActions(q *request, k *Keyset, channel string) {
	if !k.permit(q, access.Read, channel) {
		return
	}
	bounds := [...]int64{0, 0, actionPage}
	for i, name := range [...]string{"start", "end", "limit"} {
		if text := q.query.get(name); text != "" {
			n, ok := parseTimetoken(text)
			if !ok {
				actionError(q.w, http.StatusBadRequest, "Invalid "+name)
				return
			}
			bounds[i] = n
		}
	}
	limit := int(min(bounds[2], actionPage))
	if limit == 0 {
		limit = actionPage
	}
	found, more := k.Space.Actions(channel, bounds[0], bounds[1], limit)
	b := []byte(`{"status":200,"data":[`)
	for i, a := range found {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendAction(b, a)
	}
	b = append(b, ']')
	if more {
		start := strconv.FormatInt(found[0].Timetoken, 10)
		url := q.path + "?start=" + start
		b = append(b, `,"more":{`...)
		if bounds[1] > 0 {
			end := strconv.FormatInt(bounds[1], 10)
			url += "&end=" + end
			b = append(append(append(b, `"end":"`...), end...), `",`...)
		}
		b = pubsub.AppendString(append(b, `"url":`...), url+"&limit="+strconv.Itoa(limit))
		b = append(append(append(b, `,"start":"`...), start...), `","limit":`...)
		b = append(strconv.AppendInt(b, int64(limit), 10), '}')
	}
	answer(q.w, http.StatusOK, append(b, '}'))
}

func appendAction(b []byte, a pubsub.Action) []byte {
	b = pubsub.AppendString(append(b, `{"type":`...), a.Type)
	b = pubsub.AppendString(append(b, `,"value":`...), a.Value)
	b = pubsub.AppendString(append(b, `,"uuid":`...), a.UUID)
	b = strconv.AppendInt(append(b, `,"actionTimetoken":"`...), a.Timetoken, 10)
	b = strconv.AppendInt(append(b, `","messageTimetoken":"`...), a.MessageTimetoken, 10)
	return append(b, `"}`...)
}

// actionError answers in the form of the message actions, whose error is an object.
func actionError(w http.ResponseWriter, status int, message string) {
	b := strconv.AppendInt([]byte(`{"status":`), int64(status), 10)
	b = pubsub.AppendString(append(b, `,"error":{"source":"actions","message":`...), message)
	answer(w, status, append(b, `}}`...))
}
