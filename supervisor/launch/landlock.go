//go:build linux

package launch

import (
	"errors"
	"os"
	"slices"

	"github.com/landlock-lsm/go-landlock/landlock"
	llsys "github.com/landlock-lsm/go-landlock/landlock/syscall"
	"golang.org/x/sys/unix"
)

// guard is what landlock leaves open to a handler: what is listed, without what is closed.
type guard struct {
	// Read and Write are files and directories. A listed path that does not exist stays closed, should it appear.
	Read, Write []string
	// Closed are left out, and so is everything below them, unless it is listed itself.
	Closed []string
	// ReadOnly are left out of what may be written, and open for reading.
	ReadOnly []string
	// Scopes ends signals and abstract sockets at the walls, as far as the kernel can.
	Scopes bool
	// Version of the kernel's landlock.
	Version int
}

// Rights by name, as go-landlock has them only for what it calls reading and writing.
const (
	readFile = landlock.AccessFSSet(llsys.AccessFSExecute | llsys.AccessFSReadFile)
	readDir  = readFile | landlock.AccessFSSet(llsys.AccessFSReadDir)
	fileBits = readFile | landlock.AccessFSSet(llsys.AccessFSWriteFile|llsys.AccessFSTruncate|llsys.AccessFSIoctlDev)
	// guarded is every right that is guarded: those of version 5.
	guarded = landlock.AccessFSSet(1<<16 - 1)
)

// enforce restricts this process, and whatever it becomes.
func (g *guard) enforce() error {
	var rules []landlock.Rule
	add := func(paths, closed []string, file, dir landlock.AccessFSSet) {
		for _, path := range slices.Compact(slices.Sorted(slices.Values(paths))) {
			listed := []string{path}
			if len(closed) > 0 && !slices.ContainsFunc(closed, func(c string) bool { return path != c && within(path, c) }) {
				listed = opened(realPath(path), closed)
			}
			for _, p := range listed {
				if !reachable(p) { // a launcher may not do everything that root may; what it cannot open stays closed
					continue
				}
				rights := file
				if isDir(p) {
					rights = dir
				}
				rules = append(rules, landlock.PathAccess(rights, p).IgnoreIfMissing())
			}
		}
	}
	all := guarded
	if g.Version < landlockRefer { // go-landlock does nothing at all when it cannot grant this right; without it nothing moves between directories
		all &^= landlock.AccessFSSet(llsys.AccessFSRefer)
	}
	add(append(g.Read, g.ReadOnly...), g.Closed, readFile, readDir)
	add(g.Write, append(g.Closed, g.ReadOnly...), fileBits, all)
	config := landlock.MustConfig(guarded)
	if g.Scopes {
		config = landlock.MustConfig(guarded, landlock.ScopedSet(llsys.ScopeSignal|llsys.ScopeAbstractUnixSocket))
	}
	return config.BestEffort().Restrict(rules...)
}

// reachable reports whether a path can be opened to make a rule of it, or does not exist.
func reachable(path string) bool {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return !errors.Is(err, unix.EACCES)
	}
	unix.Close(fd)
	return true
}

func isDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}
