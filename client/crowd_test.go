package client_test

import (
	"net"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/blocksd/blocksd/client"
	"github.com/blocksd/blocksd/sandbox"
)

// countingListener counts what was accepted and is still open.
type countingListener struct {
	net.Listener
	open, most atomic.Int64
}

func (l *countingListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	n := l.open.Add(1)
	for {
		most := l.most.Load()
		if n <= most || l.most.CompareAndSwap(most, n) {
			break
		}
	}
	return &countedConn{Conn: c, closed: sync.OnceFunc(func() { l.open.Add(-1) })}, nil
}

type countedConn struct {
	net.Conn
	closed func()
}

func (c *countedConn) Close() error {
	c.closed()
	return c.Conn.Close()
}

// Very many sessions share a handful of connections, and each hears the end.
func TestManySessionsOverFewConnections(t *testing.T) {
	const sessions = 300 // more than one connection takes
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	counted := &countingListener{Listener: l}
	w := newWorld(t, func(c *sandbox.Config) { c.Listener = counted })
	end := make(chan struct{})
	w.provide("echo", client.Free, func(j *job) {
		j.await(end)
		done(j)
	})
	o := w.options()
	o.HTTP = nil
	others := counted.open.Load() // the providers
	counted.most.Store(0)
	c := w.clientOf(o)
	task := w.send(c, client.Message{Agent: "echo", Parts: text("x")}).TaskID()
	var following, ended sync.WaitGroup
	following.Add(sessions)
	for range sessions {
		s := w.connect(c, task)
		ended.Go(func() {
			running := false
			for e, err := range s.Events(within(t)) {
				if err != nil {
					t.Error(err)
				}
				if e.State == client.Running && !running {
					running = true
					following.Done()
				}
			}
		})
	}
	following.Wait()
	// Each of them polls, or is about to.
	if n := counted.most.Load() - others; n > 8 {
		t.Errorf("%d connections for %d sessions", n, sessions)
	}
	close(end)
	ended.Wait()
}
