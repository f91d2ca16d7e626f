package dispatch

// CancelReason says why a task is asked to end.
type CancelReason int

// The reasons. The last two mean that the daemon is leaving; a handler may treat them differently.
const (
	CancelUnspecified CancelReason = iota
	CancelUser                     // the consumer cancelled
	CancelExpired                  // the agreed duration is over
	CancelTerminated               // the network or an operator ended the task
	CancelDeadline                 // ran longer than the agent's card allows
	CancelDrain                    // the daemon drains
	CancelShutdown                 // the daemon stops now
)

var cancelReasonNames = [...]string{"UNSPECIFIED", "USER", "EXPIRED", "TERMINATED", "DEADLINE", "DRAIN", "SHUTDOWN"}

func (r CancelReason) String() string {
	if r < 0 || int(r) >= len(cancelReasonNames) {
		return "UNSPECIFIED"
	}
	return cancelReasonNames[r]
}
