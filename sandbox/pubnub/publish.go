package pubnub

import (
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/blocksd/blocksd/internal/jsonscan"
	"github.com/blocksd/blocksd/sandbox/access"
	"github.com/blocksd/blocksd/sandbox/pubsub"
)

// maxCompressed bounds what is read of a compressed body.
const maxCompressed = 64 << 10

var errTooLarge = errors.New("body is larger than a message may be")

// publish takes a message or a signal: /publish/{pub}/{sub}/0/{channel}/{callback}[/{message}].
func (s *Server) publish(q *request) {
	q.pad(unescape(q.seg[5]))
	kind := typeMessage
	if q.seg[0] == "signal" {
		kind = typeSignal
	}
	s.accept(q, kind, q.seg[1], q.seg[2], q.seg[4], q.seg[6:])
}

// Types of an envelope.
const (
	typeMessage = 0
	typeSignal  = 1
	typeFile    = 4
)

// accept takes a publication. The message is the rest of the path, or else the body.
func (s *Server) accept(q *request, kind int, publishKey, subscribeKey, channel string, rest []string) {
	k := s.keyset(q, subscribeKey)
	if k == nil {
		return
	}
	if unescape(publishKey) != k.PublishKey {
		refuse(q.w, k, http.StatusBadRequest, "Invalid Key")
		return
	}
	p := pubsub.Publication{
		Channel: unescape(channel), Publisher: q.query.get("uuid"), Store: q.query.flag("store", true), Type: kind,
		CustomType: q.query.get("custom_message_type"), Origin: origin(q.query.get("ortt")),
	}
	if !validChannel(p.Channel) {
		refuse(q.w, k, http.StatusBadRequest, "Invalid Channel")
		return
	}
	if strings.HasSuffix(p.Channel, ".*") && !pubsub.IsWildcard(p.Channel) {
		refuse(q.w, k, http.StatusBadRequest, "Wildcard maximum depth exceeded")
		return
	}
	if !k.permit(q, access.Write, p.Channel) {
		return
	}
	if len(rest) > 0 {
		p.Body = []byte(unescape(strings.Join(rest, "/")))
	} else {
		body, err := q.readBody()
		if err != nil {
			if errors.Is(err, errTooLarge) {
				tooLarge(q.w)
				return
			}
			refuse(q.w, k, http.StatusBadRequest, "Invalid JSON")
			return
		}
		p.Body = body
	}
	if kind == typeSignal {
		p.Store = false
		if len(p.Body) > maxSignal {
			refuse(q.w, k, http.StatusBadRequest, "Signal size too large")
			return
		}
	}
	if len(p.Body)+len(p.Channel) > maxMessage {
		tooLarge(q.w)
		return
	}
	if meta := q.query.get("meta"); meta != "" {
		p.Meta = []byte(meta)
	}
	// An invalid payload that was stored would make every later answer invalid, so it is checked here.
	if !validJSON(p.Body) || p.Meta != nil && !validJSON(p.Meta) {
		refuse(q.w, k, http.StatusBadRequest, "Invalid JSON")
		return
	}
	if !validCustomType(p.CustomType) {
		refuse(q.w, k, http.StatusBadRequest, "Invalid custom_message_type")
		return
	}
	if hours, err := strconv.ParseFloat(q.query.get("ttl"), 64); err == nil && hours > 0 && hours < maxTTLHours {
		p.TTL = time.Duration(hours * float64(time.Hour))
	}
	p.Sequence, _ = strconv.Atoi(q.query.get("seqn"))
	if !s.meter.take(q.w, channelKey{k.Space.SubscribeKey(), p.Channel}, s.now()) {
		return
	}
	if k.Intercept != nil {
		if status, body, ok := k.Intercept(p); ok {
			answer(q.w, status, body)
			return
		}
	}
	var timetoken int64
	if !s.fire && kind == typeMessage && !p.Store && q.query.flag("norep", false) {
		timetoken = k.Space.Timetoken() // a fire: for the network's functions, not for subscribers
	} else {
		timetoken, _ = k.Space.Publish(p)
	}
	b := strconv.AppendInt(append(make([]byte, 0, 40), `[1,"Sent","`...), timetoken, 10)
	answer(q.w, http.StatusOK, append(b, `"]`...))
}

func validJSON(b []byte) bool {
	_, ok := jsonscan.Check(b)
	return ok
}

// maxTTLHours is the longest life of a stored message that is taken for one; beyond it a message stays indefinitely.
const maxTTLHours = 24 * 365 * 10

func validCustomType(s string) bool {
	for _, c := range []byte(s) {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '_', c == '-':
		default:
			return false
		}
	}
	return s == "" || len(s) >= 3 && len(s) <= 50
}

// origin reads the origination timetoken, an object with a number or a text.
func origin(text string) string {
	if text == "" {
		return ""
	}
	var v struct {
		T json.RawMessage `json:"t"`
	}
	if json.Unmarshal([]byte(text), &v) != nil {
		return ""
	}
	t := strings.Trim(string(v.T), `"`)
	if _, err := strconv.ParseUint(t, 10, 64); err != nil {
		return ""
	}
	return t
}

// refuse answers a publish in its own form: always three elements, because SDKs index them.
func refuse(w http.ResponseWriter, k *Keyset, status int, message string) {
	b := pubsub.AppendString([]byte("[0,"), message)
	b = strconv.AppendInt(append(b, `,"`...), k.Space.Timetoken(), 10)
	answer(w, status, append(b, `"]`...))
}

func tooLarge(w http.ResponseWriter) {
	answer(w, http.StatusRequestEntityTooLarge, []byte(`[0,"Request Entity Too Large"]`))
}
