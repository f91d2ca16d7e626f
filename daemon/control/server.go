// Package control is the daemon's local API: a gRPC server on a Unix socket that knows its peers, and the client that
// the commands use.
package control

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	controlv1 "github.com/blocksd/blocksd/proto/blocks/control/v1"
)

// Daemon is what the server asks. Its methods never block on network, disk or handlers, but for CancelTask and Drain, which
// end with their contexts.
type Daemon interface {
	Status() *controlv1.StatusResponse
	Handlers() []*controlv1.Handler
	Tasks() []*controlv1.Task
	// CancelTask returns when the handler has been told; ErrNoTask when no such task runs here.
	CancelTask(ctx context.Context, taskID string) error
	// RestartHandler and RollbackHandler return when new processes take the tasks of the handler, or with one sentence why
	// they do not; ErrNoHandler when there is none of that name.
	RestartHandler(ctx context.Context, name string) error
	RollbackHandler(ctx context.Context, name string) (sha256 string, err error)
	// Drain lets the agents leave and returns when they have, or when ctx ends, which does not end the drain.
	Drain(ctx context.Context) error
	// Undrain brings them back.
	Undrain()
}

// ErrNoHandler means that the daemon has no handler of that name.
var ErrNoHandler = errors.New("no such handler")

// ErrNoTask means that no task with this id runs here.
var ErrNoTask = errors.New("no such task runs here")

const (
	// cancelTimeout bounds CancelTask when the caller names no shorter deadline.
	cancelTimeout = 10 * time.Second
	// rollTimeout bounds the start of new processes of a handler.
	rollTimeout = time.Minute
	// stopTimeout is how long calls in progress may take when the server stops.
	stopTimeout = time.Second
	// maxRequestBytes: requests hold a task id at most.
	maxRequestBytes = 64 << 10
)

// ServerConfig of a Server.
type ServerConfig struct {
	Listener net.Listener // from Listen; closed by Run
	Daemon   Daemon
	Log      *slog.Logger
	// UID of the user that may change things beside root; usually the daemon's own.
	UID uint32
}

// Server serves the control API.
type Server struct {
	controlv1.UnimplementedControlServiceServer
	cfg ServerConfig
}

// NewServer returns a server that Run makes answer.
func NewServer(cfg ServerConfig) (*Server, error) {
	if cfg.Listener == nil || cfg.Daemon == nil || cfg.Log == nil {
		return nil, errors.New("control server needs a listener, a daemon and a log")
	}
	return &Server{cfg: cfg}, nil
}

// Run serves until ctx ends, lets calls in progress finish for a moment, and removes the socket.
func (s *Server) Run(ctx context.Context) error {
	g := grpc.NewServer(grpc.Creds(peerCredentials{}), grpc.MaxRecvMsgSize(maxRequestBytes), grpc.ChainUnaryInterceptor(s.recoverPanic, s.authorize), grpc.StreamInterceptor(s.recoverStreamPanic))
	controlv1.RegisterControlServiceServer(g, s)
	served := make(chan error, 1)
	go func() { served <- g.Serve(s.cfg.Listener) }()
	select {
	case err := <-served:
		return fmt.Errorf("serve control socket: %w", err)
	case <-ctx.Done():
	}
	force := time.AfterFunc(stopTimeout, g.Stop)
	g.GracefulStop()
	force.Stop()
	<-served
	return nil
}

// writes are the methods that change something.
var writes = map[string]bool{
	controlv1.ControlService_CancelTask_FullMethodName:      true,
	controlv1.ControlService_RestartHandler_FullMethodName:  true,
	controlv1.ControlService_RollbackHandler_FullMethodName: true,
	controlv1.ControlService_Drain_FullMethodName:           true,
	controlv1.ControlService_Undrain_FullMethodName:         true,
}

func (s *Server) authorize(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	if !writes[info.FullMethod] {
		return next(ctx, req)
	}
	p, ok := peerOf(ctx)
	if !ok || p.UID != 0 && p.UID != s.cfg.UID {
		s.cfg.Log.Warn("control call refused", "method", info.FullMethod, "uid", p.UID, "pid", p.PID)
		return nil, status.Errorf(codes.PermissionDenied, "user %d may read but not change anything: be root or user %d", p.UID, s.cfg.UID)
	}
	s.cfg.Log.Info("control call", "method", info.FullMethod, "uid", p.UID, "pid", p.PID)
	return next(ctx, req)
}

// recoverPanic keeps a mistake in one call from ending the daemon and its tasks.
func (s *Server) recoverPanic(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (resp any, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = s.panicked(info.FullMethod, p)
		}
	}()
	return next(ctx, req)
}

// recoverStreamPanic does the same for calls with many answers.
func (s *Server) recoverStreamPanic(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = s.panicked(info.FullMethod, p)
		}
	}()
	return next(srv, stream)
}

func (s *Server) panicked(method string, p any) error {
	s.cfg.Log.Error("control call panicked", "method", method, "err", fmt.Sprint(p))
	return status.Error(codes.Internal, "the daemon failed to answer: see its log")
}

// Status implements the control API.
func (s *Server) Status(context.Context, *controlv1.StatusRequest) (*controlv1.StatusResponse, error) {
	return s.cfg.Daemon.Status(), nil
}

// ListHandlers implements the control API.
func (s *Server) ListHandlers(context.Context, *controlv1.ListHandlersRequest) (*controlv1.ListHandlersResponse, error) {
	return &controlv1.ListHandlersResponse{Handlers: s.cfg.Daemon.Handlers()}, nil
}

// ListTasks implements the control API.
func (s *Server) ListTasks(context.Context, *controlv1.ListTasksRequest) (*controlv1.ListTasksResponse, error) {
	return &controlv1.ListTasksResponse{Tasks: s.cfg.Daemon.Tasks()}, nil
}

// CancelTask implements the control API.
func (s *Server) CancelTask(ctx context.Context, req *controlv1.CancelTaskRequest) (*controlv1.CancelTaskResponse, error) {
	if req.GetTaskId() == "" {
		return nil, status.Error(codes.InvalidArgument, "the task id is empty")
	}
	ctx, cancel := context.WithTimeout(ctx, cancelTimeout)
	defer cancel()
	err := s.cfg.Daemon.CancelTask(ctx, req.GetTaskId())
	switch {
	case errors.Is(err, ErrNoTask):
		return nil, status.Errorf(codes.NotFound, "no task %q runs here: see blocksd tasks", req.GetTaskId())
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return nil, status.Errorf(codes.DeadlineExceeded, "the handler of task %s did not take the cancel in time", req.GetTaskId())
	case err != nil:
		return nil, status.Error(codes.Internal, err.Error())
	}
	return &controlv1.CancelTaskResponse{}, nil
}

// Drain implements the control API.
func (s *Server) Drain(ctx context.Context, _ *controlv1.DrainRequest) (*controlv1.DrainResponse, error) {
	if err := s.cfg.Daemon.Drain(ctx); err != nil {
		return nil, status.Error(codes.DeadlineExceeded, "tasks are still running, and the drain goes on: see blocksd tasks")
	}
	return &controlv1.DrainResponse{}, nil
}

// Undrain implements the control API.
func (s *Server) Undrain(context.Context, *controlv1.UndrainRequest) (*controlv1.UndrainResponse, error) {
	s.cfg.Daemon.Undrain()
	return &controlv1.UndrainResponse{}, nil
}

// RestartHandler implements the control API.
func (s *Server) RestartHandler(ctx context.Context, req *controlv1.RestartHandlerRequest) (*controlv1.RestartHandlerResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, rollTimeout)
	defer cancel()
	if err := s.cfg.Daemon.RestartHandler(ctx, req.GetName()); err != nil {
		return nil, handlerError(req.GetName(), err)
	}
	return &controlv1.RestartHandlerResponse{}, nil
}

// RollbackHandler implements the control API.
func (s *Server) RollbackHandler(ctx context.Context, req *controlv1.RollbackHandlerRequest) (*controlv1.RollbackHandlerResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, rollTimeout)
	defer cancel()
	sum, err := s.cfg.Daemon.RollbackHandler(ctx, req.GetName())
	if err != nil {
		return nil, handlerError(req.GetName(), err)
	}
	return &controlv1.RollbackHandlerResponse{Sha256: sum}, nil
}

func handlerError(name string, err error) error {
	switch {
	case errors.Is(err, ErrNoHandler):
		return status.Errorf(codes.NotFound, "there is no handler %q: see blocksd handlers", name)
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return status.Error(codes.DeadlineExceeded, "it is not ready yet and goes on trying: see blocksd status")
	}
	return status.Error(codes.FailedPrecondition, err.Error())
}

// UID is the user of this process.
func UID() uint32 { return uint32(os.Getuid()) }
