package plug

import (
	"fmt"
	"strings"
	"syscall"

	"github.com/blocksd/blocksd/supervisor/logpump"
	"github.com/blocksd/blocksd/supervisor/unit"
)

// Failure is why a process could not be taken into use, or ended: a class for the restart policy and one sentence.
type Failure struct {
	Reason unit.Reason
	Text   string
	// Signal that ended the process; 0 if none did, or if it did not end.
	Signal syscall.Signal
	// Crash is what the process wrote; empty until it was completed (Conn.Failed), and for a process that never was.
	Crash logpump.Crash
}

func (f *Failure) Error() string { return f.Text }

func failure(r unit.Reason, format string, args ...any) *Failure {
	return &Failure{Reason: r, Text: foreign(fmt.Sprintf(format, args...), maxReason)}
}

// withTail adds the last line of output, which often says what is wrong.
func withTail(text string, tail []string) string {
	for i := len(tail) - 1; i >= 0; i-- {
		if line := strings.TrimSpace(tail[i]); line != "" {
			return fmt.Sprintf("%s; its last line was %q", text, shorten(line))
		}
	}
	return text
}
