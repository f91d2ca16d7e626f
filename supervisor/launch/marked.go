//go:build linux

package launch

import (
	"bytes"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// killMarked ends every process whose environment has an entry that begins with mark, and those of a session, unless that
// is 0. It finds what left the process group of a handler where there are no control groups; a process that left its
// session and cleared its environment too is not found.
func killMarked(mark string, session int) {
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
		if session != 0 && inSession(pid, session) {
			_ = unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0)
		} else if env, err := os.ReadFile("/proc/" + e.Name() + "/environ"); mark != "" && err == nil && marked(env, mark) {
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

// inSession reports whether a process is in the session that another one, perhaps ended by now, has begun.
func inSession(pid, session int) bool {
	sid, err := unix.Getsid(pid)
	return err == nil && sid == session
}

// maxAncestors bounds the walk up from a process. A chain that is longer has grown meanwhile, or was made to be long.
const maxAncestors = 256

// descends reports whether a process, or what it was started by, and so on, is one that is wanted.
func descends(pid int, wanted func(pid int) bool) bool {
	for range maxAncestors {
		if pid <= 1 {
			return false
		}
		if wanted(pid) {
			return true
		}
		pid = parentOf(pid)
	}
	return false
}

// parentOf reads /proc/PID/stat; 0 when there is no such process.
func parentOf(pid int) int {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0
	}
	// The name of the program, in brackets, may hold anything.
	fields := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	if len(fields) < 2 {
		return 0
	}
	parent, _ := strconv.Atoi(fields[1])
	return parent
}
