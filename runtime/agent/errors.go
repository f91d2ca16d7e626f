package agent

import (
	"errors"

	"github.com/blocksd/blocksd/network/backend"
	"github.com/blocksd/blocksd/network/link"
)

// ErrFinal marks an authentication that the network refused for good: the API key was revoked or the agent was taken
// offline by an administrator. Trying again is useless until somebody acts.
var ErrFinal = errors.New("authentication is final")

// final reports whether the network refused the authentication for good.
func final(err error) bool {
	var answer *backend.Error
	return errors.As(err, &answer) && answer.Final()
}

// status returns the HTTP status with which PubNub refused a request, 0 for any other error and for none.
func status(err error) int {
	var refusal *link.StatusError
	if errors.As(err, &refusal) {
		return refusal.Status
	}
	return 0
}
