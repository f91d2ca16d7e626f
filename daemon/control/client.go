package control

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	controlv1 "github.com/blocksd/blocksd/proto/blocks/control/v1"
)

const (
	// dialTimeout bounds connecting, callTimeout one question; cancelling waits for a handler.
	dialTimeout = 2 * time.Second
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
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	var d net.Dialer
	// The first connection is made here, because gRPC hides why it fails.
	first, err := d.DialContext(ctx, "unix", path)
	if err != nil {
		return nil, fmt.Errorf("ask the daemon at %s: %s", path, whyUnreachable(err))
	}
	conns := make(chan net.Conn, 1)
	conns <- first
	conn, err := grpc.NewClient("passthrough:///control",
		// Nothing is on the wire but gRPC: the server knows its peer from the kernel.
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxAnswerBytes)),
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

func whyUnreachable(err error) string {
	switch {
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
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	r, err := c.api.Status(ctx, &controlv1.StatusRequest{})
	return r, c.sentence("ask for the status of", err)
}

// Handlers asks for the handlers.
func (c *Client) Handlers(ctx context.Context) ([]*controlv1.Handler, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	r, err := c.api.ListHandlers(ctx, &controlv1.ListHandlersRequest{})
	return r.GetHandlers(), c.sentence("ask for the handlers of", err)
}

// Tasks asks for the tasks that have not ended.
func (c *Client) Tasks(ctx context.Context) ([]*controlv1.Task, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	r, err := c.api.ListTasks(ctx, &controlv1.ListTasksRequest{})
	return r.GetTasks(), c.sentence("ask for the tasks of", err)
}

// CancelTask asks the daemon to end a task.
func (c *Client) CancelTask(ctx context.Context, taskID string) error {
	ctx, cancel := context.WithTimeout(ctx, cancelTimeout+callTimeout)
	defer cancel()
	_, err := c.api.CancelTask(ctx, &controlv1.CancelTaskRequest{TaskId: taskID})
	return c.sentence("cancel task "+taskID+" on", err)
}

// Drain asks the daemon to let its agents leave and waits until they have, or ctx ends, which does not end the drain.
func (c *Client) Drain(ctx context.Context) error {
	_, err := c.api.Drain(ctx, &controlv1.DrainRequest{})
	return c.sentence("drain", err)
}

// Undrain asks the daemon to bring its agents back.
func (c *Client) Undrain(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	_, err := c.api.Undrain(ctx, &controlv1.UndrainRequest{})
	return c.sentence("undrain", err)
}

// RestartHandler asks the daemon to replace the processes of a handler and waits until the new ones take the tasks.
func (c *Client) RestartHandler(ctx context.Context, name string) error {
	ctx, cancel := context.WithTimeout(ctx, rollTimeout+callTimeout)
	defer cancel()
	_, err := c.api.RestartHandler(ctx, &controlv1.RestartHandlerRequest{Name: name})
	return c.sentence("restart handler "+name+" on", err)
}

// RollbackHandler asks the daemon to go back to the program that a handler ran before, and returns its checksum.
func (c *Client) RollbackHandler(ctx context.Context, name string) (sha256 string, err error) {
	ctx, cancel := context.WithTimeout(ctx, rollTimeout+callTimeout)
	defer cancel()
	r, err := c.api.RollbackHandler(ctx, &controlv1.RollbackHandlerRequest{Name: name})
	return r.GetSha256(), c.sentence("roll back handler "+name+" on", err)
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
