package launch

import (
	"bytes"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// killMarked ends every process whose environment has an entry that begins with mark. It finds what left the process group
// of a handler where there are no control groups; a process that cleared its environment too is not found.
func killMarked(mark string) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return
	}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		// By descriptor, so that the signal goes to the process whose environment was read and not to a later one.
		fd, err := unix.PidfdOpen(pid, 0)
		if err != nil {
			continue
		}
		if env, err := os.ReadFile("/proc/" + e.Name() + "/environ"); err == nil && marked(env, mark) {
			_ = unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0)
		}
		unix.Close(fd)
	}
}

// marked reads /proc/PID/environ.
func marked(environ []byte, mark string) bool {
	for kv := range bytes.SplitSeq(environ, []byte{0}) {
		if strings.HasPrefix(string(kv), mark) {
			return true
		}
	}
	return false
}
