package pubnub

import (
	"bytes"
	"encoding/json"
	"net/http"
	"slices"
	"strconv"

	"github.com/blocksd/blocksd/sandbox/access"
	"github.com/blocksd/blocksd/sandbox/pubsub"
)

// hereNowPage is how many uuids an answer to here-now names at most.
const hereNowPage = 1000

// presence serves everything below /v2/presence/sub-key/{sub}, also in the spelling sub_key.
func (s *Server) presence(q *request) {
	k := s.keyset(q, q.seg[3])
	if k == nil {
		return
	}
	rest := q.seg[4:]
	switch {
	case len(rest) == 0:
		if k.permitKey(q) {
			s.hereNow(q, k, nil, nil, true)
		}
		return
	case len(rest) == 2 && rest[0] == "uuid":
		// A client may ask only for its own channels: others would learn their names.
		if unescape(rest[1]) == q.query.get("uuid") && k.permitAll(q, 0, nil, nil) || unescape(rest[1]) != q.query.get("uuid") && k.permitKey(q) {
			b := append([]byte(`{"status":200,"message":"OK","payload":{"channels":`), appendStrings(nil, k.Space.WhereNow(unescape(rest[1])))...)
			answer(q.w, http.StatusOK, append(b, `},"service":"Presence"}`...))
		}
		return
	case len(rest) < 2 || rest[0] != "channel":
		notFound(q.w)
		return
	}
	channels, groups := names(rest[1]), q.groups()
	if !validGroups(q, groups) {
		return
	}
	for _, name := range channels {
		if !validChannel(name) {
			badRequest(q.w, "Invalid Channel")
			return
		}
	}
	if !k.permitAll(q, access.Read, channels, groups) {
		return
	}
	uuid := q.query.get("uuid")
	switch rest = rest[2:]; {
	case len(rest) == 0:
		s.hereNow(q, k, channels, groups, false)
	case len(rest) == 1 && rest[0] == "heartbeat":
		k.Space.Heartbeat(k.Space.Expand(channels, groups), uuid, timeout(q), states(q.query.get("state")))
		answer(q.w, http.StatusOK, []byte(`{"status":200,"message":"OK","service":"Presence"}`))
	case len(rest) == 1 && rest[0] == "leave":
		k.Space.Leave(k.Space.Expand(channels, groups), uuid)
		answer(q.w, http.StatusOK, []byte(`{"status":200,"message":"OK","action":"leave","service":"Presence"}`))
	case len(rest) == 3 && rest[0] == "uuid" && rest[2] == "data":
		setState(q, k, k.Space.Expand(channels, groups), unescape(rest[1]))
	case len(rest) == 2 && rest[0] == "uuid":
		getState(q, k, k.Space.Expand(channels, groups), unescape(rest[1]), len(channels) == 1 && len(groups) == 0)
	default:
		notFound(q.w)
	}
}

// The answers about states never have a member "error": one SDK takes even false for a failure.

func setState(q *request, k *Keyset, channels []string, uuid string) {
	state := []byte(q.query.get("state"))
	var object map[string]json.RawMessage
	if json.Unmarshal(state, &object) != nil || object == nil {
		badRequest(q.w, "Invalid JSON specified.")
		return
	}
	k.Space.SetState(channels, uuid, state)
	b := append([]byte(`{"status":200,"message":"OK","payload":`), state...)
	answer(q.w, http.StatusOK, append(b, `,"service":"Presence"}`...))
}

func getState(q *request, k *Keyset, channels []string, uuid string, single bool) {
	b := []byte(`{"status":200,"message":"OK","payload":`)
	if single {
		b = appendState(b, k.Space.State(channels[0], uuid))
	} else {
		b = append(b, `{"channels":{`...)
		for i, channel := range slices.Compact(slices.Sorted(slices.Values(channels))) {
			if i > 0 {
				b = append(b, ',')
			}
			b = append(pubsub.AppendString(b, channel), ':')
			b = appendState(b, k.Space.State(channel, uuid))
		}
		b = append(b, `}}`...)
	}
	b = pubsub.AppendString(append(b, `,"uuid":`...), uuid)
	if single {
		b = pubsub.AppendString(append(b, `,"channel":`...), channels[0])
	}
	answer(q.w, http.StatusOK, append(b, `,"service":"Presence"}`...))
}

func appendState(b, state []byte) []byte {
	if state == nil {
		return append(b, '{', '}')
	}
	return append(b, bytes.TrimSpace(state)...)
}

// hereNow answers flat for exactly one channel without groups, and by channel otherwise: an SDK crashes on the flat
// form where it does not expect it.
func (s *Server) hereNow(q *request, k *Keyset, channels, groups []string, global bool) {
	withState := q.query.flag("state", false)
	withUUIDs := !q.query.flag("disable-uuids", false) && !q.query.flag("disable_uuids", false)
	limit, offset := hereNowPage, 0
	if n, err := strconv.Atoi(q.query.get("limit")); err == nil && n >= 0 && n < limit {
		limit = n
	}
	if n, err := strconv.Atoi(q.query.get("offset")); err == nil && n > 0 {
		offset = n
	}
	occupants := func(b []byte, all []pubsub.Occupant) []byte {
		if withUUIDs {
			b = append(b, `"uuids":[`...)
			page := all[min(offset, len(all)):]
			for i, o := range page[:min(limit, len(page))] {
				if i > 0 {
					b = append(b, ',')
				}
				if !withState {
					b = pubsub.AppendString(b, o.UUID)
					continue
				}
				b = pubsub.AppendString(append(b, `{"uuid":`...), o.UUID)
				if o.State != nil {
					b = append(append(b, `,"state":`...), o.State...)
				}
				b = append(b, '}')
			}
			b = append(b, `],`...)
		}
		return strconv.AppendInt(append(b, `"occupancy":`...), int64(len(all)), 10)
	}
	if len(channels) == 1 && len(groups) == 0 {
		found := k.Space.HereNow(channels)
		b := occupants([]byte(`{"status":200,"message":"OK","service":"Presence",`), found[channels[0]])
		answer(q.w, http.StatusOK, append(b, '}'))
		return
	}
	found := map[string][]pubsub.Occupant{}
	if all := k.Space.Expand(channels, groups); global || len(all) > 0 {
		found = k.Space.HereNow(all)
	}
	b := []byte(`{"status":200,"message":"OK","payload":{"channels":{`)
	total := 0
	list := make([]string, 0, len(found))
	for channel, all := range found {
		if len(all) > 0 {
			list = append(list, channel)
			total += len(all)
		}
	}
	slices.Sort(list)
	for i, channel := range list {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(occupants(append(pubsub.AppendString(b, channel), ":{"...), found[channel]), '}')
	}
	b = strconv.AppendInt(append(b, `},"total_channels":`...), int64(len(list)), 10)
	b = strconv.AppendInt(append(b, `,"total_occupancy":`...), int64(total), 10)
	answer(q.w, http.StatusOK, append(b, `},"service":"Presence"}`...))
}
