package cli

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// hideProcess keeps other processes of the daemon's own user, its handlers among them, from reading the daemon's memory and
// first environment in /proc, from attaching to it, and from finding its keys in a core file. What else they share with the
// daemon, SECURITY.md says.
func hideProcess() error {
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("hide the daemon's memory from its own user: %w", err)
	}
	return os.Unsetenv("BLOCKS_API_KEY") // it has been copied, and nothing below inherits it
}
