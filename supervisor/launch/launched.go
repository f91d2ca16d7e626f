//go:build linux

package launch

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/blocksd/blocksd/supervisor/launch/wire"
)

// What the shim does for a launcher. It runs with the launcher's rights first, so nothing that comes from the daemon is in its
// environment, and nothing that is secret in its arguments: the order is in a file in memory.

// launchedArgument is the hidden first argument.
const launchedArgument = "__launched"

// The descriptors of a launched shim, behind shimStatus.
const (
	launchedOrder = shimStatus + 1 + iota
	launchedProgram
	launchedGroup
)

// launched is the part of an order that only a launcher gives.
type launched struct {
	Args, Env wire.Texts
	Group     bool // enter the control group whose directory is open
	Script    bool // the program is opened again by what executes it
}

// launchedUmask lets the daemon's group use the sockets that a handler makes in its private directory, which is that group's.
const launchedUmask = 0o007

// Launch is how a launcher starts a process: the arguments of the shim, and its descriptors behind the three usual ones and the
// one of the status. The files are to be closed when the shim was started.
func Launch(s *wire.Start, parent int, program, group *os.File) (argv []string, files []*os.File, err error) {
	o := order{
		Parent: parent, Account: &account{s.UID, s.GID}, Dir: s.Dir, Capabilities: []uintptr{},
		Launched: &launched{Args: s.Args, Env: s.Env, Group: group != nil, Script: s.Script},
	}
	for _, r := range s.Rlimits {
		o.Rlimits = append(o.Rlimits, rlimit{r.Resource, r.Value})
	}
	if g := s.Guard; g != nil {
		o.Guard = &guard{Read: append(g.Read[:len(g.Read):len(g.Read)], descriptor(launchedProgram)), Write: g.Write, ReadOnly: g.ReadOnly, Scopes: g.Scopes, Version: g.Version}
	}
	b, err := json.Marshal(o)
	if err != nil {
		return nil, nil, err
	}
	fd, err := unix.MemfdCreate("order", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, nil, fmt.Errorf("make a file in memory: %w", err)
	}
	f := os.NewFile(uintptr(fd), "order")
	if _, err = f.Write(b); err == nil {
		_, err = f.Seek(0, io.SeekStart)
	}
	if err != nil {
		f.Close()
		return nil, nil, fmt.Errorf("write a file in memory: %w", err)
	}
	files = []*os.File{f, program}
	if group != nil {
		files = append(files, group)
	}
	return []string{"blocksd", launchedArgument}, files, nil
}

// read reads an order that is in a file.
func (o *order) read(fd uintptr) error {
	f := os.NewFile(fd, "order")
	defer f.Close()
	if err := json.NewDecoder(f).Decode(o); err != nil {
		return step("read what to do", err)
	}
	if o.Launched == nil || o.Account == nil || o.Account.UID == 0 || o.Account.GID == 0 {
		return fmt.Errorf("read what to do: no user is named")
	}
	return nil
}

func descriptor(fd int) string { return "/proc/self/fd/" + strconv.Itoa(fd) }

// prepare is the last step, done as the new user. It returns what to execute.
func (l *launched) prepare(dir string) (path string, err error) {
	unix.Umask(launchedUmask)
	if err := os.Chdir(dir); err != nil { // only now: the launcher may not be allowed to be there
		return "", step("enter "+dir, plain(err))
	}
	return descriptor(launchedProgram), keepOpen(launchedProgram, l.Script)
}

// keepOpen keeps a script open for what executes it.
func keepOpen(program uintptr, script bool) error {
	if !script {
		return nil
	}
	if _, err := unix.FcntlInt(program, unix.F_SETFD, 0); err != nil {
		return step("keep the program open", err)
	}
	return nil
}

// shareSocket lets everybody connect to a socket that this process has made.
func shareSocket(path string) error {
	fd, err := openMade(path, unix.S_IFSOCK)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return plain(os.Chmod(descriptor(fd), 0o666))
}

// enterGroupAt moves this process into the group whose directory is open.
func enterGroupAt(dir int) error {
	fd, err := unix.Openat(dir, "cgroup.procs", unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	_, err = syscall.Write(fd, []byte("0"))
	unix.Close(fd)
	return err
}

// DaemonOfUnit tells the daemon of a systemd unit beside our own from everything else in it, handlers for one.
func DaemonOfUnit(unit string) (func(pid int) error, error) {
	own, err := ownGroup()
	if err != nil {
		return nil, fmt.Errorf("find the control group of %s: %w", unit, err)
	}
	base := filepath.Join(filepath.Dir(own), unit)
	return func(pid int) error {
		for _, group := range []string{base, filepath.Join(base, daemonGroup)} {
			if contains(group, strconv.Itoa(pid)) {
				return nil
			}
		}
		return fmt.Errorf("it is not the daemon of the unit %s, whose control group would be %s", unit, base)
	}, nil
}
