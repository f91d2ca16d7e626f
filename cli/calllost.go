package cli

import (
	"errors"
	"io/fs"
	"syscall"
)

// What of a lostOutput.
const (
	toStdout = "write standard output"
	toStderr = "write standard error"
)

// lostOutput is why something could not be written.
type lostOutput struct {
	what string
	err  error
}

func (e *lostOutput) Error() string {
	err := e.err
	if path, ok := errors.AsType[*fs.PathError](err); ok {
		err = path.Err // what says where
	}
	return e.what + ": " + err.Error()
}

func (e *lostOutput) Unwrap() error { return e.err }

// unread reports whether the reader of what is printed has ended, which is no mistake.
func (e *lostOutput) unread() bool {
	return (e.what == toStdout || e.what == toStderr) && errors.Is(e.err, syscall.EPIPE)
}
