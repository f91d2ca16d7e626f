package control

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthgrpc "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	controlv1 "github.com/blocksd/blocksd/proto/blocks/control/v1"
)

const (
	// callTimeout bounds an answer, on top of what the server may take by access.go.
	callTimeout = 5 * time.Second
	// maxAnswerBytes: a list of ten thousand tasks has about three megabytes.
	maxAnswerBytes = 64 << 20
)

// Client asks a daemon over its control socket. Errors are sentences for users.
type Client struct {
	path  string
	conn  *grpc.ClientConn
	first chan net.Conn // the first connection until gRPC takes it
	api   controlv1.ControlServiceClient
}

// Dial connects to the daemon at path.
func Dial(ctx context.Context, path string) (*Client, error) {
	var d net.Dialer // connecting to a Unix socket never waits
	// The first connection is made here, because gRPC hides why it fails.
	first, err := d.DialContext(ctx, "unix", path)
	if err != nil {
		return nil, fmt.Errorf("ask the daemon at %s: %s", path, whyUnreachable(path, err))
	}
	return newClient(path, first)
}

// newClient returns a client whose first connection is given.
func newClient(path string, first net.Conn) (*Client, error) {
	var d net.Dialer
	conns := make(chan net.Conn, 1)
	conns <- first
	conn, err := grpc.NewClient("passthrough:///control",
		// Nothing is on the wire but gRPC: the server knows its peer from the kernel.
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxAnswerBytes)),
		grpc.WithUnaryInterceptor(bound),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			select {
			case c := <-conns:
				return c, nil
			default:
				return d.DialContext(ctx, "unix", path)
			}
		}))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("ask the daemon at %s: %w", path, err), first.Close())
	}
	return &Client{path: path, conn: conn, first: conns, api: controlv1.NewControlServiceClient(conn)}, nil
}

// Ping asks whether the daemon answers at all. No content of an answer can make it fail.
func (c *Client) Ping(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	if _, err := healthgrpc.NewHealthClient(c.conn).Check(ctx, &healthgrpc.HealthCheckRequest{}); err != nil {
		return fmt.Errorf("ping the daemon at %s: %w", c.path, err)
	}
	return nil
}

func whyUnreachable(path string, err error) string {
	info, statErr := os.Stat(path)
	switch {
	case statErr == nil && info.Mode()&fs.ModeSocket == 0:
		return "this is not a socket: name the one of the daemon with --socket or BLOCKSD_SOCKET"
	case errors.Is(err, fs.ErrNotExist):
		return "there is no such socket: start a daemon, or name its socket with --socket or BLOCKSD_SOCKET"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "no daemon answers there any more: start one, or name its socket with --socket or BLOCKSD_SOCKET"
	case errors.Is(err, fs.ErrPermission):
		return "this user may not open the socket: be root or a member of its group"
	case errors.Is(err, syscall.EINVAL):
		return "the path is too long for a Unix socket: name another with --socket or BLOCKSD_SOCKET"
	}
	return cause(err).Error()
}

// Close ends the connection.
func (c *Client) Close() error {
	err := c.conn.Close()
	select {
	case unused := <-c.first:
		err = errors.Join(err, unused.Close())
	default:
	}
	return err
}

// Status asks for the daemon at a glance.
func (c *Client) Status(ctx context.Context) (*controlv1.StatusResponse, error) {
	return call(ctx, c, "ask for the status of", c.api.Status, &controlv1.StatusRequest{})
}

// Handlers asks for the handlers.
func (c *Client) Handlers(ctx context.Context) ([]*controlv1.Handler, error) {
	r, err := call(ctx, c, "ask for the handlers of", c.api.ListHandlers, &controlv1.ListHandlersRequest{})
	return r.GetHandlers(), err
}

// Tasks asks for the tasks that have not ended.
func (c *Client) Tasks(ctx context.Context) ([]*controlv1.Task, error) {
	r, err := call(ctx, c, "ask for the tasks of", c.api.ListTasks, &controlv1.ListTasksRequest{})
	return r.GetTasks(), err
}

// CancelTask asks the daemon to end a task.
func (c *Client) CancelTask(ctx context.Context, taskID string) error {
	_, err := call(ctx, c, "cancel task "+taskID+" on", c.api.CancelTask, &controlv1.CancelTaskRequest{TaskId: taskID})
	return err
}

// Drain asks the daemon to let its agents leave and waits until they have left. When ctx ends first, the drain goes on.
func (c *Client) Drain(ctx context.Context) error {
	_, err := call(ctx, c, "drain", c.api.Drain, &controlv1.DrainRequest{})
	return err
}

// Undrain asks the daemon to bring its agents back.
func (c *Client) Undrain(ctx context.Context) error {
	_, err := call(ctx, c, "undrain", c.api.Undrain, &controlv1.UndrainRequest{})
	return err
}

// RestartHandler asks the daemon to replace the processes of a handler and waits until the new ones take the tasks.
func (c *Client) RestartHandler(ctx context.Context, name string) error {
	_, err := call(ctx, c, "restart handler "+name+" on", c.api.RestartHandler, &controlv1.RestartHandlerRequest{Name: name})
	return err
}

// RollbackHandler asks the daemon to go back to the program that a handler ran before, and returns its checksum.
func (c *Client) RollbackHandler(ctx context.Context, name string) (sha256 string, err error) {
	r, err := call(ctx, c, "roll back handler "+name+" on", c.api.RollbackHandler, &controlv1.RollbackHandlerRequest{Name: name})
	return r.GetSha256(), err
}

// AssignAgent asks the daemon to let a handler be an agent that another handler had.
func (c *Client) AssignAgent(ctx context.Context, handler, agent string) error {
	_, err := call(ctx, c, "assign agent "+agent+" to handler "+handler+" on", c.api.AssignAgent, &controlv1.AssignAgentRequest{Handler: handler, Agent: agent})
	return err
}

// Reload asks the daemon to read its configuration again. What is wrong with that is in the answer.
func (c *Client) Reload(ctx context.Context) (*controlv1.ReloadResponse, error) {
	return call(ctx, c, "reload the configuration of", c.api.Reload, &controlv1.ReloadRequest{})
}

// ShowConfig asks for the configuration that counts.
func (c *Client) ShowConfig(ctx context.Context) ([]*controlv1.ConfigValue, error) {
	r, err := call(ctx, c, "ask for the configuration of", c.api.ShowConfig, &controlv1.ShowConfigRequest{})
	return r.GetValues(), err
}

// SetLogLevel changes the level of the daemon's log and returns the level before.
func (c *Client) SetLogLevel(ctx context.Context, level string) (previous string, err error) {
	r, err := call(ctx, c, "set the log level of", c.api.SetLogLevel, &controlv1.SetLogLevelRequest{Level: level})
	return r.GetPrevious(), err
}

// Dump asks what the daemon's process is doing.
func (c *Client) Dump(ctx context.Context) (*controlv1.DumpResponse, error) {
	return call(ctx, c, "ask for a dump of", c.api.Dump, &controlv1.DumpRequest{})
}

// call calls one method; a failure is a sentence that begins with what was attempted.
func call[Request, Response any](ctx context.Context, c *Client, attempt string,
	method func(context.Context, *Request, ...grpc.CallOption) (*Response, error), request *Request) (*Response, error) {
	response, err := method(ctx, request)
	return response, c.sentence(attempt, err)
}

// bound ends a call that gets no answer: a little after the server should have ended it.
func bound(ctx context.Context, method string, req, reply any, conn *grpc.ClientConn, next grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	if r := rules[method]; !r.unbounded {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, r.timeout+callTimeout)
		defer cancel()
	}
	return next(ctx, method, req, reply, conn, opts...)
}

func (c *Client) sentence(attempt string, err error) error {
	if err == nil {
		return nil
	}
	st := status.Convert(err)
	why := st.Message()
	switch st.Code() {
	case codes.Unavailable:
		why = "it went away before it answered"
	case codes.DeadlineExceeded:
		if why == context.DeadlineExceeded.Error() {
			why = "it did not answer in time"
		}
	case codes.Unimplemented:
		why = "it is of a version that cannot do this"
	}
	return fmt.Errorf("%s the daemon at %s: %s", attempt, c.path, why)
}
