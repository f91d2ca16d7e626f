package plug

import (
	"context"
	"encoding/json"
	"errors"
	"iter"
	"unicode/utf8"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/blocksd/blocksd/dispatch"
	"github.com/blocksd/blocksd/network/wire"
	handlerv1 "github.com/blocksd/blocksd/proto/blocks/handler/v1"
)

// The streams of the host service. Every wait here ends with the task or with the handler's call; a write waits for room in
// the bounded buffer of its stream and holds up no other stream.

// Bounds of what a handler can make us keep at once, beside the buffers of its streams.
const (
	// maxWriteBytes is what one WriteStream may carry, and one answer to ReadStream with several items.
	maxWriteBytes = 4 << 20
	// maxReadItem is the largest item that an answer can carry.
	maxReadItem = MaxMessage - 64<<10
	// maxWaitingBytes is what all writes of a process that wait for room may carry together.
	maxWaitingBytes = 64 << 20
)

// streamCodes are the gRPC codes of what can be wrong with a stream.
var streamCodes = map[dispatch.StreamFault]codes.Code{
	dispatch.StreamForbidden:   codes.FailedPrecondition,
	dispatch.StreamUndeclared:  codes.InvalidArgument,
	dispatch.StreamUnavailable: codes.Unavailable,
	dispatch.StreamClosed:      codes.FailedPrecondition,
	dispatch.StreamBadItem:     codes.InvalidArgument,
	dispatch.StreamFull:        codes.ResourceExhausted,
	dispatch.StreamLimit:       codes.ResourceExhausted,
	dispatch.StreamUnknown:     codes.NotFound,
}

// streamAnswer gives an error of a stream a status.
func streamAnswer(err error) error {
	var wrong *dispatch.StreamError
	switch {
	case errors.As(err, &wrong):
		return status.Error(streamCodes[wrong.Fault], wrong.Text)
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return status.FromContextError(err).Err()
	}
	return answer(err)
}

// onUse calls f with a stream that a task of this process can use: its own, or, where called is not empty, one of a task that
// it has sent.
func (h *host) onUse(ctx context.Context, taskID, called, streamID string, f func(context.Context, dispatch.StreamUse) error) error {
	if called == "" {
		return h.onStream(ctx, taskID, streamID, func(ctx context.Context, s dispatch.Stream) error { return f(ctx, s) })
	}
	return h.onCall(ctx, taskID, called, func(ctx context.Context, c dispatch.Call) error {
		s, err := c.Stream(streamID)
		if err == nil {
			err = f(ctx, s)
		}
		return err
	})
}

// onStream calls f with a stream of a task of this process.
func (h *host) onStream(ctx context.Context, taskID, streamID string, f func(context.Context, dispatch.Stream) error) error {
	a, err := h.task(taskID)
	if err != nil {
		return err
	}
	return streamAnswer(a.use(ctx, func(ctx context.Context, port dispatch.TaskPort) error {
		s, err := port.Stream(streamID)
		if err != nil {
			return err
		}
		return f(ctx, s)
	}))
}

var (
	directions = map[handlerv1.StreamDirection]wire.StreamDirection{
		handlerv1.StreamDirection_STREAM_DIRECTION_UNSPECIFIED:   "",
		handlerv1.StreamDirection_STREAM_DIRECTION_OUTBOUND:      wire.Outbound,
		handlerv1.StreamDirection_STREAM_DIRECTION_INBOUND:       wire.Inbound,
		handlerv1.StreamDirection_STREAM_DIRECTION_BIDIRECTIONAL: wire.Bidirectional,
	}
	formats = map[handlerv1.StreamFormat]wire.StreamFormat{
		handlerv1.StreamFormat_STREAM_FORMAT_UNSPECIFIED: "",
		handlerv1.StreamFormat_STREAM_FORMAT_BYTES:       wire.FormatBytes,
		handlerv1.StreamFormat_STREAM_FORMAT_EVENTS:      wire.FormatEvents,
	}
)

// keyOf is the inverse of a map; the zero value for what is not in it.
func keyOf[K, V comparable](m map[K]V, v V) (key K) {
	for k, w := range m {
		if w == v {
			return k
		}
	}
	return key
}

// metadataOf is a JSON object of a handler, nil for none.
func metadataOf(b []byte) (json.RawMessage, error) {
	if len(b) == 0 {
		return nil, nil
	}
	var object map[string]json.RawMessage
	if err := json.Unmarshal(b, &object); err != nil || object == nil {
		return nil, status.Error(codes.InvalidArgument, "the metadata of a stream must be a JSON object")
	}
	return json.RawMessage(b), nil
}

// CreateStream implements the host service.
func (h *host) CreateStream(ctx context.Context, r *handlerv1.CreateStreamRequest) (*handlerv1.CreateStreamResponse, error) {
	a, err := h.task(r.GetTaskId())
	if err != nil {
		return nil, err
	}
	direction, known := directions[r.GetDirection()]
	format, known2 := formats[r.GetFormat()]
	if !known || !known2 {
		return nil, status.Error(codes.InvalidArgument, "the direction or the format of the stream is one that this daemon does not know")
	}
	metadata, err := metadataOf(r.GetMetadataJson())
	if err != nil {
		return nil, err
	}
	m := &handlerv1.CreateStreamResponse{}
	err = a.use(ctx, func(ctx context.Context, port dispatch.TaskPort) error {
		s, created, err := port.CreateStream(ctx, dispatch.StreamRequest{
			Declared: r.GetDeclaredStream(), Direction: direction, Format: format, Metadata: metadata, External: r.GetExternal(),
			Grace: r.GetGrace().AsDuration(),
		})
		if err != nil {
			return err
		}
		describe(m, s.Info())
		m.Created = created
		return nil
	})
	if err != nil {
		return nil, streamAnswer(err)
	}
	return m, nil
}

func describe(m *handlerv1.CreateStreamResponse, i dispatch.StreamInfo) {
	m.StreamId, m.DeclaredStream, m.Channel, m.Shared, m.First = i.ID, i.Declared, i.Channel, i.Shared, i.First
	m.Direction, m.Format = keyOf(directions, i.Direction), keyOf(formats, i.Format)
	if e := i.External; e != nil {
		m.External = &handlerv1.ExternalStream{
			Token: e.Token, PublishKey: e.PublishKey, SubscribeKey: e.SubscribeKey, Origin: e.Origin, Expires: timestamppb.New(e.Expires),
		}
	}
}

// ActivateStream implements the host service.
func (h *host) ActivateStream(ctx context.Context, r *handlerv1.ActivateStreamRequest) (*handlerv1.ActivateStreamResponse, error) {
	metadata, err := metadataOf(r.GetMetadataJson())
	if err != nil {
		return nil, err
	}
	err = h.onStream(ctx, r.GetTaskId(), r.GetStreamId(), func(ctx context.Context, s dispatch.Stream) error {
		return s.Activate(ctx, metadata)
	})
	return &handlerv1.ActivateStreamResponse{}, err
}

// WriteStream implements the host service.
func (h *host) WriteStream(ctx context.Context, r *handlerv1.WriteStreamRequest) (*handlerv1.WriteStreamResponse, error) {
	items, size, err := itemsOf(r.GetItems())
	if err != nil {
		return nil, err
	}
	if waiting := h.waiting.Add(int64(size)); waiting > maxWaitingBytes {
		h.waiting.Add(-int64(size))
		return nil, status.Errorf(codes.ResourceExhausted, "more than %d MiB of writes to streams wait already: await an answer before the next write", maxWaitingBytes>>20)
	}
	defer h.waiting.Add(-int64(size))
	err = h.onUse(ctx, r.GetTaskId(), r.GetCalledTaskId(), r.GetStreamId(), func(ctx context.Context, s dispatch.StreamUse) error {
		if err := s.Write(ctx, items, !r.GetNoWait()); err != nil || !r.GetFlush() {
			return err
		}
		return s.Flush(ctx)
	})
	return &handlerv1.WriteStreamResponse{}, err
}

// itemsOf are the items of a write, and how many bytes they have.
func itemsOf(items []*handlerv1.StreamItem) (out []dispatch.StreamItem, size int, err error) {
	out = make([]dispatch.StreamItem, len(items))
	for n, item := range items {
		i := &out[n]
		switch v := item.GetItem().(type) {
		case *handlerv1.StreamItem_Data:
			i.Kind, i.Data = dispatch.StreamBytes, v.Data
		case *handlerv1.StreamItem_Text:
			i.Kind, i.Data = dispatch.StreamText, []byte(v.Text)
		case *handlerv1.StreamItem_EventJson:
			i.Kind, i.Data = dispatch.StreamEvent, v.EventJson
		case *handlerv1.StreamItem_EventData:
			i.Kind, i.Data = dispatch.StreamEventBytes, v.EventData
		default:
			return nil, 0, status.Errorf(codes.InvalidArgument, "item %d of the write is empty, or of a kind that this daemon does not know", n)
		}
		if i.Kind == dispatch.StreamEvent && len(i.Data) == 0 {
			return nil, 0, status.Errorf(codes.InvalidArgument, "item %d of the write is an event without a value", n)
		}
		size += len(i.Data)
	}
	if size > maxWriteBytes {
		return nil, 0, status.Errorf(codes.InvalidArgument, "the write has %d bytes, more than the %d that one write may have: write in pieces", size, maxWriteBytes)
	}
	return out, size, nil
}

// ReadStream implements the host service. A handler that does not take what it gets holds up nothing but this call, which
// ends with the task.
func (h *host) ReadStream(r *handlerv1.ReadStreamRequest, stream grpc.ServerStreamingServer[handlerv1.ReadStreamResponse]) error {
	a, err := h.task(r.GetTaskId())
	if err != nil {
		return err
	}
	return h.within(a.over, func() error {
		ctx := stream.Context()
		var next func(context.Context) (dispatch.StreamBatch, error)
		var done func()
		err := h.onUse(ctx, r.GetTaskId(), r.GetCalledTaskId(), r.GetStreamId(), func(_ context.Context, s dispatch.StreamUse) (err error) {
			next, done, err = s.Read()
			return err
		})
		if err != nil {
			return err
		}
		defer done()
		for {
			var batch dispatch.StreamBatch
			err := a.use(ctx, func(ctx context.Context, _ dispatch.TaskPort) (err error) {
				batch, err = next(ctx)
				return err
			})
			if err != nil {
				return streamAnswer(err)
			}
			for answer := range readAnswers(batch) {
				if err := stream.Send(answer); err != nil {
					return err
				}
			}
			if batch.End != nil {
				return nil
			}
		}
	})
}

// readAnswers are the messages that carry a batch: several where one would be too large. An item that fits into none, which
// only writers unlike ours make, is as lost as a message that never came.
func readAnswers(batch dispatch.StreamBatch) iter.Seq[*handlerv1.ReadStreamResponse] {
	return func(yield func(*handlerv1.ReadStreamResponse) bool) {
		lost, items := batch.Lost, batch.Items
		for {
			size, n := 0, 0
			for n < len(items) && len(items[n].Data) <= maxReadItem && (n == 0 || size+len(items[n].Data) <= maxWriteBytes) {
				size += len(items[n].Data)
				n++
			}
			m := &handlerv1.ReadStreamResponse{Items: messages(items[:n])}
			if items = items[n:]; n == 0 && len(items) > 0 {
				lost, items = lost+1, items[1:]
				if len(items) > 0 {
					continue
				}
			}
			if lost > 0 {
				m.Gap, lost = &handlerv1.StreamGap{Messages: lost}, 0
			}
			if batch.End != nil && len(items) == 0 {
				m.End = &handlerv1.StreamEnd{Reason: batch.End.Reason, Detail: text(batch.End.Detail)}
			}
			if !yield(m) || len(items) == 0 {
				return
			}
		}
	}
}

// messages are items for a handler.
func messages(items []dispatch.StreamItem) []*handlerv1.StreamItem {
	out := make([]*handlerv1.StreamItem, 0, len(items))
	for _, i := range items {
		m := &handlerv1.StreamItem{}
		switch {
		case i.Kind == dispatch.StreamText && utf8.Valid(i.Data):
			m.Item = &handlerv1.StreamItem_Text{Text: string(i.Data)}
		case i.Kind == dispatch.StreamText, i.Kind == dispatch.StreamBytes:
			m.Item = &handlerv1.StreamItem_Data{Data: i.Data}
		case i.Kind == dispatch.StreamEventBytes:
			m.Item = &handlerv1.StreamItem_EventData{EventData: i.Data}
		default:
			m.Item = &handlerv1.StreamItem_EventJson{EventJson: i.Data}
		}
		out = append(out, m)
	}
	return out
}

// EndStream implements the host service.
func (h *host) EndStream(ctx context.Context, r *handlerv1.EndStreamRequest) (*handlerv1.EndStreamResponse, error) {
	var err error
	switch called, failure := r.GetCalledTaskId(), r.GetFailure(); {
	case called != "" && failure != "":
		err = status.Error(codes.FailedPrecondition, "a stream of a called task cannot be failed from here: end it, or cancel that task")
	case failure != "":
		err = h.onStream(ctx, r.GetTaskId(), r.GetStreamId(), func(ctx context.Context, s dispatch.Stream) error { return s.Fail(ctx, failure) })
	default:
		err = h.onUse(ctx, r.GetTaskId(), called, r.GetStreamId(), func(ctx context.Context, s dispatch.StreamUse) error { return s.End(ctx) })
	}
	return &handlerv1.EndStreamResponse{}, err
}

// EndTask implements the host service.
func (h *host) EndTask(ctx context.Context, r *handlerv1.EndTaskRequest) (*handlerv1.EndTaskResponse, error) {
	a, err := h.task(r.GetTaskId())
	if err != nil {
		return nil, err
	}
	var failure *dispatch.TaskFailure
	if e := r.GetError(); e != nil {
		failure = handlerFailure(e)
	}
	err = a.use(ctx, func(_ context.Context, port dispatch.TaskPort) error { return port.End(failure) })
	if errors.Is(err, dispatch.ErrNotDetached) {
		return nil, status.Error(codes.FailedPrecondition, err.Error())
	}
	return &handlerv1.EndTaskResponse{}, answer(err)
}
