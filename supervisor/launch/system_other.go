//go:build !linux

package launch

import (
	"errors"
	"io"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// What only Linux has, as it is on other systems: not there, with a reason that the status shows.

const missing = "this system is not Linux"

// shimWorks: limits are kept by what only Linux has.
const shimWorks = false

func probeLandlock() (version int, why string) { return 0, "this system has no landlock" }

func probeNamespaces(string) string { return "this system has no namespaces" }

// Shim returns, because no handler starts through it.
func Shim([]string) {}

// command is never called, because there is no shim.
func (p *Plan) command(Spec, string) (path string, argv []string, err error) {
	return "", nil, errors.New(missing)
}

func shimAnswer(io.Reader) error { return nil }

func ownNamespace(*syscall.SysProcAttr) (started func()) { return func() {} }

// rootMay: nobody is asked to give up what there is not.
var rootMay []uintptr

// guard has the members that a plan fills in.
type guard struct {
	Read, Write, Closed, ReadOnly []string
	Scopes                        bool
	Version                       int
}

// Cgroups are never there.
type Cgroups struct{ base string }

// OpenCgroups says why there are none.
func OpenCgroups(string) (*Cgroups, error) {
	return nil, errors.New("this system has no control groups")
}

// Has reports whether a controller can be used.
func (c *Cgroups) Has(string) bool { return false }

// Base is the path of the group.
func (c *Cgroups) Base() string { return c.base }

// Close does nothing.
func (c *Cgroups) Close() {}

func (c *Cgroups) create([]setting) (*group, error) { return nil, errors.New(missing) }

const removeTimeout = 5 * time.Second

type group struct {
	path string
	dir  *os.File
}

func (g *group) kill()             {}
func (g *group) remove() error     { return nil }
func (g *group) outOfMemory() bool { return false }
func (g *group) has(int) bool      { return false }
func (g *group) share() error      { return nil }

func (g *group) residentBytes() int64           { return 0 }
func (g *group) cpuTime() (time.Duration, bool) { return 0, false }

// killMarked finds nothing: the environment of other processes cannot be read.
func killMarked(string, int) {}

func marked([]byte, string) bool { return false }

// inSession reports whether a process is in the session that another one, perhaps ended by now, has begun.
func inSession(pid, session int) bool {
	sid, err := unix.Getsid(pid)
	return err == nil && sid == session
}

// descends looks at the process alone: what it was started by cannot be seen.
func descends(pid int, wanted func(pid int) bool) bool { return pid > 1 && wanted(pid) }

func attributes(*group, bool) *syscall.SysProcAttr { return &syscall.SysProcAttr{Setsid: true} }

// shareSocket is never called, because there is no launcher.
func shareSocket(string) error { return errors.New(missing) }

// Give is never called, because no handler has a user of its own.
func Give(string, int, int) error { return errors.New(missing) }

// openProgram is never called, because there is no launcher.
func openProgram(string) (*os.File, error) { return nil, errors.New(missing) }

func openUp(parent int, name string) error {
	return unix.Fchmodat(parent, name, 0o700, unix.AT_SYMLINK_NOFOLLOW)
}

func probeProcesses() uint64 { return 0 }
