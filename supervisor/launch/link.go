package launch

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/blocksd/blocksd/supervisor/launch/wire"
)

// link is one connection to a launcher. What was started over it ends with it.
type link struct {
	conn *wire.Conn
	lost chan struct{} // closed when nothing comes from it any more

	sending sync.Mutex // taken before mu
	calls   uint64     // guarded by sending; the number of the last one

	mu       sync.Mutex                  // guards what follows
	waiting  map[uint64]chan wire.Answer // by call
	children map[uint64]*launchedChild   // by the call of their start
}

func newLink(conn *wire.Conn) *link {
	k := &link{conn: conn, lost: make(chan struct{}), waiting: map[uint64]chan wire.Answer{}, children: map[uint64]*launchedChild{}}
	go k.receive() // ends with the connection; close waits for it
	return k
}

func (k *link) isLost() bool {
	select {
	case <-k.lost:
		return true
	default:
		return false
	}
}

func (k *link) close() {
	k.conn.Close()
	<-k.lost
}

func (k *link) receive() {
	defer close(k.lost)
	defer k.conn.Close()
	for {
		message, files, err := k.conn.Receive()
		if err != nil {
			return
		}
		wire.CloseAll(files) // a launcher sends none
		a, err := wire.DecodeAnswer(message)
		if err != nil {
			return
		}
		k.take(a)
	}
}

func (k *link) take(a wire.Answer) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if a.Exit != nil {
		if c := k.children[a.Call]; c != nil {
			delete(k.children, a.Call)
			c.exit <- Exit{Code: a.Exit.Code, Signal: syscall.Signal(a.Exit.Signal)}
		}
		return
	}
	if w := k.waiting[a.Call]; w != nil { // else nobody waits any more
		delete(k.waiting, a.Call)
		w <- a
	}
}

var errLauncherLost = errors.New("the connection to the launcher was lost")

// ask sends a request under the next number, which register gets before. The launcher takes them in this order only.
func (k *link) ask(r wire.Request, register func(call uint64), files ...*os.File) error {
	k.sending.Lock()
	defer k.sending.Unlock()
	k.calls++
	r.Call = k.calls
	register(r.Call)
	return k.conn.Send(r, files...)
}

// call asks for something and waits for the answer. register may be nil.
func (k *link) call(r wire.Request, limit time.Duration, register func(call uint64), files ...*os.File) (wire.Answer, error) {
	answer := make(chan wire.Answer, 1)
	var number uint64
	err := k.ask(r, func(call uint64) {
		number = call
		k.mu.Lock()
		k.waiting[call] = answer
		k.mu.Unlock()
		if register != nil {
			register(call)
		}
	}, files...)
	forget := func() {
		k.mu.Lock()
		defer k.mu.Unlock()
		delete(k.waiting, number)
	}
	if err != nil {
		forget()
		if errors.Is(err, wire.ErrTooLong) {
			return wire.Answer{}, fmt.Errorf("its arguments and its environment are too long for the launcher: %w", err)
		}
		k.conn.Close() // what was sent is not known
		return wire.Answer{}, fmt.Errorf("%w: %w", errLauncherLost, err)
	}
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case a := <-answer:
		if a.Error != "" {
			return wire.Answer{}, errors.New(a.Error)
		}
		return a, nil
	case <-k.lost:
		return wire.Answer{}, errLauncherLost
	case <-timer.C:
		forget()
		return wire.Answer{}, fmt.Errorf("the launcher did not answer within %v", limit)
	}
}

// greet is the first call.
func (k *link) greet() (*wire.Welcome, error) {
	if _, uid, err := k.conn.Peer(); err != nil || uid != 0 {
		return nil, fmt.Errorf("it does not belong to root: %w", errors.Join(err, fmt.Errorf("it belongs to user %d", uid)))
	}
	a, err := k.call(wire.Request{Hello: &wire.Hello{Version: wire.Version}}, launcherTimeout, nil)
	switch {
	case err != nil:
		return nil, err
	case a.Welcome == nil || a.Welcome.Version != wire.Version:
		return nil, errors.New("it is of another version: restart it")
	}
	return a.Welcome, nil
}

func (k *link) start(s *wire.Start, files []*os.File) (child, error) {
	c := &launchedChild{link: k, exit: make(chan Exit, 1)}
	a, err := k.call(wire.Request{Start: s}, launcherTimeout, func(call uint64) {
		c.call = call
		k.mu.Lock()
		defer k.mu.Unlock()
		k.children[call] = c // before its end can come
	}, files...)
	if err == nil && a.Started == nil {
		k.conn.Close() // whatever it has started ends with it
		err = errors.New("the launcher does not say what it has started")
	}
	if err != nil { // a process that starts late does not find its control group any more
		k.mu.Lock()
		defer k.mu.Unlock()
		delete(k.children, c.call)
		return nil, err
	}
	c.pid = a.Started.PID
	return c, nil
}

// launchedChild is a process that a launcher has started.
type launchedChild struct {
	link *link
	call uint64
	pid  int
	exit chan Exit
}

func (c *launchedChild) PID() int { return c.pid }

// Wait returns the kernel's word, or, when the launcher is lost, that the process was killed: the launcher and the kernel see to that.
func (c *launchedChild) Wait(atEnd func()) Exit {
	exit := Exit{Code: -1, Signal: syscall.SIGKILL}
	select {
	case exit = <-c.exit:
	case <-c.link.lost:
		select {
		case exit = <-c.exit:
		default:
		}
	}
	atEnd()
	return exit
}

func (c *launchedChild) Signal(sig syscall.Signal) error {
	k := c.link
	k.mu.Lock()
	_, lives := k.children[c.call]
	k.mu.Unlock()
	if !lives || k.isLost() {
		return nil
	}
	if err := k.ask(wire.Request{Signal: &wire.Signal{Process: c.call, Signal: int(sig)}}, func(uint64) {}); err != nil {
		k.conn.Close() // which kills
		return fmt.Errorf("have %v sent to process group %d: %w", sig, c.pid, err)
	}
	return nil
}
