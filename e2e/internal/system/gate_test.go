package system

import (
	"errors"
	"net"
	"syscall"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestGateKeepsItsPort: a gate that is cut refuses connections, and nobody else can have its port meanwhile.
func TestGateKeepsItsPort(t *testing.T) {
	target, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer target.Close()
	g := NewGate(t, target.Addr().String())
	for range 3 {
		c, err := net.Dial("tcp", g.Addr())
		if err != nil {
			t.Fatal(err)
		}
		c.Close()
		g.Cut()
		if c, err := net.Dial("tcp", g.Addr()); err == nil {
			c.Close()
			t.Error("a gate that is cut takes connections")
		}
		// As a connection does that chooses a port, and as nobody does who listens on any.
		plain := net.Dialer{LocalAddr: g.listenerAddr(t)}
		if c, err := plain.Dial("tcp", target.Addr().String()); !errors.Is(err, syscall.EADDRINUSE) {
			if err == nil {
				c.Close()
			}
			t.Errorf("somebody else got %s: %v", g.Addr(), err)
		}
		g.Open(t)
	}
}

func (g *Gate) listenerAddr(t *testing.T) net.Addr {
	t.Helper()
	a, err := net.ResolveTCPAddr("tcp", g.Addr())
	if err != nil {
		t.Fatal(err)
	}
	return a
}
