package pubnub

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"

	"github.com/blocksd/blocksd/sandbox/access"
	"github.com/blocksd/blocksd/sandbox/pubsub"
)

// Pages of the history.
const (
	maxOneChannel   = 100
	maxManyChannels = 25
	maxChannels     = 500
	maxCounted      = 100   // channels whose messages are counted
	maxCount        = 10000 // messages of one channel that are counted
)

// history serves /v3/history/sub-key/{sub}/channel/{channels}, and with message actions
// /v3/history-with-actions/sub-key/{sub}/channel/{channel}: the newest messages of a range, oldest first.
func (s *Server) history(q *request, actions bool) {
	k := s.keyset(q, q.seg[3])
	if k == nil {
		return
	}
	channels := slices.Compact(slices.Sorted(slices.Values(names(q.seg[5]))))
	if len(channels) == 0 || len(channels) > maxChannels || actions && len(channels) > 1 {
		invalidArgument(q.w, "channels")
		return
	}
	if !k.permit(q, access.Read, channels...) {
		return
	}
	// Without a limit one channel gives a full page, several give one message each.
	limit, page := maxOneChannel, maxOneChannel
	switch {
	case actions:
		limit, page = maxManyChannels, maxManyChannels
	case len(channels) > 1:
		limit, page = 1, maxManyChannels
	}
	bounds, bad := numbers(q, "max", "start", "end")
	if bad != "" {
		invalidArgument(q.w, bad)
		return
	}
	if bounds[0] > 0 {
		limit = int(min(bounds[0], int64(page)))
	}
	show := shownMembers{
		uuid: q.query.flag("include_uuid", false), kind: q.query.flag("include_message_type", false),
		meta: q.query.flag("include_meta", false), custom: q.query.flag("include_custom_message_type", false),
	}
	encode := q.query.flag("encode_channels", true)
	b := append(make([]byte, 0, 1024), `{"status":200,"error":false,"error_message":"","channels":{`...)
	first, more := true, int64(0)
	for _, channel := range channels {
		stored := k.Space.History(pubsub.HistoryQuery{Channel: channel, Max: limit + 1, Start: bounds[1], End: bounds[2], Actions: actions})
		if len(stored) > limit {
			stored = stored[1:]
			more = stored[0].Timetoken
		}
		if len(stored) == 0 {
			continue
		}
		if !first {
			b = append(b, ',')
		}
		first = false
		if encode {
			channel = encodeName(channel)
		}
		b = append(pubsub.AppendString(b, channel), ":["...)
		for i, m := range stored {
			if i > 0 {
				b = append(b, ',')
			}
			b = show.append(b, m)
		}
		b = append(b, ']')
	}
	b = append(b, '}')
	if actions && more > 0 { // only here the network says that there is more
		url := fmt.Sprintf("%s?start=%d&max=%d", q.path, more, limit)
		if bounds[2] > 0 {
			url += fmt.Sprintf("&end=%d", bounds[2])
		}
		b = fmt.Appendf(b, `,"more":{"url":%s,"start":"%d","max":%d}`, pubsub.AppendString(nil, url), more, limit)
	}
	answer(q.w, http.StatusOK, append(b, '}'))
}

// shownMembers are the members of a message in an answer that only come when asked for.
type shownMembers struct{ uuid, kind, meta, custom bool }

func (show shownMembers) append(b []byte, m pubsub.Stored) []byte {
	b = append(append(b, `{"message":`...), m.Body...)
	b = append(strconv.AppendInt(append(b, `,"timetoken":"`...), m.Timetoken, 10), '"')
	if show.uuid { // always text: null makes one SDK crash
		b = pubsub.AppendString(append(b, `,"uuid":`...), m.Publisher)
	}
	if show.kind {
		b = append(b, `,"message_type":`...)
		if m.Type == typeMessage {
			b = append(b, "null"...)
		} else {
			b = strconv.AppendInt(b, int64(m.Type), 10)
		}
	}
	if show.meta {
		b = appendMeta(append(b, `,"meta":`...), m.Meta)
	}
	if show.custom && m.CustomType != "" {
		b = pubsub.AppendString(append(b, `,"custom_message_type":`...), m.CustomType)
	}
	if len(m.Actions) > 0 {
		b = appendActions(append(b, `,"actions":`...), m.Actions)
	}
	return append(b, '}')
}

func appendMeta(b, meta []byte) []byte {
	if meta == nil {
		return append(b, `""`...)
	}
	return append(b, meta...)
}

// appendActions groups the actions of a message by type and value, in the order in which those first came.
func appendActions(b []byte, actions []pubsub.Action) []byte {
	var types []string
	values := map[string][]string{}
	for _, a := range actions {
		if values[a.Type] == nil {
			types = append(types, a.Type)
		}
		if !slices.Contains(values[a.Type], a.Value) {
			values[a.Type] = append(values[a.Type], a.Value)
		}
	}
	b = append(b, '{')
	for i, kind := range types {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(pubsub.AppendString(b, kind), ":{"...)
		for j, value := range values[kind] {
			if j > 0 {
				b = append(b, ',')
			}
			b = append(pubsub.AppendString(b, value), ":["...)
			first := true
			for _, a := range actions {
				if a.Type != kind || a.Value != value {
					continue
				}
				if !first {
					b = append(b, ',')
				}
				first = false
				b = pubsub.AppendString(append(b, `{"uuid":`...), a.UUID)
				b = append(strconv.AppendInt(append(b, `,"actionTimetoken":"`...), a.Timetoken, 10), `"}`...)
			}
			b = append(b, ']')
		}
		b = append(b, '}')
	}
	return append(b, '}')
}

// oldHistory serves /v2/history/sub-key/{sub}/channel/{channel}: messages, and the first and last timetoken.
func (s *Server) oldHistory(q *request) {
	k := s.keyset(q, q.seg[3])
	if k == nil {
		return
	}
	q.pad(q.query.get("callback"))
	channel := unescape(q.seg[5])
	if !k.permit(q, access.Read, channel) {
		return
	}
	bounds, bad := numbers(q, "count", "start", "end")
	if bad != "" {
		invalidArgument(q.w, bad)
		return
	}
	limit := maxOneChannel
	if bounds[0] > 0 {
		limit = int(min(bounds[0], maxOneChannel))
	}
	stored := k.Space.History(pubsub.HistoryQuery{
		Channel: channel, Max: limit, Start: bounds[1], End: bounds[2], Oldest: q.query.flag("reverse", false),
	})
	withToken, withMeta := q.query.flag("include_token", false), q.query.flag("include_meta", false)
	var first, last int64
	b := append(make([]byte, 0, 1024), "[["...)
	for i, m := range stored {
		if i > 0 {
			b = append(b, ',')
		} else {
			first = m.Timetoken
		}
		last = m.Timetoken
		if !withToken && !withMeta {
			b = append(b, m.Body...)
			continue
		}
		b = append(append(b, `{"message":`...), m.Body...)
		if withToken {
			b = strconv.AppendInt(append(b, `,"timetoken":`...), m.Timetoken, 10)
		}
		if withMeta {
			b = appendMeta(append(b, `,"meta":`...), m.Meta)
		}
		b = append(b, '}')
	}
	b = strconv.AppendInt(append(b, "],"...), first, 10)
	b = strconv.AppendInt(append(b, ','), last, 10)
	answer(q.w, http.StatusOK, append(b, ']'))
}

// counts serves /v3/history/sub-key/{sub}/message-counts/{channels}: how many messages are newer than a timetoken, one
// for all channels or one for each.
func (s *Server) counts(q *request) {
	k := s.keyset(q, q.seg[3])
	if k == nil {
		return
	}
	channels := names(q.seg[5])
	if len(channels) == 0 || len(channels) > maxCounted {
		invalidArgument(q.w, "channels")
		return
	}
	if !k.permit(q, access.Read, channels...) {
		return
	}
	name := "channelsTimetoken"
	texts := list(q.query.get(name))
	if texts == nil {
		name = "timetoken"
		texts = list(q.query.get(name))
	}
	if len(texts) != 1 && len(texts) != len(channels) {
		invalidArgument(q.w, name)
		return
	}
	b := []byte(`{"status":200,"error":false,"error_message":"","channels":{`)
	for i, channel := range channels {
		since, ok := parseTimetoken(texts[min(i, len(texts)-1)])
		if !ok {
			invalidArgument(q.w, name)
			return
		}
		if i > 0 {
			b = append(b, ',')
		}
		b = append(pubsub.AppendString(b, channel), ':')
		b = strconv.AppendInt(b, int64(min(k.Space.Count(channel, since), maxCount)), 10)
	}
	answer(q.w, http.StatusOK, append(b, `}}`...))
}

// deleteHistory serves DELETE /v3/history/sub-key/{sub}/channel/{channel}.
func (s *Server) deleteHistory(q *request) {
	k := s.keyset(q, q.seg[3])
	if k == nil {
		return
	}
	channel := unescape(q.seg[5])
	if !k.permit(q, access.Delete, channel) {
		return
	}
	bounds, bad := numbers(q, "start", "end")
	if bad != "" {
		invalidArgument(q.w, bad)
		return
	}
	k.Space.DeleteHistory(channel, bounds[0], bounds[1])
	answer(q.w, http.StatusOK, []byte(`{"status":200,"error":false,"error_message":""}`))
}

func invalidArgument(w http.ResponseWriter, name string) {
	b := pubsub.AppendString([]byte(`{"status":400,"error":true,"error_message":`), "Invalid Arguments: "+name)
	answer(w, http.StatusBadRequest, append(b, `,"channels":{}}`...))
}

// histories serves what is below /v2/history, /v3/history and /v3/history-with-actions.
func (s *Server) histories(q *request) {
	get := q.get()
	switch kind := q.seg[0] + "/" + q.seg[1] + "/" + q.seg[4]; {
	case get && kind == "v3/history/channel":
		s.history(q, false)
	case get && kind == "v3/history-with-actions/channel":
		s.history(q, true)
	case get && kind == "v3/history/message-counts":
		s.counts(q)
	case get && kind == "v2/history/channel":
		s.oldHistory(q)
	case q.r.Method == http.MethodDelete && kind == "v3/history/channel":
		s.deleteHistory(q)
	default:
		notFound(q.w)
	}
}
