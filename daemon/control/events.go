package control

import (
	"context"
	"errors"
	"fmt"
	"io"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	controlv1 "github.com/blocksd/blocksd/proto/blocks/control/v1"
)

// EventSource is a Daemon that says what happens.
type EventSource interface {
	// Events calls send for what has happened and, when following, for what happens next, until ctx ends. It is a
	// FutureError when the daemon has not had the event that the request begins after. What was sent must not be changed.
	Events(ctx context.Context, request *controlv1.EventsRequest, send func(EncodedItems) error) error
}

// FutureError says that an event has not happened yet in this daemon: most likely it was started again since.
type FutureError struct{ Since, Latest uint64 }

func (e FutureError) Error() string {
	return fmt.Sprintf("event %d has not happened yet: it has counted %d since it started, so it may have been restarted meanwhile: leave --since out", e.Since, e.Latest)
}

// Events implements the control API.
func (s *Server) Events(req *controlv1.EventsRequest, stream grpc.ServerStreamingServer[controlv1.EventsResponse]) error {
	source, ok := s.cfg.Daemon.(EventSource)
	if !ok {
		return status.Error(codes.Unimplemented, "this daemon has no events")
	}
	if req.GetLast() < 0 {
		return status.Error(codes.InvalidArgument, "the number of past events must not be negative")
	}
	ctx := stream.Context() // ends with the server too, stopTimeout after it was asked to stop
	err := source.Events(ctx, req, func(items EncodedItems) error { return stream.SendMsg(items) })
	if future, ok := errors.AsType[FutureError](err); ok {
		return status.Error(codes.OutOfRange, future.Error())
	}
	if err != nil && ctx.Err() != nil {
		return nil
	}
	return err // of Send
}

// Events calls yield for each event and each gap until there are no more, or, when following, until ctx ends or the daemon
// does.
func (c *Client) Events(ctx context.Context, request *controlv1.EventsRequest, yield func(*controlv1.EventItem) error) error {
	const attempt = "ask for the events of"
	ctx, cancel := context.WithCancel(ctx) // also ends the stream when yield fails
	defer cancel()
	stream, err := c.api.Events(ctx, request)
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
		for _, item := range r.GetItems() {
			if err := yield(item); err != nil {
				return err
			}
		}
	}
}
