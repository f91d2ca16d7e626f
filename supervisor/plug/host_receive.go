package plug

import (
	"context"

	"google.golang.org/grpc/stats"
)

// maxReceiving is how many requests of one message may be arriving at once from one process. gRPC keeps such a message, of
// up to MaxMessage, as a whole before anything of ours is called; further ones stay in the socket meanwhile.
const maxReceiving = 16

// receiver lets so many requests arrive at once. It is a stats handler because that alone is called before the message is
// read, by the goroutine that reads it.
type receiver struct{ slots chan struct{} }

func newReceiver(n int) *receiver { return &receiver{make(chan struct{}, n)} }

type receiptKey struct{}

// receipt is what a call holds; one goroutine after the other uses it.
type receipt struct{ held bool }

// TagRPC implements stats.Handler.
func (r *receiver) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context {
	return context.WithValue(ctx, receiptKey{}, &receipt{})
}

// HandleRPC implements stats.Handler.
func (r *receiver) HandleRPC(ctx context.Context, s stats.RPCStats) {
	held, ok := ctx.Value(receiptKey{}).(*receipt)
	if !ok {
		return
	}
	switch s := s.(type) {
	case *stats.Begin:
		if s.IsClientStream { // it is read message by message
			return
		}
		select {
		case r.slots <- struct{}{}:
			held.held = true
		case <-ctx.Done():
		}
	case *stats.InPayload, *stats.End:
		if held.held {
			held.held = false
			<-r.slots
		}
	}
}

// TagConn implements stats.Handler.
func (*receiver) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }

// HandleConn implements stats.Handler.
func (*receiver) HandleConn(context.Context, stats.ConnStats) {}
