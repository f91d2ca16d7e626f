//go:build linux

package launch

import (
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// A handler with a mount namespace sees the file system without what is closed to it. Root makes one as it is; anybody else
// makes a user namespace with it, in which only its own user exists.

// mask is what is hidden, and what is below it and is not.
type mask struct {
	Closed []string
	Keep   []string // of the handler's own: its program and its sockets
	// ReadOnly are those of Keep that it may not change.
	ReadOnly []string
	// Memory: shared memory by name is its own, and ends with it.
	Memory bool
}

// mask is what a process is not to see; nil when it is not hidden.
func (p *Plan) mask(spec Spec) *mask {
	if !p.walls.mask {
		return nil
	}
	closed := append(slices.Clone(p.machine.Closed), p.machine.Sockets...)
	own := slices.Concat(spec.needs(), spec.Needed)
	if spec.Private != "" {
		own = append(own, realPath(spec.Private))
	}
	if p.Foreign() {
		closed = append(closed, hurdles(own, *p.user)...)
	}
	inMemory := func(path string) bool { return within(path, sharedMemory) }
	m := &mask{Closed: canonical(closed), Memory: !slices.ContainsFunc(slices.Concat(own, p.read, p.write, []string{realPath(os.TempDir())}), inMemory)}
	m.ReadOnly = spec.needed(m.Closed)
	m.Keep = append(spec.kept(m.Closed), m.ReadOnly...)
	if spec.Private != "" {
		m.Keep = append(m.Keep, realPath(spec.Private))
	}
	return m
}

// sharedMemory is where memory with a name is that processes share. What is there stays when they have ended.
const sharedMemory = "/dev/shm"

// ownNamespace makes a process start in namespaces of its own: one of mounts, and one of what processes share by numbers and of
// queues of messages, of which the machine has only so many. Call the result once it has been started.
func ownNamespace(sys *syscall.SysProcAttr) (started func()) {
	sys.Cloneflags |= syscall.CLONE_NEWNS | syscall.CLONE_NEWIPC
	if os.Geteuid() == 0 {
		return func() {}
	}
	sys.Cloneflags |= syscall.CLONE_NEWUSER
	sys.AmbientCaps = []uintptr{unix.CAP_SYS_ADMIN} // in the new namespace; the shim gives it up before it turns into the handler
	sys.UidMappings = []syscall.SysProcIDMap{{ContainerID: os.Geteuid(), HostID: os.Geteuid(), Size: 1}}
	sys.GidMappings = []syscall.SysProcIDMap{{ContainerID: os.Getegid(), HostID: os.Getegid(), Size: 1}}
	// The maps belong to root while this process is not dumpable, which it and its child are alike until the child executes
	// something. No handler that runs by then can use the moment: the walls keep it from other processes' memory.
	if was, err := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0); err == nil && was == 0 {
		_ = unix.Prctl(unix.PR_SET_DUMPABLE, 1, 0, 0, 0)
		return func() { _ = unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0) }
	}
	return func() {}
}

// hide replaces what is closed by empty directories and files, with what is kept in its place. Nothing that the host mounts
// later is missing, and nothing of this reaches the host.
func (m *mask) hide() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, ""); err != nil {
		return fmt.Errorf("keep mounts to itself: %w", err)
	}
	// What the host has mounted there may be read, and its limits cannot be lifted.
	err := unix.MountSetattr(unix.AT_FDCWD, groupsRoot, unix.AT_RECURSIVE, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY})
	if err != nil && !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOSYS) { // nothing is mounted there, or the kernel is older than 5.12
		return step("close the control groups", err)
	}
	open, err := m.openKept()
	if err != nil {
		return err
	}
	defer closeAll(open)
	if m.Memory {
		if info, err := os.Lstat(sharedMemory); err == nil && info.IsDir() {
			if err := unix.Mount("tmpfs", sharedMemory, "tmpfs", emptyFlags, "mode=1777"); err != nil {
				return step("give it shared memory of its own", err)
			}
		}
	}
	for _, closed := range m.Closed {
		info, err := os.Stat(closed) // a file may have been hidden with its directory by now
		switch {
		case errors.Is(err, os.ErrNotExist), errors.Is(err, os.ErrPermission): // it does not exist, or is out of reach as it is
			continue
		case err != nil:
		case info.IsDir():
			err = m.hideDir(closed, open)
		default:
			err = m.hideFile(closed)
		}
		if err != nil {
			return step("hide "+closed, plain(err))
		}
	}
	return nil
}

// maxFiles is how many files a directory of secrets may hold.
const maxFiles = 64

// hideFile hides a file. One in a directory of files alone is hidden with the directory, in which the others remain: then
// neither its successor, when it is replaced, nor the directory under another name shows what is in it.
func (m *mask) hideFile(closed string) error {
	dir := filepath.Dir(closed)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	others := mask{}
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		if !e.Type().IsRegular() || len(entries) > maxFiles {
			return unix.Mount("/dev/null", closed, "", unix.MS_BIND, "")
		}
		if !slices.Contains(m.Closed, path) {
			others.Keep = append(others.Keep, path)
		}
	}
	open, err := others.openKept()
	if err != nil {
		return err
	}
	defer closeAll(open)
	return others.hideDir(dir, open)
}

// openKept opens what is kept, before it is hidden.
func (m *mask) openKept() (map[string]int, error) {
	open := map[string]int{}
	for _, path := range m.Keep {
		fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
		if err != nil {
			closeAll(open)
			return nil, step("open "+path, err)
		}
		open[path] = fd
	}
	return open, nil
}

func closeAll(open map[string]int) {
	for _, fd := range open {
		unix.Close(fd)
	}
}

const (
	emptyOptions = "size=64k,mode=0755"
	emptyFlags   = unix.MS_NOSUID | unix.MS_NODEV
)

// hideDir mounts an empty directory over one, and what is kept of it into that.
func (m *mask) hideDir(closed string, open map[string]int) error {
	if err := unix.Mount("tmpfs", closed, "tmpfs", emptyFlags, emptyOptions); err != nil {
		return err
	}
	for _, path := range slices.Sorted(slices.Values(m.Keep)) { // what is above comes first
		if !within(path, closed) {
			continue
		}
		var st unix.Stat_t
		fd := open[path]
		if err := unix.Fstat(fd, &st); err != nil {
			return err
		}
		dir := st.Mode&unix.S_IFMT == unix.S_IFDIR
		if _, err := os.Lstat(path); err != nil {
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				return err
			}
			if dir {
				err = os.Mkdir(path, 0o755)
			} else {
				err = os.WriteFile(path, nil, 0o644)
			}
			if err != nil {
				return err
			}
		}
		if err := unix.Mount("/proc/self/fd/"+strconv.Itoa(fd), path, "", unix.MS_BIND, ""); err != nil {
			return err
		}
		if slices.Contains(m.ReadOnly, path) {
			if err := readOnly(path); err != nil {
				return err
			}
		}
	}
	return unix.Mount("", closed, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY|emptyFlags, "")
}

// readOnly forbids to write to what is mounted at a path. In a user namespace the flags that a mount has already must stay.
func readOnly(path string) error {
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		return err
	}
	flags := uintptr(unix.MS_REMOUNT | unix.MS_BIND | unix.MS_RDONLY)
	for of, flag := range map[int64]uintptr{
		unix.ST_NOSUID: unix.MS_NOSUID, unix.ST_NODEV: unix.MS_NODEV, unix.ST_NOEXEC: unix.MS_NOEXEC, unix.ST_NOATIME: unix.MS_NOATIME,
		unix.ST_NODIRATIME: unix.MS_NODIRATIME, unix.ST_RELATIME: unix.MS_RELATIME,
	} {
		if int64(st.Flags)&of != 0 {
			flags |= flag
		}
	}
	return unix.Mount("", path, "", flags, "")
}

// probeArgument is a hidden first argument: the shim tries to hide a directory, and says how that went.
const probeArgument = "__probe"

// probeNamespaces says why processes cannot be given namespaces here, "" when they can.
func probeNamespaces(shim string) string {
	const cannot = "the daemon cannot give handlers a view of the file system of their own: "
	dir, err := os.MkdirTemp("", "blocksd-probe-")
	if err != nil {
		return cannot + err.Error()
	}
	defer os.Remove(dir)
	cmd := exec.Command(shim, probeArgument, dir)
	cmd.Env, cmd.Dir = []string{}, "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	started := ownNamespace(cmd.SysProcAttr)
	out, err := cmd.CombinedOutput()
	started()
	if err != nil {
		if text := strings.TrimSpace(string(out)); text != "" {
			return cannot + strings.ToValidUTF8(text, "\uFFFD")
		}
		return cannot + plain(err).Error()
	}
	return ""
}

// tryNamespaces is the shim's part of probeNamespaces.
func tryNamespaces(dir string) {
	_ = unix.CloseRange(shimStatus, math.MaxInt32, unix.CLOSE_RANGE_CLOEXEC)
	m := mask{Closed: []string{dir}}
	err := m.hide()
	if err == nil {
		var st unix.Statfs_t
		if err = unix.Statfs(dir, &st); err == nil && st.Type != unix.TMPFS_MAGIC {
			err = errors.New("what should be hidden is still there")
		}
	}
	if err != nil {
		_, _ = fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}
