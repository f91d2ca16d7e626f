//go:build linux

package launcher

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/blocksd/blocksd/supervisor/launch"
	"github.com/blocksd/blocksd/supervisor/launch/wire"
)

const (
	maxChildren = 4096 // processes of one daemon
	maxDirs     = 4096
)

// session is one connection of the daemon.
type session struct {
	s    *Server
	conn *wire.Conn
	uid  uint32 // the daemon's
	// greeted: the first request was right. Only the goroutine that serves uses it.
	greeted bool
	last    uint64 // the highest number of a call so far; likewise

	work sync.WaitGroup // what waits for processes

	mu       sync.Mutex
	children map[uint64]*child  // guarded by mu; by the call of their start
	dirs     map[string]account // guarded by mu
}

type account struct{ uid, gid uint32 }

// child is a process of a session.
type child struct {
	*launch.Child
	group *os.File // of its control group; nil for none
}

// kill ends the process, and all that is in its control group.
func (c *child) kill() {
	_ = c.Signal(syscall.SIGKILL)
	if c.group != nil {
		if fd, err := unix.Openat(int(c.group.Fd()), "cgroup.kill", unix.O_WRONLY|unix.O_CLOEXEC, 0); err == nil {
			_, _ = unix.Write(fd, []byte("1"))
			unix.Close(fd)
		}
	}
}

// serve answers a daemon until it goes, or asks for something that it must not, or ctx ends. Nothing of it is left then.
func (s *Server) serve(ctx context.Context, conn *wire.Conn, uid uint32) error {
	se := &session{s: s, conn: conn, uid: uid, children: map[uint64]*child{}, dirs: map[string]account{}}
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	err := se.receive()
	conn.Close()
	se.end()
	return err
}

func (se *session) receive() error {
	for {
		message, files, err := se.conn.Receive()
		if err != nil {
			return err
		}
		r, err := wire.DecodeRequest(message, len(files))
		if err == nil {
			err = se.handle(r, files)
		}
		wire.CloseAll(files)
		if err != nil {
			return err
		}
	}
}

// handle does what is asked. An error is for what a daemon never asks, and ends the connection; what just fails is an answer.
func (se *session) handle(r wire.Request, files []*os.File) error {
	if r.Call <= se.last {
		return fmt.Errorf("call %d comes after call %d", r.Call, se.last)
	}
	se.last = r.Call
	if se.greeted != (r.Hello == nil) {
		return errors.New("the connection does not begin with a greeting, or has a second one")
	}
	switch {
	case r.Hello != nil:
		se.greeted = true
		return se.answer(wire.Answer{Call: r.Call, Welcome: &wire.Welcome{Version: wire.Version, First: se.s.cfg.First, Last: se.s.cfg.Last}})
	case r.Start != nil:
		return se.start(r.Call, r.Start, files)
	case r.Make != nil:
		dir, err := se.makeDir(account{r.Make.UID, r.Make.GID})
		return se.answer(failed(wire.Answer{Call: r.Call, Dir: dir}, err))
	case r.Remove != nil:
		return se.removeDir(r.Call, r.Remove.Dir)
	default:
		se.mu.Lock()
		c := se.children[r.Signal.Process]
		se.mu.Unlock()
		if c != nil { // it may have ended meanwhile
			_ = c.Signal(syscall.Signal(r.Signal.Signal))
		}
		return nil
	}
}

func failed(a wire.Answer, err error) wire.Answer {
	if err == nil {
		return a
	}
	return wire.Answer{Call: a.Call, Error: err.Error()}
}

func (se *session) answer(a wire.Answer) error { return se.conn.Send(a) }

// start starts a process. Whatever the daemon has sent, it gets a user without rights, or none.
func (se *session) start(call uint64, st *wire.Start, files []*os.File) error {
	c, err := se.launch(st, files)
	if err != nil {
		return se.answer(wire.Answer{Call: call, Error: err.Error()})
	}
	se.mu.Lock()
	se.children[call] = c
	se.mu.Unlock()
	err = se.answer(wire.Answer{Call: call, Started: &wire.Started{PID: c.PID()}})
	se.work.Go(func() {
		exit := c.Wait(func() {})
		se.mu.Lock()
		delete(se.children, call)
		se.mu.Unlock()
		if c.group != nil {
			c.group.Close()
		}
		// If this does not get through the connection has ended, or does because nobody reads it.
		if se.answer(wire.Answer{Call: call, Exit: &wire.Exit{Code: exit.Code, Signal: int(exit.Signal)}}) != nil {
			se.conn.Close()
		}
	})
	return err
}

func (se *session) launch(st *wire.Start, files []*os.File) (*child, error) {
	if !se.s.mayRun(st.UID, st.GID) {
		return nil, fmt.Errorf("the launcher starts handlers only as users from %d to %d, and as those that root's configuration names, not as user %d with group %d",
			se.s.cfg.First, se.s.cfg.Last, st.UID, st.GID)
	}
	se.mu.Lock()
	n := len(se.children)
	se.mu.Unlock()
	if n >= maxChildren {
		return nil, fmt.Errorf("the launcher runs %d processes already", n)
	}
	for i, kind := range map[int]uint32{wire.StdoutFile: unix.S_IFIFO, wire.StderrFile: unix.S_IFIFO, wire.StatusFile: unix.S_IFIFO, wire.ProgramFile: unix.S_IFREG} {
		var fs unix.Stat_t
		if err := unix.Fstat(int(files[i].Fd()), &fs); err != nil || fs.Mode&unix.S_IFMT != kind {
			return nil, fmt.Errorf("descriptor %d is not what it should be", i)
		}
	}
	if len(files) <= wire.GroupFile && !se.s.cfg.Ungrouped {
		return nil, errors.New("the launcher starts processes only in control groups of the daemon, and there came none: leave isolation.cgroup at auto, and Delegate= in the daemon's unit")
	}
	c := &child{}
	var group *os.File
	if len(files) > wire.GroupFile {
		group = files[wire.GroupFile]
		if err := se.checkGroup(group); err != nil {
			return nil, err
		}
		// The file received is closed with the message.
		fd, err := unix.FcntlInt(group.Fd(), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			return nil, fmt.Errorf("keep the control group open: %w", err)
		}
		c.group = os.NewFile(uintptr(fd), "group")
	}
	argv, more, err := launch.Launch(st, os.Getpid(), files[wire.ProgramFile], group)
	if err == nil {
		defer more[0].Close() // the order; the others are the caller's
		var null *os.File
		if null, err = os.Open(os.DevNull); err == nil {
			defer null.Close()
			all := append([]*os.File{null, files[wire.StdoutFile], files[wire.StderrFile], files[wire.StatusFile]}, more...)
			c.Child, err = se.s.startChild(argv, &os.ProcAttr{
				Dir: "/", Env: []string{}, Files: all, Sys: &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL},
			})
		}
	}
	if err != nil {
		if c.group != nil {
			c.group.Close()
		}
		return nil, err
	}
	return c, nil
}

// checkGroup refuses control groups that do not belong to the daemon: this process could enter those of root as well.
func (se *session) checkGroup(dir *os.File) error {
	var fs unix.Statfs_t
	var st unix.Stat_t
	if err := errors.Join(unix.Fstatfs(int(dir.Fd()), &fs), unix.Fstat(int(dir.Fd()), &st)); err != nil {
		return fmt.Errorf("look at the control group: %w", err)
	}
	if fs.Type != unix.CGROUP2_SUPER_MAGIC || st.Mode&unix.S_IFMT != unix.S_IFDIR || st.Uid != se.uid {
		return errors.New("the control group does not belong to the daemon")
	}
	return nil
}

// end kills what the daemon has left, and removes its directories.
func (se *session) end() {
	se.mu.Lock()
	for _, c := range se.children {
		c.kill()
	}
	dirs := se.dirs
	se.mu.Unlock()
	gone := make(chan struct{})
	se.s.removals.Go(func() { // a process that the kernel cannot end must not keep the next daemon waiting
		se.work.Wait()
		close(gone)
		for dir, a := range dirs {
			if err := removeDir(dir, a, se.s.stopping); err != nil {
				se.s.cfg.Log.Warn("a private directory could not be removed", "dir", dir, "err", err)
			}
		}
	})
	timer := time.NewTimer(endTimeout)
	defer timer.Stop()
	select {
	case <-gone:
	case <-timer.C:
		se.s.cfg.Log.Warn("a process could not be ended, even by SIGKILL")
	}
}
