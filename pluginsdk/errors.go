package pluginsdk

import (
	"errors"
	"fmt"
	"strings"
)

// CancelReason says why a task is asked to end.
type CancelReason string

// The reasons.
const (
	User       CancelReason = "user"       // the consumer canceled
	Expired    CancelReason = "expired"    // the agreed duration is over
	Terminated CancelReason = "terminated" // the network or an operator ended the task
	Deadline   CancelReason = "deadline"   // ran longer than the agent's card allows
	Drain      CancelReason = "drain"      // the daemon takes no new tasks and has waited long enough
	Shutdown   CancelReason = "shutdown"   // the daemon stops now
	Ended      CancelReason = "ended"      // the daemon ended the call, or is gone
)

// Canceled is the cause of a task context that has ended; get it with errors.As from context.Cause.
type Canceled struct{ Reason CancelReason }

func (c *Canceled) Error() string { return fmt.Sprintf("the task was asked to end (%s)", c.Reason) }

// Private returns an error that shows public to the consumer and keeps err for the daemon's log.
func Private(public string, err error) error { return &private{public, err} }

type private struct {
	public string
	err    error
}

func (p *private) Error() string {
	return fmt.Sprintf("%s: %v", strings.TrimSuffix(p.public, "."), p.err)
}
func (p *private) Unwrap() error { return p.err }

// ErrTaskEnded is returned by the methods of a Task after its Run function has returned.
var ErrTaskEnded = errors.New("the task has ended")

// maxText bounds texts for the consumer, in bytes.
const maxText = 8 << 10

const panicText = "The handler failed with an internal error."

// texts returns what the consumer sees of err and what the log gets beside it.
func texts(err error) (public, secret string) {
	var p *private
	if errors.As(err, &p) {
		return cut(p.public), strings.ToValidUTF8(err.Error(), "\uFFFD")
	}
	if public = cut(err.Error()); public == "" {
		public = fmt.Sprintf("The handler failed with an error without a text (%T).", err)
	}
	return public, ""
}

// cut also mends what is no UTF-8: a message could not carry it.
func cut(s string) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	if len(s) <= maxText {
		return s
	}
	end := maxText - len("…")
	for end > 0 && s[end]&0xC0 == 0x80 { // not inside a character
		end--
	}
	return s[:end] + "…"
}
