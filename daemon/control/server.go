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
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health"
	healthgrpc "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	controlv1 "github.com/blocksd/blocksd/proto/blocks/control/v1"
)

// Daemon is what the server asks. Methods without a context never block on network, disk or handlers; the others end with
// their contexts.
type Daemon interface {
	Status() *controlv1.StatusResponse
	Handlers() []*controlv1.Handler
	Tasks() []*controlv1.Task
	// CancelTask returns when the handler has been asked to cancel; ErrNoTask when no such task runs here.
	CancelTask(ctx context.Context, taskID string) error
	// RestartHandler and RollbackHandler return when new processes take the handler's tasks, or one sentence that says why
	// they do not; ErrNoHandler when there is no handler of that name.
	RestartHandler(ctx context.Context, name string) error
	RollbackHandler(ctx context.Context, name string) (sha256 string, err error)
	// AssignAgent returns when a handler may be an agent that another one had, or one sentence that says why it is not.
	AssignAgent(ctx context.Context, handler, agent string) error
	// Drain lets the agents leave and returns when they have left. When ctx ends first, the drain goes on.
	Drain(ctx context.Context) error
	// Undrain brings them back.
	Undrain()
	// Reload reads the configuration again and applies what it can. What is wrong with the configuration is in the answer.
	Reload(ctx context.Context) (*controlv1.ReloadResponse, error)
	// ShowConfig is the configuration that counts, without secrets.
	ShowConfig() []*controlv1.ConfigValue
	// SetLogLevel changes the level of the log; the error is a sentence about the level.
	SetLogLevel(level string) (previous string, err error)
	// Dump is what the process is doing.
	Dump() (*controlv1.DumpResponse, error)
}

// ErrNoHandler means that the daemon has no handler of that name.
var ErrNoHandler = errors.New("no such handler")

// ErrNoTask means that no task with this id runs here.
var ErrNoTask = errors.New("no such task runs here")

const (
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
	// Operators is the group whose members may change things, too; it may change. Nil for none.
	Operators func() Group
	// Owned reports whether a process belongs to a handler; those may change nothing, whoever they run as. nil when there
	// are none.
	Owned func(pid int) bool
	// OnLost, if it is not nil, is called when the socket was removed and cannot be made again. It must not block.
	OnLost func()
}

// Server serves the control API.
type Server struct {
	controlv1.UnimplementedControlServiceServer
	cfg     ServerConfig
	open    counts // connections
	calls   counts
	refused refusals
	serving sync.WaitGroup // one goroutine for each listener, and the one of keep
}

// NewServer returns a server that answers once Run is called.
func NewServer(cfg ServerConfig) (*Server, error) {
	if cfg.Listener == nil || cfg.Daemon == nil || cfg.Log == nil {
		return nil, errors.New("control server needs a listener, a daemon and a log")
	}
	return &Server{
		cfg:   cfg,
		open:  counts{operators: operatorConnections, each: userConnections, others: otherConnections},
		calls: counts{operators: operatorCalls, each: userCalls},
	}, nil
}

// Run serves until ctx ends, lets calls in progress finish for a moment, and removes the socket.
func (s *Server) Run(ctx context.Context) error {
	g := grpc.NewServer(grpc.Creds(peerCredentials{s.cfg.Owned}), grpc.MaxRecvMsgSize(maxRequestBytes), grpc.MaxConcurrentStreams(connectionStreams), grpc.ConnectionTimeout(greeting),
		grpc.MaxHeaderListSize(maxRequestBytes), grpc.ForceServerCodecV2(newTextCodec()),
		grpc.UnaryInterceptor(s.guard), grpc.StreamInterceptor(s.guardStream))
	controlv1.RegisterControlServiceServer(g, s)
	healthgrpc.RegisterHealthServer(g, health.NewServer())
	keeping, stop := context.WithCancel(ctx)
	defer s.serving.Wait()
	defer stop()
	served := make(chan error, 1)
	s.serving.Go(func() { served <- g.Serve(s.fair(s.cfg.Listener)) })
	s.serving.Go(func() { s.keep(keeping, g) })
	select {
	case err := <-served:
		stop()
		g.Stop()
		return fmt.Errorf("serve control socket: %w", err)
	case <-ctx.Done():
	}
	force := time.AfterFunc(stopTimeout, g.Stop)
	g.GracefulStop()
	force.Stop()
	return nil
}

// fair is a listener that keeps some callers from using up the connections of others.
func (s *Server) fair(l net.Listener) net.Listener {
	return &fairListener{Listener: l, owned: s.cfg.Owned, operators: operators{uid: s.cfg.UID}, open: &s.open}
}

// guard stands before every call with one answer: it checks the caller, bounds the time, and keeps a mistake in one call
// from ending the daemon and its tasks.
func (s *Server) guard(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (resp any, err error) {
	if err := s.admit(ctx, info.FullMethod); err != nil {
		return nil, err
	}
	leave, err := s.enter(ctx)
	if err != nil {
		return nil, err
	}
	defer leave()
	if timeout := rules[info.FullMethod].timeout; timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, timeout)
		defer cancel()
	}
	defer s.recoverPanic(info.FullMethod, &err)
	return next(ctx, req)
}

// guardStream does the same for calls with many answers.
func (s *Server) guardStream(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) (err error) {
	if err := s.admit(stream.Context(), info.FullMethod); err != nil {
		return err
	}
	leave, err := s.enter(stream.Context())
	if err != nil {
		return err
	}
	defer leave()
	defer s.recoverPanic(info.FullMethod, &err)
	return next(srv, stream)
}

// admit returns an error when the caller may not call the method, and logs who changes something.
func (s *Server) admit(ctx context.Context, method string) error {
	p, known := peerOf(ctx)
	who := operators{uid: s.cfg.UID}
	if s.cfg.Operators != nil {
		who.group = s.cfg.Operators()
	}
	if refusal := authorize(method, p, known, who); refusal != "" {
		if log, unsaid := s.refused.say(time.Now()); log {
			s.cfg.Log.Warn("control call refused", "method", method, "uid", p.UID, "pid", p.PID, "refused_before", unsaid)
		}
		return status.Error(codes.PermissionDenied, refusal)
	}
	if rules[method].access != reads {
		s.cfg.Log.Info("control call", "method", method, "uid", p.UID, "pid", p.PID)
	}
	return nil
}

func (s *Server) recoverPanic(method string, err *error) {
	if p := recover(); p != nil {
		s.cfg.Log.Error("control call panicked", "method", method, "err", fmt.Sprint(p))
		*err = status.Error(codes.Internal, "the daemon failed to answer: see its log")
	}
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

// Reload implements the control API.
func (s *Server) Reload(ctx context.Context, _ *controlv1.ReloadRequest) (*controlv1.ReloadResponse, error) {
	r, err := s.cfg.Daemon.Reload(ctx)
	switch {
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return nil, status.Error(codes.DeadlineExceeded, "the settings are applied, and what is served is still being decided: see blocksd status")
	case err != nil:
		return nil, status.Error(codes.FailedPrecondition, err.Error())
	}
	return r, nil
}

// ShowConfig implements the control API.
func (s *Server) ShowConfig(context.Context, *controlv1.ShowConfigRequest) (*controlv1.ShowConfigResponse, error) {
	return &controlv1.ShowConfigResponse{Values: s.cfg.Daemon.ShowConfig()}, nil
}

// SetLogLevel implements the control API.
func (s *Server) SetLogLevel(_ context.Context, req *controlv1.SetLogLevelRequest) (*controlv1.SetLogLevelResponse, error) {
	previous, err := s.cfg.Daemon.SetLogLevel(req.GetLevel())
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	return &controlv1.SetLogLevelResponse{Previous: previous}, nil
}

// Dump implements the control API.
func (s *Server) Dump(context.Context, *controlv1.DumpRequest) (*controlv1.DumpResponse, error) {
	r, err := s.cfg.Daemon.Dump()
	if err != nil {
		return nil, status.Error(codes.Internal, err.Error())
	}
	return r, nil
}

// RestartHandler implements the control API.
func (s *Server) RestartHandler(ctx context.Context, req *controlv1.RestartHandlerRequest) (*controlv1.RestartHandlerResponse, error) {
	if err := s.cfg.Daemon.RestartHandler(ctx, req.GetName()); err != nil {
		return nil, handlerError(req.GetName(), err)
	}
	return &controlv1.RestartHandlerResponse{}, nil
}

// RollbackHandler implements the control API.
func (s *Server) RollbackHandler(ctx context.Context, req *controlv1.RollbackHandlerRequest) (*controlv1.RollbackHandlerResponse, error) {
	sum, err := s.cfg.Daemon.RollbackHandler(ctx, req.GetName())
	if err != nil {
		return nil, handlerError(req.GetName(), err)
	}
	return &controlv1.RollbackHandlerResponse{Sha256: sum}, nil
}

// AssignAgent implements the control API.
func (s *Server) AssignAgent(ctx context.Context, req *controlv1.AssignAgentRequest) (*controlv1.AssignAgentResponse, error) {
	if err := s.cfg.Daemon.AssignAgent(ctx, req.GetHandler(), req.GetAgent()); err != nil {
		return nil, handlerError(req.GetHandler(), err)
	}
	return &controlv1.AssignAgentResponse{}, nil
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
