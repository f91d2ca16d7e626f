package plug

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	plugin "github.com/hashicorp/go-plugin"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	handlerv1 "github.com/blocksd/blocksd/proto/blocks/handler/v1"
	"github.com/blocksd/blocksd/supervisor/unit"
)

// describe asks for the description and checks the health once.
func (p *Conn) describe(ctx context.Context) error {
	name := p.config.Handler
	d, err := p.client.Describe(ctx, &handlerv1.DescribeRequest{})
	switch {
	case status.Code(err) == codes.Unimplemented:
	case err != nil:
		return p.startFailure(err, failure(unit.Describe, "handler %s could not be started because it failed to describe itself: %s", name, words(err)))
	case len(d.GetAgentCardsJson()) > maxCards:
		return failure(unit.Describe, "handler %s could not be started because it describes %d agents, and may have %d: put their cards into files, or into several handlers", name, len(d.GetAgentCardsJson()), maxCards)
	case slices.ContainsFunc(d.GetAgentCardsJson(), func(card []byte) bool { return len(card) > maxCardBytes }):
		return failure(unit.Describe, "handler %s could not be started because one of its agent cards has more than %d bytes", name, maxCardBytes)
	default:
		p.description = Description{
			Name: foreign(d.GetName(), maxName), Version: foreign(d.GetVersion(), maxName), SDK: foreign(d.GetSdk(), maxName), Cards: d.GetAgentCardsJson(), Described: true,
			Cancel: d.GetCapabilities().GetCancel(), Idempotent: d.GetCapabilities().GetIdempotent(),
		}
	}
	if err := p.Check(ctx, p.timeouts.Describe); err != nil { // one that is missed would be final here
		return p.startFailure(err, failure(unit.Health, "handler %s could not be started because %v", name, err))
	}
	return nil
}

// Check asks for the health once, and waits no longer than limit.
func (p *Conn) Check(ctx context.Context, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	r, err := p.health.Check(ctx, &grpc_health_v1.HealthCheckRequest{Service: plugin.GRPCServiceName})
	switch {
	case status.Code(err) == codes.DeadlineExceeded:
		return fmt.Errorf("it did not answer a health check within %v", limit)
	case err != nil:
		return &checkError{err}
	}
	if s := r.GetStatus(); s != grpc_health_v1.HealthCheckResponse_SERVING {
		return fmt.Errorf("its health is %v instead of SERVING", s)
	}
	return nil
}

// checkError keeps the status of a failed health check and shows only its message.
type checkError struct{ err error }

func (e *checkError) Error() string {
	switch status.Code(e.err) {
	case codes.Unimplemented:
		return "it serves no health service: serve grpc.health.v1.Health"
	case codes.NotFound: // as the health protocol says it
		return fmt.Sprintf("its health service does not know the service %q: set that one to SERVING", plugin.GRPCServiceName)
	}
	return "its health check failed: " + words(e.err)
}
func (e *checkError) Unwrap() error { return e.err }

// words is the message of a gRPC error, and the name of its code if it has none, as it often is in Python.
func words(err error) string {
	s := status.Convert(err)
	return cmp.Or(foreign(s.Message(), maxReason), "gRPC error "+s.Code().String())
}

// Watch checks the health until ctx ends or the process does, which returns nil, or until too many checks in a row were
// missed, which returns a *Failure.
func (p *Conn) Watch(ctx context.Context) error {
	ticker := time.NewTicker(p.timeouts.HealthInterval)
	defer ticker.Stop()
	for missed := 0; ; {
		select {
		case <-ctx.Done():
			return nil
		case <-p.process.Load().Done():
			return nil
		case <-ticker.C:
		}
		err := p.Check(ctx, p.timeouts.Health)
		switch {
		case err == nil:
			missed = 0
			continue
		case ctx.Err() != nil:
			return nil
		}
		if missed++; missed >= p.timeouts.HealthMisses {
			return failure(unit.Health, "handler %s is replaced because it missed %d health checks in a row: %v", p.config.Handler, missed, err)
		}
	}
}
