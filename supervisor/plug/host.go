package plug

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/blocksd/blocksd/dispatch"
	handlerv1 "github.com/blocksd/blocksd/proto/blocks/handler/v1"
	"github.com/blocksd/blocksd/supervisor/launch"
)

// downloadChunk is the most that one message of a download carries, in bytes. What gRPC keeps of a message that nobody reads is a buffer
// of 32 KiB up to that size, and of 1 MiB beyond.
const downloadChunk = 31 << 10

// host is the host service of one process, and the list of its tasks: what is not in it, the process may not touch.
type host struct {
	handlerv1.UnimplementedHostServiceServer
	path             string
	server           *grpc.Server
	served           chan struct{} // closed when Serve has returned
	onAnotherProcess func(taskID string) bool
	// maxArtifact bounds one artifact, in bytes.
	maxArtifact int64
	// waiting are the bytes of writes to streams that have not been answered.
	waiting atomic.Int64
	spool   *Spool
	open    atomic.Int64 // calls that are not over, on all connections of its own

	greeting chan struct{} // holds a value for each call whose first message is being received

	turns *turns // of its large messages to the host service

	left sync.WaitGroup // what calls have begun and left behind

	mu    sync.Mutex
	tasks map[string]*assignment // guarded by mu
}

func newHost(dir, token string, o owner, plan *launch.Plan, onAnotherProcess func(string) bool, maxArtifact int64, spool *Spool) (*host, error) {
	if onAnotherProcess == nil {
		onAnotherProcess = func(string) bool { return false }
	}
	h := &host{path: filepath.Join(dir, "host"), served: make(chan struct{}), onAnotherProcess: onAnotherProcess, maxArtifact: maxArtifact, spool: spool, greeting: make(chan struct{}, maxGreeting), turns: newTurns(maxLarge), tasks: map[string]*assignment{}}
	listener, err := net.Listen("unix", h.path)
	if err != nil {
		return nil, fmt.Errorf("open the host service: %w", err)
	}
	switch {
	case plan.Launched():
		if err := plan.ShareSocket(h.path); err != nil {
			listener.Close()
			return nil, fmt.Errorf("open the host service to the handler's user: %w", err)
		}
	case plan.Foreign():
		if err := launch.Give(h.path, plan.UID(), plan.GID()); err != nil {
			listener.Close()
			return nil, fmt.Errorf("open the host service to the handler's user: %w", err)
		}
	}
	h.server = grpc.NewServer(
		grpc.Creds(&hostCredentials{}),
		grpc.MaxRecvMsgSize(MaxMessage), grpc.MaxSendMsgSize(MaxMessage),
		grpc.StatsHandler(newReceiver(maxReceiving)),
		grpc.InitialWindowSize(streamWindow), // a fixed one: gRPC's own choice grows to 16 MiB for each call
		grpc.MaxConcurrentStreams(maxStreams), grpc.ConnectionTimeout(connectTimeout), grpc.MaxHeaderListSize(maxPrivate), grpc.WaitForHandlers(true),
		grpc.ChainStreamInterceptor(authorizeStream(token), limitStreams(&h.open)), grpc.UnaryInterceptor(authorizeUnary(token)),
	)
	handlerv1.RegisterHostServiceServer(h.server, h)
	go func() {
		defer close(h.served)
		_ = h.server.Serve(newOwnListener(listener, o, plan.SeenUID(), &h.open, h.turns)) // ends by stop
	}()
	return h, nil
}

func (h *host) stop() {
	h.server.Stop()
	<-h.served
	h.left.Wait()
	h.turns.close()
}

// assign is false when the task is here already.
func (h *host) assign(taskID string, a *assignment) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if _, ok := h.tasks[taskID]; ok {
		return false
	}
	h.tasks[taskID] = a
	return true
}

func (h *host) release(taskID string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.tasks, taskID)
}

// cutOff has the calls of all tasks end after d.
func (h *host) cutOff(d time.Duration) {
	h.mu.Lock()
	all := slices.Collect(maps.Values(h.tasks))
	h.mu.Unlock()
	for _, a := range all {
		a.cutOff(d)
	}
}

func (h *host) lookup(taskID string) *assignment {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.tasks[taskID]
}

// task finds a task of this process for a call of it.
func (h *host) task(taskID string) (*assignment, error) {
	if a := h.lookup(taskID); a != nil {
		return a, nil
	}
	if h.onAnotherProcess(taskID) {
		return nil, status.Errorf(codes.PermissionDenied, "task %q runs on another process", shorten(taskID))
	}
	return nil, status.Errorf(codes.NotFound, "task %q does not run, or has ended", shorten(taskID))
}

// DownloadInput implements the host service.
func (h *host) DownloadInput(r *handlerv1.DownloadInputRequest, stream grpc.ServerStreamingServer[handlerv1.DownloadInputResponse]) error {
	a, err := h.task(r.GetTaskId())
	if err != nil {
		return err
	}
	end, err := a.begin(downloading)
	if err != nil {
		return answer(err)
	}
	return h.within(a.over, func() error {
		defer end()
		ctx, cancel := context.WithCancel(stream.Context()) // the body is read as long as the call lasts, which ends with the task
		defer cancel()
		var in dispatch.Input
		err := a.use(ctx, func(task context.Context, port dispatch.TaskPort) error {
			stop := context.AfterFunc(task, cancel)
			defer stop()
			var err error
			if in, err = port.Input(ctx, int(r.GetPartIndex())); err != nil {
				return status.Errorf(codes.InvalidArgument, "input %d cannot be read: %v", r.GetPartIndex(), err)
			}
			return nil
		})
		if err != nil {
			return answer(err)
		}
		defer in.Body.Close()
		// A reader that stopped must end when the call does.
		stop := context.AfterFunc(ctx, func() { in.Body.Close() })
		defer stop()
		return answer(sendFile(in, stream))
	})
}

func sendFile(in dispatch.Input, stream grpc.ServerStreamingServer[handlerv1.DownloadInputResponse]) error {
	m := &handlerv1.DownloadInputResponse{File: &handlerv1.File{Name: text(in.Name), MimeType: text(in.MIMEType), Size: in.Size}}
	buf := make([]byte, downloadChunk)
	for {
		n, err := io.ReadFull(in.Body, buf)
		if m.Data = buf[:n]; n > 0 || m.File != nil { // an empty file has a description too
			if err := stream.Send(m); err != nil {
				return err
			}
		}
		switch {
		case err == io.EOF || err == io.ErrUnexpectedEOF:
			return nil
		case err != nil:
			return status.Errorf(codes.Unavailable, "the download broke off: %v", err)
		}
		m = &handlerv1.DownloadInputResponse{}
	}
}

// PublishArtifact implements the host service.
func (h *host) PublishArtifact(stream grpc.ClientStreamingServer[handlerv1.PublishArtifactRequest, handlerv1.PublishArtifactResponse]) error {
	first, err := firstOf(h, stream.Recv)
	if err == io.EOF {
		return missingChunk()
	}
	if err != nil {
		return err
	}
	a, err := h.task(first.GetTaskId())
	if err != nil {
		return err
	}
	end, err := a.begin(publishing)
	if err != nil {
		return answer(err)
	}
	return h.within(a.over, func() error {
		defer end()
		return h.publish(a, first, stream)
	})
}

func missingChunk() error {
	return status.Error(codes.InvalidArgument, "the last chunk of the artifact is missing")
}

// publish takes an artifact of a task from its first message on.
func (h *host) publish(a *assignment, m *handlerv1.PublishArtifactRequest, stream grpc.ClientStreamingServer[handlerv1.PublishArtifactRequest, handlerv1.PublishArtifactResponse]) error {
	chunks := assembler{limit: h.maxArtifact, handler: h.spool}
	defer chunks.close()
	after := m.GetAfterResponses()
	for {
		artifact, err := chunks.add(m.GetChunk())
		switch {
		case errors.Is(err, errNoRoom):
			return status.Error(codes.ResourceExhausted, err.Error())
		case err != nil:
			return status.Error(codes.InvalidArgument, err.Error())
		}
		if artifact != nil {
			err = a.use(stream.Context(), func(ctx context.Context, port dispatch.TaskPort) error {
				if err := a.after(ctx, after); err != nil {
					return err
				}
				return port.Artifact(ctx, *artifact)
			})
			if err != nil {
				return answer(err)
			}
			return stream.SendAndClose(&handlerv1.PublishArtifactResponse{})
		}
		if m, err = stream.Recv(); err == io.EOF {
			return missingChunk()
		} else if err != nil {
			return err
		}
	}
}

// answer gives an error of the task's port a status.
func answer(err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, errTaskEnded) || errors.Is(err, dispatch.ErrTaskOver) {
		return status.Error(codes.NotFound, errTaskEnded.Error())
	}
	if _, ok := status.FromError(err); ok {
		return err
	}
	return status.Error(codes.Unavailable, err.Error())
}
