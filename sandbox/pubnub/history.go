package pubnub

import (
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
)

// history serves /v3/history/sub-key/{sub}/channel/{channels}: the newest messages of a range, oldest first.
func (s *Server) history(q *request) {
	k := s.keyset(q, q.seg[3])
	if k == nil {
		return
	}
	channels := slices.Compact(slices.Sorted(slices.Values(names(q.seg[5]))))
	if len(channels) == 0 || len(channels) > maxChannels {
		invalidArgument(q.w, "channels")
		return
	}
	if !k.permit(q, access.Read, channels...) {
		return
	}
	// Without a limit one channel gives a full page, several give one message each.
	limit, page := maxOneChannel, maxOneChannel
	if len(channels) > 1 {
		limit, page = 1, maxManyChannels
	}
	var bounds [3]int64
	for i, name := range [...]string{"max", "start", "end"} {
		text := q.query.get(name)
		if text == "" {
			continue
		}
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil || n < 0 {
			invalidArgument(q.w, name)
			return
		}
		bounds[i] = n
	}
	if bounds[0] > 0 {
		limit = int(min(bounds[0], int64(page)))
	}
	withMeta := q.query.get("include_meta") == "true"
	withUUID := q.query.get("include_uuid") == "true"
	withType := q.query.get("include_message_type") == "true"
	withCustom := q.query.get("include_custom_message_type") == "true"
	b := append(make([]byte, 0, 1024), `{"status":200,"error":false,"error_message":"","channels":{`...)
	first := true
	for _, channel := range channels {
		stored := k.Space.History(pubsub.HistoryQuery{Channel: channel, Max: limit, Start: bounds[1], End: bounds[2]})
		if len(stored) == 0 {
			continue
		}
		if !first {
			b = append(b, ',')
		}
		first = false
		b = append(pubsub.AppendString(b, channel), ":["...)
		for i, m := range stored {
			if i > 0 {
				b = append(b, ',')
			}
			b = append(append(b, `{"message":`...), m.Body...)
			b = append(strconv.AppendInt(append(b, `,"timetoken":"`...), m.Timetoken, 10), '"')
			if withUUID { // always text: null makes one SDK crash
				b = pubsub.AppendString(append(b, `,"uuid":`...), m.Publisher)
			}
			if withType {
				b = append(b, `,"message_type":`...)
				if m.Type == 0 {
					b = append(b, "null"...)
				} else {
					b = strconv.AppendInt(b, int64(m.Type), 10)
				}
			}
			if withMeta {
				b = append(b, `,"meta":`...)
				if m.Meta == nil {
					b = append(b, `""`...)
				} else {
					b = append(b, m.Meta...)
				}
			}
			if withCustom && m.CustomType != "" {
				b = pubsub.AppendString(append(b, `,"custom_message_type":`...), m.CustomType)
			}
			b = append(b, '}')
		}
		b = append(b, ']')
	}
	answer(q.w, http.StatusOK, append(b, `}}`...))
}

func invalidArgument(w http.ResponseWriter, name string) {
	b := pubsub.AppendString([]byte(`{"status":400,"error":true,"error_message":`), "Invalid Arguments: "+name)
	answer(w, http.StatusBadRequest, append(b, `,"channels":{}}`...))
}
