package system

import (
	"fmt"
	"io"
	"net"
	"sync"
	"syscall"
	"testing"
)

// Gate is a TCP path to a server that can be cut and opened again: cut, it closes every connection and refuses new ones. Its
// port is its own all the while.
type Gate struct {
	target string
	addr   string
	holder int // a socket that is bound to addr and does not listen, so that nobody else gets the port

	mu       sync.Mutex // guards what follows
	listener net.Listener
	conns    map[net.Conn]bool
	running  sync.WaitGroup
}

// NewGate opens a path to target ("host:port").
func NewGate(t testing.TB, target string) *Gate {
	t.Helper()
	g := &Gate{target: target, conns: map[net.Conn]bool{}}
	if err := g.hold(); err != nil {
		t.Fatalf("open gate: %v", err)
	}
	g.Open(t)
	t.Cleanup(func() {
		g.Cut()
		_ = syscall.Close(g.holder)
	})
	return g
}

// hold takes a port. Linux lets another socket that also reuses addresses listen on it, and gives it to nobody who asks for
// any port.
func (g *Gate) hold() error {
	syscall.ForkLock.RLock() // no program that is started meanwhile inherits it
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	if err == nil {
		syscall.CloseOnExec(fd)
	}
	syscall.ForkLock.RUnlock()
	if err != nil {
		return err
	}
	err = syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1)
	if err == nil {
		err = syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}})
	}
	var bound syscall.Sockaddr
	if err == nil {
		bound, err = syscall.Getsockname(fd)
	}
	if err != nil {
		_ = syscall.Close(fd)
		return err
	}
	g.holder, g.addr = fd, fmt.Sprintf("127.0.0.1:%d", bound.(*syscall.SockaddrInet4).Port)
	return nil
}

// Addr is the address of the path.
func (g *Gate) Addr() string { return g.addr }

// Open opens the path.
func (g *Gate) Open(t testing.TB) {
	t.Helper()
	l, err := net.Listen("tcp", g.addr)
	if err != nil {
		t.Fatalf("open gate: %v", err)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.listener = l
	g.running.Go(func() { g.accept(l) })
}

// Cut closes the path and every connection on it.
func (g *Gate) Cut() {
	g.mu.Lock()
	if g.listener != nil {
		g.listener.Close()
		g.listener = nil
	}
	for c := range g.conns {
		c.Close()
	}
	g.mu.Unlock()
	g.running.Wait()
}

func (g *Gate) accept(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		g.running.Go(func() { g.serve(c) })
	}
}

func (g *Gate) serve(client net.Conn) {
	defer client.Close()
	server, err := net.Dial("tcp", g.target)
	if err != nil {
		return
	}
	defer server.Close()
	g.mu.Lock()
	if g.listener == nil {
		g.mu.Unlock()
		return
	}
	g.conns[client], g.conns[server] = true, true
	g.mu.Unlock()
	defer func() {
		g.mu.Lock()
		delete(g.conns, client)
		delete(g.conns, server)
		g.mu.Unlock()
	}()
	var pumps sync.WaitGroup
	pump := func(to, from net.Conn) {
		_, _ = io.Copy(to, from)
		to.Close()
		from.Close()
	}
	pumps.Go(func() { pump(server, client) })
	pumps.Go(func() { pump(client, server) })
	pumps.Wait()
}
