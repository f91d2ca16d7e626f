package pubnub

import (
	"net/http"
	"strconv"
)

func (s *Server) time(q *request) {
	// Any space will do, the clock is the same. One less, because clients use it as a cursor in another space, where
	// the next message may get the very same timetoken.
	for _, k := range s.keysets {
		answer(q.w, http.StatusOK, append(strconv.AppendInt([]byte("["), k.Space.Timetoken()-1, 10), ']'))
		return
	}
	notFound(q.w)
}
