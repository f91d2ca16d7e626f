package testutil

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// freezeLimit bounds hangs.
const freezeLimit = 3 * time.Minute

// Freeze stops a process and returns when it has stopped. The signal is only on its way when the call that sends it returns:
// a process can still do much until each of its threads has got it.
func Freeze(t testing.TB, pid int) {
	t.Helper()
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	Eventually(t, freezeLimit, "the process freezes", func() bool {
		stats, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
		frozen := err == nil && len(stats) > 0
		for _, path := range stats {
			stat, err := os.ReadFile(path)
			frozen = frozen && (err != nil || bytes.Contains(stat, []byte(") T "))) // it may have ended
		}
		return frozen
	})
}
