package doctor

import (
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// landlockVersion asks the kernel; 0 comes with the reason.
func landlockVersion() (version int, why string) {
	v, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	switch errno {
	case 0:
		return int(v), ""
	case unix.ENOSYS:
		return 0, "the kernel has no landlock"
	case unix.EOPNOTSUPP:
		return 0, "landlock is not in the list lsm= of the kernel's parameters"
	case unix.EPERM, unix.EACCES:
		return 0, "a filter of system calls forbids landlock to this process"
	}
	return 0, "landlock cannot be used: " + errno.Error()
}

// disk returns how much room a file system has for its owner, and how it is mounted.
func disk(path string) (room int64, readOnly, noExec bool) {
	var st unix.Statfs_t
	if unix.Statfs(path, &st) != nil {
		return -1, false, false
	}
	return int64(st.Bavail) * st.Bsize, st.Flags&unix.ST_RDONLY != 0, st.Flags&unix.ST_NOEXEC != 0
}

// ownerOf returns the user that owns a file.
func ownerOf(path string) (uid int, ok bool) {
	info, err := os.Stat(path)
	if err != nil {
		return 0, false
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, false
	}
	return int(st.Uid), true
}
