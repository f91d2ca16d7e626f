package pluginsdk

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	handlerv1 "github.com/blocksd/blocksd/proto/blocks/handler/v1"
)

// What the daemon tells a handler process about its Host service.
const (
	maxMessage = 16 << 20
)

// host is the client of the daemon's Host service, connected when it is first needed.
type host struct {
	socket, token string

	once   sync.Once
	conn   *grpc.ClientConn // as old as the process, and ends with it
	client handlerv1.HostServiceClient
	err    error
}

func (h *host) dial() (handlerv1.HostServiceClient, error) {
	h.once.Do(func() {
		if h.socket == "" {
			h.err = errors.New("the daemon offers no host service: files cannot be transferred")
			return
		}
		conn, err := grpc.NewClient("unix:"+h.socket, grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage), grpc.MaxCallSendMsgSize(maxMessage)))
		if err != nil {
			h.err = fmt.Errorf("connect to the daemon's host service: %w", err)
			return
		}
		h.conn = conn
		h.client = handlerv1.NewHostServiceClient(conn)
	})
	return h.client, h.err
}

func (h *host) authorized(ctx context.Context) context.Context {
	return metadata.AppendToOutgoingContext(ctx, handlerv1.HostTokenKey, h.token)
}

// File is an input that is being read.
type File struct {
	FileInfo
	stream grpc.ServerStreamingClient[handlerv1.DownloadInputResponse]
	cancel context.CancelFunc
	rest   []byte
	err    error
	taskID string
}

func (h *host) open(ctx context.Context, taskID string, index int) (*File, error) {
	client, err := h.dial()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(h.authorized(ctx))
	f := &File{cancel: cancel, taskID: taskID}
	if f.stream, err = client.DownloadInput(ctx, &handlerv1.DownloadInputRequest{TaskId: taskID, PartIndex: int32(index)}); err == nil {
		var first *handlerv1.DownloadInputResponse
		if first, err = f.stream.Recv(); err == nil {
			f.FileInfo = FileInfo{Name: first.GetFile().GetName(), MIMEType: first.GetFile().GetMimeType(), Size: first.GetFile().GetSize()}
			f.rest = first.GetData()
		}
	}
	if err != nil {
		cancel()
		return nil, fmt.Errorf("download input number %d: %s", index+1, status.Convert(err).Message())
	}
	return f, nil
}

// Read implements io.Reader. The size may differ from the one that was announced.
func (f *File) Read(b []byte) (int, error) {
	for len(f.rest) == 0 {
		if f.err != nil {
			return 0, f.err
		}
		m, err := f.stream.Recv()
		switch {
		case err == io.EOF:
			f.err = io.EOF
		case err != nil:
			f.err = fmt.Errorf("download input %q: %s", f.Name, status.Convert(err).Message())
		default:
			f.rest = m.GetData()
		}
	}
	n := copy(b, f.rest)
	f.rest = f.rest[n:]
	return n, nil
}

// Close ends the download.
func (f *File) Close() error {
	f.cancel()
	return nil
}

// publish sends an artifact that belongs after so many messages of the task's answer.
func (h *host) publish(ctx context.Context, taskID string, after int64, a Artifact) error {
	client, err := h.dial()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(h.authorized(ctx))
	defer cancel()
	stream, err := client.PublishArtifact(ctx)
	if err != nil {
		return fmt.Errorf("publish an artifact: %s", status.Convert(err).Message())
	}
	head := &handlerv1.PublishArtifactRequest{TaskId: taskID, AfterResponses: after}
	err = a.chunks(func(c *handlerv1.ArtifactChunk) error {
		m := head
		m.Chunk = c
		head = &handlerv1.PublishArtifactRequest{}
		return stream.Send(m)
	})
	if err != nil && !errors.Is(err, io.EOF) { // io.EOF means that the answer says why
		return err
	}
	if _, err := stream.CloseAndRecv(); err != nil {
		return fmt.Errorf("publish an artifact: %s", status.Convert(err).Message())
	}
	return nil
}
