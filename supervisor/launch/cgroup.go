//go:build linux

package launch

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// Control groups, version 2. Below a group that the daemon may use alone, "handlers" holds one group per process, so that a
// process and everything it ever started can be limited, counted and killed together.

const (
	handlersGroup = "handlers"
	daemonGroup   = "daemon" // where the daemon itself goes: a group with controllers below it may hold no processes
	leafPrefix    = "p-"
)

// Cgroups is a group that the daemon uses alone.
type Cgroups struct {
	base        string
	root        *os.File // locked as long as we use it
	controllers []string // enabled for the groups of processes
	next        atomic.Int64
}

// OpenCgroups prepares control groups and ends what an earlier daemon left in them. where is "auto" for the daemon's own
// group, when that is delegated to it (systemd's Delegate=), "off", or the path of a group to use, which is made if need be.
func OpenCgroups(where string) (*Cgroups, error) {
	c := &Cgroups{base: where}
	switch where {
	case "off", "":
		return nil, errors.New("control groups are switched off")
	case "auto":
		var err error
		if c.base, err = delegated(); err != nil {
			return nil, err
		}
	}
	if err := c.open(); err != nil {
		if c.root != nil {
			c.root.Close()
		}
		return nil, fmt.Errorf("the control group %s cannot be used: %w", c.base, plain(err))
	}
	return c, nil
}

func (c *Cgroups) open() error {
	if err := os.Mkdir(c.base, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	var st unix.Statfs_t
	if err := unix.Statfs(c.base, &st); err != nil {
		return err
	}
	if st.Type != unix.CGROUP2_SUPER_MAGIC {
		return errors.New("it is not of control groups version 2")
	}
	var err error
	if c.root, err = os.Open(c.base); err != nil {
		return err
	}
	if err := unix.Flock(int(c.root.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return errors.New("another daemon uses it")
	}
	if own, _ := ownGroup(); own == c.base {
		if err := os.Mkdir(filepath.Join(c.base, daemonGroup), 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		if err := enterGroup(filepath.Join(c.base, daemonGroup)); err != nil {
			return err
		}
	}
	handlers := filepath.Join(c.base, handlersGroup)
	if err := os.Mkdir(handlers, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	for _, wanted := range []string{"memory", "pids", "cpu"} { // one by one: each may be missing
		if write(filepath.Join(c.base, "cgroup.subtree_control"), "+"+wanted) == nil &&
			write(filepath.Join(handlers, "cgroup.subtree_control"), "+"+wanted) == nil {
			c.controllers = append(c.controllers, wanted)
		}
	}
	if c.Has("pids") { // of what systemd's TasksMax= leaves, for one
		if b, err := os.ReadFile(filepath.Join(c.base, "pids.max")); err == nil {
			if n, err := strconv.ParseUint(strings.TrimSpace(string(b)), 10, 64); err == nil {
				_ = write(filepath.Join(handlers, "pids.max"), strconv.FormatUint(allButSome(n), 10)) // without it the daemon has no reserve
			}
		}
	}
	return c.sweep()
}

// sweep ends what an earlier daemon left.
func (c *Cgroups) sweep() error {
	old, err := filepath.Glob(filepath.Join(c.base, handlersGroup, leafPrefix+"*"))
	if err != nil {
		return err
	}
	for _, path := range old {
		g := &group{path: path}
		g.kill()
		if err := g.remove(); err != nil {
			return fmt.Errorf("end what is left in it: %w", plain(err))
		}
	}
	return nil
}

// Has reports whether a controller can be used.
func (c *Cgroups) Has(controller string) bool { return slices.Contains(c.controllers, controller) }

// Base is the path of the group.
func (c *Cgroups) Base() string { return c.base }

// Close removes what was made, but for the group itself, and gives up the lock.
func (c *Cgroups) Close() {
	_ = os.Remove(filepath.Join(c.base, handlersGroup))
	c.root.Close()
}

// group is the control group of one process.
type group struct {
	path string
	dir  *os.File
}

// create makes a group with settings. A setting whose file does not exist is of a newer kernel, and left out.
func (c *Cgroups) create(settings []setting) (*group, error) {
	g := &group{path: filepath.Join(c.base, handlersGroup, fmt.Sprintf("%s%d-%d", leafPrefix, os.Getpid(), c.next.Add(1)))}
	if err := os.Mkdir(g.path, 0o755); err != nil {
		return nil, fmt.Errorf("make the control group %s: %w", g.path, plain(err))
	}
	for _, s := range settings {
		err := write(filepath.Join(g.path, s.file), s.value)
		if err != nil && !(errors.Is(err, fs.ErrNotExist) && s.file != "memory.max" && s.file != "pids.max" && s.file != "cpu.max") {
			_ = os.Remove(g.path)
			return nil, fmt.Errorf("set %s of the control group %s to %s: %w", s.file, g.path, s.value, plain(err))
		}
	}
	var err error
	if g.dir, err = os.Open(g.path); err != nil {
		_ = os.Remove(g.path)
		return nil, fmt.Errorf("open the control group %s: %w", g.path, plain(err))
	}
	return g, nil
}

// kill ends all processes of the group, wherever they have moved since.
func (g *group) kill() { _ = write(filepath.Join(g.path, "cgroup.kill"), "1") }

// outOfMemory reports whether the kernel has ended a process of the group because it had no memory left.
func (g *group) outOfMemory() bool {
	b, err := os.ReadFile(filepath.Join(g.path, "memory.events"))
	return err == nil && oomKills(string(b)) > 0
}

// oomKills reads memory.events.
func oomKills(events string) int64 {
	for line := range strings.Lines(events) {
		if n, ok := strings.CutPrefix(line, "oom_kill "); ok {
			v, _ := strconv.ParseInt(strings.TrimSpace(n), 10, 64)
			return v
		}
	}
	return 0
}

// has reports whether a process is in the group or below it.
func (g *group) has(pid int) bool {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cgroup")
	if err != nil { // it has ended, or processes of other users are hidden
		return listed(g.path, strconv.Itoa(pid))
	}
	for line := range strings.Lines(string(b)) {
		if path, ok := strings.CutPrefix(strings.TrimSpace(line), "0::"); ok {
			leaf := "/" + filepath.Join(handlersGroup, filepath.Base(g.path))
			return strings.HasSuffix(path, leaf) || strings.Contains(path, leaf+"/")
		}
	}
	return false
}

// listed reports whether a group, or one below it, lists a process.
func listed(path, pid string) bool {
	if contains(path, pid) {
		return true
	}
	entries, _ := os.ReadDir(path)
	return slices.ContainsFunc(entries, func(e fs.DirEntry) bool { return e.IsDir() && listed(filepath.Join(path, e.Name()), pid) })
}

// contains reports whether a process is in a group itself.
func contains(path, pid string) bool {
	b, err := os.ReadFile(filepath.Join(path, "cgroup.procs"))
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(b)) {
		if strings.TrimSpace(line) == pid {
			return true
		}
	}
	return false
}

// share lets the daemon's group put processes into the group and kill them, which a launcher does with it.
func (g *group) share() error {
	for _, file := range []string{"cgroup.procs", "cgroup.kill"} {
		err := os.Chmod(filepath.Join(g.path, file), 0o664)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// residentBytes is the memory of the group that is not only a cache of files; 0 when that is unknown.
func (g *group) residentBytes() int64 {
	return value(g.path, "memory.stat", "anon") + value(g.path, "memory.stat", "file_mapped")
}

// cpuTime is what the group has used; false when that is unknown.
func (g *group) cpuTime() (time.Duration, bool) {
	used := value(g.path, "cpu.stat", "usage_usec")
	return time.Duration(used) * time.Microsecond, used > 0
}

// value is a number in a file with one name and number a line; 0 when it is not there.
func value(group, file, name string) int64 {
	b, err := os.ReadFile(filepath.Join(group, file))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(b)) {
		if n, ok := strings.CutPrefix(line, name+" "); ok {
			v, _ := strconv.ParseInt(strings.TrimSpace(n), 10, 64)
			return v
		}
	}
	return 0
}

// Removing a group works once the kernel has buried all of its processes.
const (
	removeTimeout = 5 * time.Second
	removePoll    = 2 * time.Millisecond
)

func (g *group) remove() error {
	if g.dir != nil {
		g.dir.Close()
	}
	for deadline := time.Now().Add(removeTimeout); ; time.Sleep(removePoll) {
		removeBelow(g.path)
		err := os.Remove(g.path)
		if err == nil || errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if time.Now().After(deadline) {
			return err
		}
		g.kill()
	}
}

// removeBelow removes groups that a handler made inside its own.
func removeBelow(path string) {
	entries, _ := os.ReadDir(path)
	for _, e := range entries {
		if e.IsDir() {
			removeBelow(filepath.Join(path, e.Name()))
			_ = os.Remove(filepath.Join(path, e.Name()))
		}
	}
}

// delegated is the daemon's own group, if it may do what it likes there.
func delegated() (string, error) {
	own, err := ownGroup()
	if err != nil {
		return "", err
	}
	if filepath.Base(own) == daemonGroup { // an earlier image of this process moved there
		if parent := filepath.Dir(own); isDelegated(parent) {
			return parent, nil
		}
	}
	if !isDelegated(own) {
		return "", fmt.Errorf("the control group %s is not delegated to the daemon", own)
	}
	return own, nil
}

func isDelegated(path string) bool {
	for _, name := range []string{"trusted.delegate", "user.delegate"} { // set by systemd
		b := make([]byte, 8)
		if n, err := unix.Getxattr(path, name, b); err == nil && string(b[:n]) == "1" {
			return true
		}
	}
	var st unix.Stat_t // an older systemd only gives the group to the daemon's user
	return os.Geteuid() != 0 && unix.Stat(path, &st) == nil && int(st.Uid) == os.Geteuid()
}

// ownGroup is the directory of the group that this process is in.
func ownGroup() (string, error) {
	groups, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return "", errors.New("the kernel has no control groups")
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return "", errors.New("the kernel does not list its mounts")
	}
	return locate(string(groups), string(mounts))
}

// locate reads /proc/PID/cgroup and /proc/PID/mountinfo.
func locate(groups, mounts string) (string, error) {
	path, found := "", false
	for line := range strings.Lines(groups) {
		if p, ok := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "0::"); ok {
			path, found = p, true
		}
	}
	if !found {
		return "", errors.New("the kernel has no control groups of version 2")
	}
	for line := range strings.Lines(mounts) {
		before, after, ok := strings.Cut(line, " - ")
		fields := strings.Fields(before)
		if !ok || len(fields) < 5 || !strings.HasPrefix(after, "cgroup2 ") {
			continue
		}
		root, at := fields[3], fields[4]
		if rel, err := filepath.Rel(root, path); err == nil && rel != ".." && !strings.HasPrefix(rel, "../") {
			return filepath.Join(at, rel), nil
		}
	}
	return "", errors.New("no control groups of version 2 are mounted")
}

// enterGroup moves this process, with all its threads, into a group.
func enterGroup(path string) error { return write(filepath.Join(path, "cgroup.procs"), "0") }

// write writes to a file that the kernel has made.
func write(path, value string) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(value)
	return errors.Join(err, f.Close())
}
