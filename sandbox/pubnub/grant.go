package pubnub

import (
	"errors"
	"net/http"

	"github.com/blocksd/blocksd/sandbox/access"
	"github.com/blocksd/blocksd/sandbox/pubsub"
)

// grants serves /v3/pam/{sub}/grant: POST issues a token, DELETE with the token behind it revokes one. Both must be
// signed.
func (s *Server) grants(q *request) {
	k := s.keyset(q, q.seg[2])
	if k == nil {
		return
	}
	source := "grant"
	switch {
	case q.r.Method == http.MethodPost && len(q.seg) == 4:
	case q.r.Method == http.MethodDelete && len(q.seg) == 5:
		source = "revoke"
	default:
		notFound(q.w)
		return
	}
	if k.Access == nil || k.SecretKey == "" {
		accessError(q.w, http.StatusForbidden, source, &access.RequestError{
			Message: "Access Manager not enabled", Detail: "This subscribe key takes no grants.", Location: "subscribe-key",
		}, "path")
		return
	}
	if !k.verify(q, source) {
		return
	}
	if source == "revoke" {
		revoke(q, k)
		return
	}
	body, err := q.readBody()
	if err != nil {
		accessError(q.w, http.StatusBadRequest, source, &access.RequestError{Message: "Invalid JSON", Detail: "The request body cannot be read.", Location: "body"}, "body")
		return
	}
	grant, err := access.ParseGrant(body, k.Access.Now())
	var refused *access.RequestError
	if errors.As(err, &refused) {
		accessError(q.w, http.StatusBadRequest, source, refused, "body")
		return
	}
	token, err := k.Access.Issue(grant)
	if err != nil {
		accessError(q.w, http.StatusBadRequest, source, &access.RequestError{Message: "Invalid grant", Detail: err.Error(), Location: "body"}, "body")
		return
	}
	b := pubsub.AppendString([]byte(`{"data":{"message":"Success","token":`), token)
	answer(q.w, http.StatusOK, append(b, `},"service":"Access Manager","status":200}`...))
}

func revoke(q *request, k *Keyset) {
	err := k.Access.Revoke(unescape(q.seg[4]))
	switch {
	case err == nil:
		answer(q.w, http.StatusOK, []byte(`{"data":{"message":"Success"},"service":"Access Manager","status":200}`))
	case errors.Is(err, access.ErrExpired):
		accessError(q.w, http.StatusBadRequest, "revoke", &access.RequestError{Message: "Invalid token", Detail: "Token is expired.", Location: "token"}, "path")
	default:
		accessError(q.w, http.StatusBadRequest, "revoke", &access.RequestError{Message: "Invalid token", Detail: "Token is not valid.", Location: "token"}, "path")
	}
}
