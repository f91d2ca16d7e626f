package system

import (
	"io"
	"net"
	"sync"
	"testing"
)

// Gate is a TCP path to a server that can be cut and opened again: cut, it closes every connection and refuses new ones.
type Gate struct {
	target string
	addr   string

	mu       sync.Mutex // guards what follows
	listener net.Listener
	conns    map[net.Conn]bool
	running  sync.WaitGroup
}

// NewGate opens a path to target ("host:port").
func NewGate(t testing.TB, target string) *Gate {
	t.Helper()
	g := &Gate{target: target, addr: "127.0.0.1:0", conns: map[net.Conn]bool{}}
	g.Open(t)
	t.Cleanup(g.Cut)
	return g
}

// Addr is the address of the path, the same after each Open.
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
	g.listener, g.addr = l, l.Addr().String()
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
