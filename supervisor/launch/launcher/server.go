//go:build linux

// Package launcher is the process that starts handlers as users of their own for a daemon that may not change users. It runs as
// root with little more than that right, and believes nobody: it talks to the daemon's user alone, starts programs only as users
// that root has set aside for handlers, without any rights, and ends them all when the daemon is gone.
package launcher

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"time"

	"github.com/blocksd/blocksd/supervisor/launch"
	"github.com/blocksd/blocksd/supervisor/launch/wire"
)

// Config of a Server. All but Named and Ungrouped is required.
type Config struct {
	Listener *net.UnixListener
	// Shim is this program; it must call launch.Shim first.
	Shim string
	// Dirs is the directory of private directories of handlers. It must belong to this process's user and to the daemon's group, and
	// be sticky, set-group-ID, writable for the group and closed to others but for passing through (mode 3771).
	Dirs string
	// First and Last are the users for handlers, each with the group of the same number.
	First, Last uint32
	// Named reports whether root has named a user for a handler beyond those; nil for none. It is asked each time.
	Named func(uid, gid uint32) bool
	// Ungrouped lets processes start without a control group of the daemon. What those start can outlive them, in the group of the
	// launcher, where nobody looks for it.
	Ungrouped bool
	// Peer is an error for a process that is not the daemon.
	Peer func(pid int, uid uint32) error
	Log  *slog.Logger
}

// Server is a launcher.
type Server struct {
	cfg   Config
	forks chan func()

	removals sync.WaitGroup // of directories, also after their connection
	stopping chan struct{}  // closed when Run ends, and removals with it
}

// endTimeout is how long the end of a connection may take: the kernel is to bury what was killed.
const endTimeout = 10 * time.Second

// New checks what a server needs.
func New(c Config) (*Server, error) {
	switch {
	case c.Listener == nil || c.Peer == nil || c.Log == nil || c.Shim == "":
		return nil, errors.New("a launcher needs a socket, a check of its callers, a log and its program")
	case c.First < 1000 || c.Last < c.First || c.Last >= 1<<31:
		return nil, fmt.Errorf("users from %d to %d cannot be given to handlers: name a range of numbers of at least 1000", c.First, c.Last)
	}
	if err := checkDirs(c.Dirs); err != nil {
		return nil, err
	}
	c.Dirs = filepath.Clean(c.Dirs)
	return &Server{cfg: c, forks: make(chan func()), stopping: make(chan struct{})}, nil
}

// Run serves one daemon after the other until ctx ends; then it ends what it has started. It may be called once.
func (s *Server) Run(ctx context.Context) error {
	forking, stopForking := context.WithCancel(context.WithoutCancel(ctx))
	var forker sync.WaitGroup
	forker.Go(func() { s.fork(forking) })
	defer forker.Wait()
	defer stopForking()
	stop := context.AfterFunc(ctx, func() { s.cfg.Listener.Close() })
	defer stop()
	defer s.removals.Wait()
	defer close(s.stopping)
	for {
		uc, err := s.cfg.Listener.AcceptUnix()
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			return fmt.Errorf("wait for the daemon: %w", err)
		}
		conn := wire.NewConn(uc)
		pid, uid, err := conn.Peer()
		if err == nil {
			err = s.cfg.Peer(pid, uid)
		}
		if err != nil {
			s.cfg.Log.Warn("a connection is refused", "pid", pid, "uid", uid, "err", err)
			conn.Close()
			continue
		}
		s.cfg.Log.Info("the daemon has connected", "pid", pid)
		err = s.serve(ctx, conn, uid)
		s.cfg.Log.Info("the connection to the daemon has ended", "pid", pid, "err", err)
	}
}

// fork runs functions on one thread, which is never given back: the kernel ends the processes that a thread has started when it
// ends, and only then.
func (s *Server) fork(ctx context.Context) {
	runtime.LockOSThread()
	for {
		select {
		case f := <-s.forks:
			f()
		case <-ctx.Done():
			return
		}
	}
}

// startChild starts a process on that thread.
func (s *Server) startChild(argv []string, attr *os.ProcAttr) (child *launch.Child, err error) {
	done := make(chan struct{})
	s.forks <- func() {
		defer close(done)
		child, err = launch.StartChild(s.cfg.Shim, argv, attr)
	}
	<-done
	return child, err
}

// mayRun reports whether handlers may run as a user.
func (s *Server) mayRun(uid, gid uint32) bool {
	if uid == gid && s.cfg.First <= uid && uid <= s.cfg.Last {
		return true
	}
	return uid != 0 && gid != 0 && s.cfg.Named != nil && s.cfg.Named(uid, gid)
}
