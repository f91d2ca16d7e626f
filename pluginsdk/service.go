package pluginsdk

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"runtime/debug"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	handlerv1 "github.com/blocksd/blocksd/proto/blocks/handler/v1"
)

const sdkName = "blocksd-go/0.1.0"

// service implements HandlerService for one Handler.
type service struct {
	handlerv1.UnimplementedHandlerServiceServer
	handler Handler
	host    *host

	mu      sync.Mutex
	running map[string]context.CancelCauseFunc // guarded by mu
	// early are cancellations that overtook the start of their task; guarded by mu, bounded by maxEarly.
	early map[string]earlyCancel
}

type earlyCancel struct {
	reason CancelReason
	at     time.Time
}

const (
	maxEarly = 1024
	// overtaking is the longest that a cancellation may be ahead of its task: they come one behind the other, but two goroutines
	// take them.
	overtaking = 10 * time.Second
)

func newService(h Handler, ho *host) *service {
	return &service{handler: h, host: ho, running: map[string]context.CancelCauseFunc{}, early: map[string]earlyCancel{}}
}

func (s *service) Describe(context.Context, *handlerv1.DescribeRequest) (*handlerv1.DescribeResponse, error) {
	return &handlerv1.DescribeResponse{
		Name: s.handler.Name, Version: s.handler.Version, Sdk: sdkName, AgentCardsJson: s.handler.Cards,
		Capabilities: &handlerv1.Capabilities{Cancel: true, Idempotent: s.handler.Idempotent},
	}, nil
}

func (s *service) StartTask(req *handlerv1.StartTaskRequest, stream grpc.ServerStreamingServer[handlerv1.StartTaskResponse]) error {
	if req.GetTask().GetTaskId() == "" {
		return status.Error(codes.InvalidArgument, "task without id")
	}
	t := newTask(req.GetTask(), s.host, stream.Send)
	// The context keeps the values of the call but ends through us alone, so that its cause is always a *Canceled.
	ctx, cancel := context.WithCancelCause(context.WithoutCancel(stream.Context()))
	defer cancel(&Canceled{Ended})
	stop := context.AfterFunc(stream.Context(), func() { cancel(&Canceled{Ended}) })
	defer stop()
	if !s.begin(t.ID, cancel) {
		return status.Errorf(codes.AlreadyExists, "task %s runs already", t.ID)
	}
	defer s.forget(t.ID)

	err := s.run(ctx, t)
	t.drain(stream.Context())
	t.end()
	if err == nil {
		return stream.Send(&handlerv1.StartTaskResponse{Event: &handlerv1.StartTaskResponse_Result{Result: &handlerv1.Result{Final: t.complete.Load()}}})
	}
	public, secret := texts(err)
	return stream.Send(&handlerv1.StartTaskResponse{Event: &handlerv1.StartTaskResponse_Error{
		Error: &handlerv1.Error{PublicMessage: public, PrivateMessage: secret},
	}})
}

func (s *service) CancelTask(_ context.Context, req *handlerv1.CancelTaskRequest) (*handlerv1.CancelTaskResponse, error) {
	reason := reasonOf(req.GetReason())
	s.mu.Lock()
	defer s.mu.Unlock()
	if cancel, ok := s.running[req.GetTaskId()]; ok {
		cancel(&Canceled{reason})
	} else if len(s.early) < maxEarly {
		s.early[req.GetTaskId()] = earlyCancel{reason, time.Now()}
	}
	return &handlerv1.CancelTaskResponse{}, nil
}

// begin is false when the task runs already.
func (s *service) begin(id string, cancel context.CancelCauseFunc) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.running[id]; ok {
		return false
	}
	s.running[id] = cancel
	if early, ok := s.early[id]; ok {
		delete(s.early, id)
		cancel(&Canceled{early.reason})
	}
	return true
}

// forget also drops old early cancellations when nothing runs: a cancellation may come for a task that has just ended,
// and such must not pile up.
func (s *service) forget(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.running, id)
	if len(s.running) == 0 {
		maps.DeleteFunc(s.early, func(_ string, c earlyCancel) bool { return time.Since(c.at) > overtaking })
	}
}

// run calls the handler's function and turns a panic into an error.
func (s *service) run(ctx context.Context, t *Task) (err error) {
	defer func() {
		if p := recover(); p != nil {
			stack := string(debug.Stack())
			if ctx.Err() != nil { // the daemon no longer listens to what becomes of the task
				slog.ErrorContext(ctx, "a task panicked", "task", t.ID, "panic", fmt.Sprint(p), "stack", stack)
			}
			err = Private(panicText, fmt.Errorf("panic: %v\n%s", p, stack))
		}
	}()
	err = s.handler.Run(ctx, t)
	// What a handler returns because it was canceled is not worth a text of its own.
	if c := (*Canceled)(nil); err != nil && errors.Is(err, context.Canceled) && errors.As(context.Cause(ctx), &c) {
		err = c
	}
	return err
}

func reasonOf(r handlerv1.CancelReason) CancelReason {
	switch r {
	case handlerv1.CancelReason_CANCEL_REASON_USER:
		return User
	case handlerv1.CancelReason_CANCEL_REASON_EXPIRED:
		return Expired
	case handlerv1.CancelReason_CANCEL_REASON_TERMINATED:
		return Terminated
	case handlerv1.CancelReason_CANCEL_REASON_DEADLINE:
		return Deadline
	case handlerv1.CancelReason_CANCEL_REASON_DRAIN:
		return Drain
	case handlerv1.CancelReason_CANCEL_REASON_SHUTDOWN:
		return Shutdown
	}
	return Ended
}
