package plug

import (
	"context"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// conns remembers every gRPC connection that go-plugin makes: it does not close those of a start that failed.
type conns struct {
	mu     sync.Mutex
	all    []*grpc.ClientConn // guarded by mu
	closed bool               // guarded by mu
}

// brokerStream is go-plugin's stream of further connections. The contract has no use for it (the host service takes its
// place), and go-plugin keeps whatever a handler sends on it, so that one could fill the daemon's memory.
const brokerStream = "/plugin.GRPCBroker/StartStream"

func (c *conns) intercept(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, next grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	c.add(cc)
	if method == brokerStream {
		return nil, status.Error(codes.Unimplemented, "the handler contract has no broker")
	}
	return next(ctx, desc, cc, method, opts...)
}

func (c *conns) add(cc *grpc.ClientConn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		_ = cc.Close()
		return
	}
	for _, known := range c.all {
		if known == cc {
			return
		}
	}
	c.all = append(c.all, cc)
}

func (c *conns) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	for _, cc := range c.all {
		_ = cc.Close() // closing twice is harmless
	}
	c.all = nil
}
