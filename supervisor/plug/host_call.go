package plug

import (
	"bytes"
	"context"
	"errors"
	"io"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/blocksd/blocksd/dispatch"
	"github.com/blocksd/blocksd/network/wire"
	handlerv1 "github.com/blocksd/blocksd/proto/blocks/handler/v1"
)

// The calls to other agents of the host service. What a handler sends for one is kept here until it is complete, within the
// budget of its spool; then the runtime sends it, and the handler gets the events of the called task.

// maxCallParts is how many inputs a call may have.
const maxCallParts = 256

// callCodes are the gRPC codes of what can be wrong with a call.
var callCodes = map[dispatch.CallFault]codes.Code{
	dispatch.CallRefused:     codes.InvalidArgument,
	dispatch.CallUnavailable: codes.Unavailable,
	dispatch.CallLimit:       codes.ResourceExhausted,
	dispatch.CallUnknown:     codes.NotFound,
	dispatch.CallNotOffered:  codes.Unimplemented,
}

// callAnswer gives an error of a call, or of a stream of it, a status.
func callAnswer(err error) error {
	if wrong, ok := errors.AsType[*dispatch.CallError](err); ok {
		return status.Error(callCodes[wrong.Fault], foreign(wrong.Text, maxPrivate))
	}
	return streamAnswer(err)
}

// CallAgent implements the host service.
func (h *host) CallAgent(stream grpc.BidiStreamingServer[handlerv1.CallAgentRequest, handlerv1.CallAgentResponse]) error {
	first, err := firstOf(h, stream.Recv)
	if err == io.EOF {
		return status.Error(codes.InvalidArgument, "the first message of a call must say whom it is for")
	}
	if err != nil {
		return err
	}
	c := first.GetCall()
	a, err := h.task(c.GetTaskId())
	if err != nil {
		return err
	}
	end, err := a.begin(calling)
	if err != nil {
		return answer(err)
	}
	return h.within(a.over, func() error {
		defer end()
		return h.call(a, c, stream)
	})
}

func (h *host) call(a *assignment, c *handlerv1.AgentCall, stream grpc.BidiStreamingServer[handlerv1.CallAgentRequest, handlerv1.CallAgentResponse]) error {
	files, err := h.receive(c, stream)
	defer files.close()
	if err != nil {
		return err
	}
	return callAnswer(a.use(stream.Context(), func(ctx context.Context, port dispatch.TaskPort) error {
		call, err := port.Call(ctx, files.request(c))
		if err != nil {
			return err
		}
		files.close() // the network has them
		err = stream.Send(&handlerv1.CallAgentResponse{Submitted: &handlerv1.SubmittedCall{
			TaskId: text(call.TaskID()), Queued: call.Queued(), Idempotent: call.Idempotent(),
		}})
		return errors.Join(err, call.Follow(ctx, func(e dispatch.CallEvent) error {
			m := &handlerv1.CallAgentResponse{EventJson: e.JSON}
			for _, s := range e.Streams {
				m.Streams = append(m.Streams, calledStream(s))
			}
			return stream.Send(m)
		}))
	}))
}

// callFiles are the files of a call, by the index of their parts.
type callFiles struct {
	assemblers map[int]*assembler
	complete   map[int]*wire.Artifact
}

func (f *callFiles) close() {
	for _, a := range f.assemblers {
		a.close()
	}
	f.assemblers = nil
}

// receive takes the files of a call, to the end of what the handler sends.
func (h *host) receive(c *handlerv1.AgentCall, stream grpc.BidiStreamingServer[handlerv1.CallAgentRequest, handlerv1.CallAgentResponse]) (*callFiles, error) {
	f := &callFiles{assemblers: map[int]*assembler{}, complete: map[int]*wire.Artifact{}}
	if len(c.GetParts()) > maxCallParts {
		return f, status.Errorf(codes.InvalidArgument, "a call may have %d parts, not %d", maxCallParts, len(c.GetParts()))
	}
	for i, p := range c.GetParts() {
		if p.GetContent() == nil {
			return f, status.Errorf(codes.InvalidArgument, "part %d of the call has neither a text nor a file", i)
		}
		if file := p.GetFile(); file != nil {
			f.assemblers[i] = &assembler{limit: h.maxArtifact, handler: h.spool}
			info := &handlerv1.ArtifactInfo{FileName: file.GetName(), MimeType: file.GetMimeType()}
			if _, err := f.assemblers[i].add(&handlerv1.ArtifactChunk{Info: info}); err != nil {
				return f, status.Error(codes.ResourceExhausted, err.Error())
			}
		}
	}
	for {
		m, err := stream.Recv()
		if err == io.EOF {
			break
		}
		if err != nil {
			return f, err
		}
		part := f.assemblers[int(m.GetPartIndex())]
		if part == nil {
			return f, status.Errorf(codes.InvalidArgument, "part %d of the call is no file, so it takes no data", m.GetPartIndex())
		}
		if _, err := part.add(&handlerv1.ArtifactChunk{Data: m.GetData()}); err != nil {
			return f, status.Error(codes.ResourceExhausted, err.Error())
		}
	}
	for i, part := range f.assemblers {
		whole, err := part.add(&handlerv1.ArtifactChunk{Last: true})
		if err != nil {
			return f, status.Error(codes.ResourceExhausted, err.Error())
		}
		f.complete[i] = whole
	}
	return f, nil
}

// request is the call with its files.
func (f *callFiles) request(c *handlerv1.AgentCall) dispatch.CallRequest {
	r := dispatch.CallRequest{
		Agent: c.GetAgentName(), Duration: c.GetDuration().AsDuration(), IdempotencyKey: c.GetIdempotencyKey(), OwnerID: c.GetOwnerId(),
		Detached: c.GetDetached(), Traceparent: c.GetTraceContext()[wire.TraceParent],
		Stream: c.GetStream(),
	}
	for i, p := range c.GetParts() {
		part := dispatch.CallPart{ID: p.GetPartId(), ContentType: p.GetContentType(), Text: p.GetText()}
		if whole := f.complete[i]; whole != nil {
			part.FileName, part.Open = whole.FileName, opener(whole)
			if part.ContentType == "" {
				part.ContentType = whole.MIMEType
			}
		}
		r.Parts = append(r.Parts, part)
	}
	return r
}

// calledStream describes a stream of a called task.
func calledStream(s dispatch.CalledStream) *handlerv1.CalledStream {
	return &handlerv1.CalledStream{
		StreamId: text(s.ID), DeclaredStream: text(s.Declared), Direction: keyOf(directions, s.Direction), Format: keyOf(formats, s.Format),
		Shared: s.Shared, MetadataJson: s.Metadata,
	}
}

// OpenCallStream implements the host service.
func (h *host) OpenCallStream(ctx context.Context, r *handlerv1.OpenCallStreamRequest) (*handlerv1.OpenCallStreamResponse, error) {
	m := &handlerv1.OpenCallStreamResponse{}
	err := h.onCall(ctx, r.GetTaskId(), r.GetCalledTaskId(), func(ctx context.Context, c dispatch.Call) error {
		s, err := c.OpenStream(ctx, r.GetStreamId())
		m.Stream = calledStream(s)
		return err
	})
	if err != nil {
		return nil, err
	}
	return m, nil
}

// opener returns the bytes of a file from their beginning, as often as it is called.
func opener(whole *wire.Artifact) func() (io.ReadCloser, error) {
	return func() (io.ReadCloser, error) {
		body := io.NopCloser(bytes.NewReader(whole.Data))
		if whole.Open != nil {
			var err error
			if body, err = whole.Open(); err != nil {
				return nil, err
			}
		}
		return &sizedFile{body, whole.Length()}, nil
	}
}

// sizedFile is a file that says how much of it is left, so that nobody has to read it to know.
type sizedFile struct {
	io.ReadCloser
	left int64
}

func (f *sizedFile) Read(p []byte) (int, error) {
	n, err := f.ReadCloser.Read(p)
	f.left -= int64(n)
	return n, err
}

// Len is how many bytes are left.
func (f *sizedFile) Len() int { return int(f.left) }

// ControlCall implements the host service.
func (h *host) ControlCall(ctx context.Context, r *handlerv1.ControlCallRequest) (*handlerv1.ControlCallResponse, error) {
	err := h.onCall(ctx, r.GetTaskId(), r.GetCalledTaskId(), func(ctx context.Context, c dispatch.Call) error {
		return c.Control(ctx, dispatch.CallVerb(r.GetVerb()))
	})
	return &handlerv1.ControlCallResponse{}, err
}

// DownloadCallArtifact implements the host service.
func (h *host) DownloadCallArtifact(r *handlerv1.DownloadCallArtifactRequest, stream grpc.ServerStreamingServer[handlerv1.DownloadCallArtifactResponse]) error {
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
		return h.onCall(stream.Context(), r.GetTaskId(), r.GetCalledTaskId(), func(ctx context.Context, c dispatch.Call) error {
			artifact, err := c.Artifact(ctx, int(r.GetArtifactIndex()))
			if err != nil {
				return err
			}
			defer artifact.Body.Close()
			return sendArtifact(artifact, stream)
		})
	})
}

func sendArtifact(a dispatch.CallArtifact, stream grpc.ServerStreamingServer[handlerv1.DownloadCallArtifactResponse]) error {
	m := &handlerv1.DownloadCallArtifactResponse{Info: &handlerv1.ArtifactInfo{
		OutputId: text(a.OutputID), FileName: text(a.FileName), MimeType: text(a.MIMEType),
	}}
	buf := make([]byte, downloadChunk)
	for {
		n, err := io.ReadFull(a.Body, buf)
		if m.Data = buf[:n]; n > 0 || m.Info != nil { // an empty artifact has a description too
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
		m = &handlerv1.DownloadCallArtifactResponse{}
	}
}

// onCall calls f with a task that a task of this process has sent.
func (h *host) onCall(ctx context.Context, taskID, called string, f func(context.Context, dispatch.Call) error) error {
	a, err := h.task(taskID)
	if err != nil {
		return err
	}
	return callAnswer(a.use(ctx, func(ctx context.Context, port dispatch.TaskPort) error {
		c, err := port.Called(called)
		if err != nil {
			return err
		}
		return f(ctx, c)
	}))
}
