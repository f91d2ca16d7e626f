package control

import (
	"context"
	"errors"
	"io"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	controlv1 "github.com/blocksd/blocksd/proto/blocks/control/v1"
)

// LogSource is a Daemon that keeps what its handlers write.
type LogSource interface {
	// Logs calls send for each record and crash, as the method of the control API says, until there are no more, or, when
	// following, until ctx ends. ErrNoHandler when there is no such handler.
	Logs(ctx context.Context, request *controlv1.LogsRequest, send func(*controlv1.LogsResponse) error) error
}

// Logs implements the control API.
func (s *Server) Logs(req *controlv1.LogsRequest, stream grpc.ServerStreamingServer[controlv1.LogsResponse]) error {
	source, ok := s.cfg.Daemon.(LogSource)
	if !ok {
		return status.Error(codes.Unimplemented, "this daemon keeps no logs")
	}
	ctx := stream.Context() // ends with the server too, stopTimeout after it was asked to stop
	err := source.Logs(ctx, req, stream.Send)
	switch {
	case errors.Is(err, ErrNoHandler):
		return status.Errorf(codes.NotFound, "there is no handler %q: see blocksd handlers", req.GetHandler())
	case err != nil && ctx.Err() != nil:
		return nil
	case err != nil:
		if _, ok := status.FromError(err); ok {
			return err
		}
		return status.Error(codes.Internal, err.Error())
	}
	return nil
}

// Logs calls yield for each record and crash of a handler, or of all for "", until there are no more, or, when following,
// until ctx ends or the daemon does.
func (c *Client) Logs(ctx context.Context, request *controlv1.LogsRequest, yield func(*controlv1.LogsResponse) error) error {
	const attempt = "ask for the logs of"
	ctx, cancel := context.WithCancel(ctx) // also ends the stream when yield fails
	defer cancel()
	stream, err := c.api.Logs(ctx, request)
	if err != nil {
		return c.sentence(attempt, err)
	}
	for {
		r, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return c.sentence(attempt, err)
		}
		if err := yield(r); err != nil {
			return err
		}
	}
}
