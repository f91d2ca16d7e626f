package pubnub

import (
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/blocksd/blocksd/sandbox/access"
)

// maxClockDifference is how far the time of a signed request may be from ours.
const maxClockDifference = 60 * time.Second

// permit checks the token or signature of a request, or answers that it is not enough.
func (k *Keyset) permit(q *request, right access.Right, channels ...string) bool {
	return k.permitAll(q, right, channels, nil)
}

// permitAll is permit for channels and channel groups. A presence channel or group needs the right on itself or on its
// base. A signed request may do everything.
func (k *Keyset) permitAll(q *request, right access.Right, channels, groups []string) bool {
	if k.Access == nil || q.signed {
		return true
	}
	if k.SecretKey != "" && q.query.get("signature") != "" {
		return k.verify(q, "")
	}
	token, uuid := q.query.get("auth"), q.query.get("uuid")
	err := k.Access.CheckAll(token, uuid, right, channels, groups)
	var denied *access.DeniedError
	switch {
	case err == nil:
		return true
	case errors.As(err, &denied):
		channels = slices.DeleteFunc(denied.Channels, func(name string) bool {
			base, presence := strings.CutSuffix(name, "-pnpres")
			return presence && k.Access.Check(token, uuid, right, base) == nil
		})
		groups = slices.DeleteFunc(denied.Groups, func(name string) bool {
			base, presence := strings.CutSuffix(name, "-pnpres")
			return presence && k.Access.CheckAll(token, uuid, right, nil, []string{base}) == nil
		})
		if len(channels) == 0 && len(groups) == 0 {
			return true
		}
		forbidden(q.w, channels, groups)
	case errors.Is(err, access.ErrExpired):
		answer(q.w, http.StatusForbidden, []byte(`{"error":true,"status":403,"service":"Access Manager","message":"Token is expired"}`))
	case errors.Is(err, access.ErrRevoked):
		q.w.Header()["X-Pn-Cause"] = []string{"4001"}
		answer(q.w, http.StatusForbidden, []byte(`{"error":true,"status":403,"service":"Access Manager","message":"Token is revoked"}`))
	default:
		forbidden(q.w, channels, groups)
	}
	return false
}

// permitKey is for questions about the whole key: with an access manager no token can permit them, only a signature.
func (k *Keyset) permitKey(q *request) bool {
	if k.Access == nil {
		return true
	}
	if k.SecretKey != "" && q.query.get("signature") != "" {
		return k.verify(q, "")
	}
	forbidden(q.w, nil, nil)
	return false
}

// verify checks the signature of a request, or answers that it is wrong. source is the name of an operation of the
// access manager itself, whose errors have a form of their own, or "".
func (k *Keyset) verify(q *request, source string) bool {
	if k.AnySignature {
		q.signed = true
		return true
	}
	seconds, err := strconv.ParseInt(q.query.get("timestamp"), 10, 64)
	if age := k.Access.Now().Sub(time.Unix(seconds, 0)); err != nil || age > maxClockDifference || age < -maxClockDifference {
		if source != "" {
			accessError(q.w, http.StatusBadRequest, source, &access.RequestError{Message: "Invalid timestamp", Detail: "Timestamp is not within 60 seconds of the server's time.", Location: "timestamp"}, "query")
		} else {
			badRequest(q.w, "Invalid Timestamp")
		}
		return false
	}
	body, _ := q.readBody() // one that cannot be read does not verify, or is refused later
	pairs := slices.DeleteFunc(slices.Clone(q.query), func(p pair) bool { return p.name == "signature" })
	slices.SortStableFunc(pairs, func(a, b pair) int { return strings.Compare(a.name, b.name) })
	var text strings.Builder
	for i, p := range pairs {
		if i > 0 {
			text.WriteByte('&')
		}
		text.WriteString(p.name + "=" + access.EncodeQuery(p.value))
	}
	q.signed = access.VerifySignature(k.SecretKey, access.Signed{
		Method: q.r.Method, PublishKey: k.PublishKey, SubscribeKey: k.Space.SubscribeKey(), Path: q.path, Query: text.String(), Body: body,
		Signature: q.query.get("signature"),
	})
	switch {
	case q.signed:
	case source != "":
		accessError(q.w, http.StatusForbidden, source, &access.RequestError{
			Message: "Invalid signature", Detail: "Client and server produced different signatures for the same inputs.", Location: "signature",
		}, "query")
	default:
		answer(q.w, http.StatusForbidden, []byte(`{"message":"Signature Does Not Match","error":true,"service":"Access Manager","status":403}`))
	}
	return q.signed
}

// keyset finds the keyset of a subscribe key, or answers that there is none.
func (s *Server) keyset(q *request, subscribeKey string) *Keyset {
	k := s.keysets[unescape(subscribeKey)]
	if k == nil {
		answer(q.w, http.StatusBadRequest, []byte(`{"message":"Invalid Subscribe Key","error":true,"service":"Access Manager","status":400}`))
	}
	return k
}
