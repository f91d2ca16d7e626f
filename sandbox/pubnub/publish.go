package pubnub

import (
	"compress/gzip"
	"compress/zlib"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"

	"github.com/blocksd/blocksd/sandbox/access"
	"github.com/blocksd/blocksd/sandbox/pubsub"
)

// maxCompressed bounds what is read of a compressed body.
const maxCompressed = 64 << 10

var errTooLarge = errors.New("body is larger than a message may be")

// publish takes a message or a signal: /publish/{pub}/{sub}/0/{channel}/{callback}[/{message}].
func (s *Server) publish(q *request) {
	k := s.keyset(q, q.seg[2])
	if k == nil {
		return
	}
	if unescape(q.seg[1]) != k.PublishKey {
		refuse(q.w, k, http.StatusBadRequest, "Invalid Key")
		return
	}
	p := pubsub.Publication{
		Channel: unescape(q.seg[4]), Publisher: q.query.get("uuid"), Store: q.query.get("store") != "0",
		CustomType: q.query.get("custom_message_type"),
	}
	if p.Channel == "" || len(p.Channel) > maxName || strings.ContainsRune(p.Channel, 0) {
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
	if len(q.seg) > 6 {
		p.Body = []byte(unescape(strings.Join(q.seg[6:], "/")))
	} else {
		body, err := readBody(q.r)
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
	if q.seg[0] == "signal" {
		p.Type, p.Store = 1, false
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
	if !json.Valid(p.Body) || p.Meta != nil && !json.Valid(p.Meta) {
		refuse(q.w, k, http.StatusBadRequest, "Invalid JSON")
		return
	}
	if n := len(p.CustomType); n != 0 && (n < 3 || n > 50) {
		refuse(q.w, k, http.StatusBadRequest, "Invalid custom_message_type")
		return
	}
	p.Sequence, _ = strconv.Atoi(q.query.get("seqn"))
	if k.Intercept != nil {
		if status, body, ok := k.Intercept(p); ok {
			answer(q.w, status, body)
			return
		}
	}
	timetoken, _ := k.Space.Publish(p)
	b := strconv.AppendInt(append(make([]byte, 0, 40), `[1,"Sent","`...), timetoken, 10)
	answer(q.w, http.StatusOK, append(b, `"]`...))
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

// readBody reads a body of at most a message, decoding it if it is compressed.
func readBody(r *http.Request) ([]byte, error) {
	var src io.Reader = io.LimitReader(r.Body, maxCompressed)
	plain := false
	switch encoding := strings.ToLower(strings.TrimSpace(r.Header.Get("Content-Encoding"))); encoding {
	case "", "identity":
		plain = true
	case "deflate": // in HTTP this means the zlib format
		z, err := zlib.NewReader(src)
		if err != nil {
			return nil, err
		}
		defer z.Close()
		src = z
	case "gzip":
		z, err := gzip.NewReader(src)
		if err != nil {
			return nil, err
		}
		defer z.Close()
		src = z
	default:
		return nil, errors.New("unknown content encoding")
	}
	var body []byte
	var err error
	if n := r.ContentLength; n > 0 && n <= maxMessage && plain {
		body = make([]byte, n)
		_, err = io.ReadFull(src, body)
	} else {
		body, err = io.ReadAll(io.LimitReader(src, maxMessage+1))
	}
	if err != nil {
		return nil, err
	}
	if len(body) > maxMessage {
		return nil, errTooLarge
	}
	return body, nil
}
