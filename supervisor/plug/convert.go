package plug

import (
	"encoding/json"
	"strings"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/blocksd/blocksd/dispatch"
	"github.com/blocksd/blocksd/network/wire"
	handlerv1 "github.com/blocksd/blocksd/proto/blocks/handler/v1"
)

// message turns a task into what the handler gets. Texts of the network may hold what protobuf strings must not.
func message(t *wire.Task) *handlerv1.Task {
	m := &handlerv1.Task{
		TaskId: t.ID, AgentName: text(t.AgentName), Kind: handlerv1.TaskKind_TASK_KIND_REQUEST,
		OwnerId: text(t.OwnerID), OrgId: text(t.OrgID), CallerClaimsJson: t.CallerClaims, RequestSummaryJson: t.RequestSummary,
		HasStream: t.HasStream, ConsumerPublicKey: text(t.ConsumerPublicKey),
	}
	if t.Kind == wire.Pipe {
		m.Kind = handlerv1.TaskKind_TASK_KIND_PIPE
		m.Duration = durationpb.New(t.Duration)
	}
	if !t.Deadline.IsZero() {
		m.Deadline = timestamppb.New(t.Deadline)
	}
	if len(t.TraceContext) > 0 {
		m.TraceContext = make(map[string]string, len(t.TraceContext))
		for k, v := range t.TraceContext {
			m.TraceContext[text(k)] = text(v)
		}
	}
	for _, p := range t.Parts {
		part := &handlerv1.Part{PartId: text(p.PartID), ContentType: text(p.ContentType), RawJson: p.Raw}
		if p.Raw == nil {
			part.RawJson, _ = json.Marshal(p) // its members always encode
		}
		if p.Text != nil {
			s := text(*p.Text)
			part.Text = &s
		}
		if p.File != nil {
			part.File = &handlerv1.File{Name: text(p.File.FileName), MimeType: text(p.File.MIMEType), Size: p.File.Size}
		}
		m.Parts = append(m.Parts, part)
	}
	return m
}

func text(s string) string { return strings.ToValidUTF8(s, "\uFFFD") }

func cancelReason(r dispatch.CancelReason) handlerv1.CancelReason {
	switch r {
	case dispatch.CancelUser:
		return handlerv1.CancelReason_CANCEL_REASON_USER
	case dispatch.CancelExpired:
		return handlerv1.CancelReason_CANCEL_REASON_EXPIRED
	case dispatch.CancelTerminated:
		return handlerv1.CancelReason_CANCEL_REASON_TERMINATED
	case dispatch.CancelDeadline:
		return handlerv1.CancelReason_CANCEL_REASON_DEADLINE
	case dispatch.CancelDrain:
		return handlerv1.CancelReason_CANCEL_REASON_DRAIN
	case dispatch.CancelShutdown:
		return handlerv1.CancelReason_CANCEL_REASON_SHUTDOWN
	}
	return handlerv1.CancelReason_CANCEL_REASON_UNSPECIFIED
}
