package dispatch

// FailureKind classifies why a handler did not finish a task.
type FailureKind int

// The kinds of failure. All but HandlerError are the process's, not the handler code's.
const (
	HandlerError  FailureKind = iota + 1 // the handler said so
	HandlerCrash                         // the process ended, or the connection to it
	HandlerSilent                        // the call ended without a result
	NoProcess                            // no process could be given the task
	CallEnded                            // the daemon ended the call, after a grace or at its own end
)

// TaskFailure is the error of a task that a handler did not finish.
type TaskFailure struct {
	Kind FailureKind
	// Public goes to the consumer; one sentence without secrets, never empty.
	Public string
	// Private goes to the log only.
	Private string
}

func (f *TaskFailure) Error() string {
	if f.Private != "" {
		return f.Private
	}
	return f.Public
}
