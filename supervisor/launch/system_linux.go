package launch

import (
	"errors"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// What only Linux has, for the files that every system compiles; system_other.go has it for the others.

// shimWorks: a process can limit itself before it turns into a handler.
const shimWorks = true

// probeLandlock returns the version of the kernel's landlock, or 0 and why it cannot be used.
func probeLandlock() (version int, why string) {
	v, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	switch errno {
	case 0:
		return int(v), ""
	case unix.ENOSYS:
		return 0, noLandlock
	case unix.EOPNOTSUPP:
		return 0, "landlock is switched off: add it to the list lsm= of the kernel's parameters"
	case unix.EPERM, unix.EACCES:
		return 0, "a filter of system calls forbids landlock: add the calls landlock_create_ruleset, landlock_add_rule and landlock_restrict_self to SystemCallFilter= of the unit"
	}
	return 0, "landlock cannot be used: " + errno.Error()
}

// probeProcesses is how many processes and threads handlers of one user may have, which without control groups may be the user
// of the daemon.
func probeProcesses() uint64 {
	var own unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NPROC, &own) != nil {
		return 0
	}
	most := own.Cur
	for _, file := range []string{"/proc/sys/kernel/pid_max", "/proc/sys/kernel/threads-max"} {
		b, err := os.ReadFile(file)
		if err != nil { // the unit hides them
			continue
		}
		if n, err := strconv.ParseUint(strings.TrimSpace(string(b)), 10, 64); err == nil {
			most = min(most, n)
		}
	}
	if most == unix.RLIM_INFINITY {
		return 0
	}
	return allButSome(most)
}

// awaitEnd waits until a process of ours has ended, without reaping it.
func awaitEnd(pid int) {
	for unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil) == unix.EINTR {
	}
}

// attributes are how a process starts: in a session of its own, ended with the thread that starts it, and inside of its
// control group where it is born in it.
func attributes(g *group, born bool) *syscall.SysProcAttr {
	sys := &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL}
	if g != nil && born {
		sys.UseCgroupFD, sys.CgroupFD = true, int(g.dir.Fd())
	}
	return sys
}

// openMade opens what this process has made, of one of these kinds, for fchown and the like. Whoever owns the directory may put
// something else in its place at any moment, so it is looked at first, and no link is followed. The caller closes it.
func openMade(path string, kinds ...uint32) (fd int, err error) {
	if fd, err = unix.Open(path, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0); err != nil {
		return -1, err
	}
	var st unix.Stat_t
	if err = unix.Fstat(fd, &st); err == nil && (int(st.Uid) != os.Geteuid() || !slices.Contains(kinds, st.Mode&unix.S_IFMT)) {
		err = errTaken
	}
	if err != nil {
		_ = unix.Close(fd) // nothing was written to it
		return -1, err
	}
	return fd, nil
}

// Give gives a socket or a directory that this process has made to a user who may own the directory that it is in.
func Give(path string, uid, gid int) error {
	fd, err := openMade(path, unix.S_IFSOCK, unix.S_IFDIR)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.Fchownat(fd, "", uid, gid, unix.AT_EMPTY_PATH)
}

// errTaken: what was made is gone, and something else has its name.
var errTaken = errors.New("something else took its place")

// openProgram opens a file that a launcher is to execute, and nothing else.
func openProgram(path string) (*os.File, error) { return os.OpenFile(path, unix.O_PATH, 0) }

// openUp lets the owner of a directory use it.
func openUp(parent int, name string) error {
	fd, err := unix.Openat(parent, name, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return plain(os.Chmod(descriptor(fd), 0o700))
}
