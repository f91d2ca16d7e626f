package launch

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/blocksd/blocksd/supervisor/launch/wire"
)

// Launcher starts processes for a daemon that may not change users itself: it talks to the one of the system, a process with
// that right and little else. Its methods are safe for concurrent use.
type Launcher struct {
	socket      string
	first, last uint32 // the users that it gives to handlers

	mu     sync.Mutex
	link   *link // guarded by mu; nil when there was none yet
	closed bool  // guarded by mu
}

const (
	// launcherTimeout is how long the launcher may take for an answer. It has only the kernel to wait for, and systemd when it
	// is not running yet.
	launcherTimeout = 10 * time.Second
	// launcherRemoval is how long Remove waits. The launcher goes on alone.
	launcherRemoval = 2 * time.Second
)

// ConnectLauncher connects to the launcher that listens at a socket.
func ConnectLauncher(socket string) (*Launcher, error) {
	l := &Launcher{socket: socket}
	_, err := l.connected()
	if err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}

// gives reports whether the launcher has a user for handlers.
func (l *Launcher) gives(uid uint32) bool { return l.first <= uid && uid <= l.last }

// connected is the connection, made anew if the last one is lost.
func (l *Launcher) connected() (*link, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil, errors.New("the launcher is not used any more")
	}
	if l.link != nil && !l.link.isLost() {
		return l.link, nil
	}
	k, welcome, err := dialLauncher(l.socket)
	if err != nil {
		return nil, fmt.Errorf("the launcher at %s cannot be used: %w", l.socket, err)
	}
	if l.link == nil { // later nobody reads a new answer; a launcher with other users refuses, and says so
		l.first, l.last = welcome.First, welcome.Last
	} else {
		l.link.close()
	}
	l.link = k
	return k, nil
}

// Close ends the connection, and with it everything that was started over it.
func (l *Launcher) Close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	if l.link != nil {
		l.link.close()
	}
}

func dialLauncher(socket string) (*link, *wire.Welcome, error) {
	c, err := net.DialTimeout(wire.Network, socket, launcherTimeout)
	if err != nil {
		var errno syscall.Errno
		if errors.As(err, &errno) {
			err = errno
		}
		return nil, nil, err
	}
	k := newLink(wire.NewConn(c.(*net.UnixConn)))
	welcome, err := k.greet()
	if err != nil {
		k.close()
		return nil, nil, err
	}
	return k, welcome, nil
}

// start has a process started, with the ends of pipes that are its own.
func (l *Launcher) start(spec Spec, g *group, stdout, stderr, status *os.File) (child, error) {
	k, err := l.connected()
	if err != nil {
		return nil, err
	}
	program, script := spec.Program, false
	if program != nil {
		script = !elf(program)
	} else {
		if program, err = openProgram(spec.Path); err != nil {
			return nil, plain(err)
		}
		defer program.Close()
		script = !isELF(spec.Path)
	}
	p := spec.Plan
	s := &wire.Start{
		UID: p.user.UID, GID: p.user.GID, Args: wire.TextsOf(spec.argv()), Env: wire.TextsOf(spec.Env), Dir: spec.dir(), Script: script,
	}
	for _, r := range p.rlimits {
		s.Rlimits = append(s.Rlimits, wire.Rlimit{Resource: r.Resource, Value: r.Value})
	}
	if g := p.guard(spec); g != nil {
		s.Guard = &wire.Guard{Read: g.Read, Write: g.Write, ReadOnly: g.ReadOnly, Scopes: g.Scopes, Version: g.Version}
	}
	files := []*os.File{stdout, stderr, status, program}
	if g != nil {
		if err := g.share(); err != nil {
			return nil, fmt.Errorf("open its control group to the launcher: %w", plain(err))
		}
		files = append(files, g.dir)
	}
	return k.start(s, files)
}

// makeDir makes a private directory for a user, with a directory for temporary files in it.
func (l *Launcher) makeDir(a account) (string, error) {
	k, err := l.connected()
	if err != nil {
		return "", err
	}
	answer, err := k.call(wire.Request{Make: &wire.Make{UID: a.UID, GID: a.GID}}, launcherTimeout, nil)
	if err != nil {
		return "", err
	}
	if !filepath.IsAbs(answer.Dir) {
		return "", errors.New("the launcher does not say where it is")
	}
	return answer.Dir, nil
}

// removeDir removes a private directory. One of a lost connection the launcher has removed itself.
func (l *Launcher) removeDir(dir string) error {
	l.mu.Lock()
	k := l.link
	l.mu.Unlock()
	if k == nil || k.isLost() {
		return nil
	}
	_, err := k.call(wire.Request{Remove: &wire.Remove{Dir: dir}}, launcherRemoval, nil)
	return err
}
