package daemon

import (
	"context"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/blocksd/blocksd/daemon/control"
	controlv1 "github.com/blocksd/blocksd/proto/blocks/control/v1"
	"github.com/blocksd/blocksd/supervisor/logpump"
)

// maxLogLines is as many as any handler has kept, and more.
const maxLogLines = 1 << 20

// Logs implements control.LogSource.
func (d *Daemon) Logs(ctx context.Context, req *controlv1.LogsRequest, send func(*controlv1.LogsResponse) error) error {
	lines := int(req.GetLines())
	if lines <= 0 {
		lines = maxLogLines
	}
	if req.GetLastCrash() {
		if _, known := d.find(req.GetHandler()); !known {
			return control.ErrNoHandler
		}
		if c, ok := d.fleet.Crash(req.GetHandler()); ok {
			return send(&controlv1.LogsResponse{Item: &controlv1.LogsResponse_Crash{Crash: crash(req.GetHandler(), c)}})
		}
		return nil
	}
	err := d.fleet.Logs(ctx, req.GetHandler(), lines, req.GetFollow(), func(r logpump.Record) error { return send(logItem(r)) })
	return noHandler(err)
}

func logItem(r logpump.Record) *controlv1.LogsResponse {
	if r.Crash != nil {
		return &controlv1.LogsResponse{Item: &controlv1.LogsResponse_Crash{Crash: crash(r.Handler, *r.Crash)}}
	}
	record := &controlv1.LogRecord{
		Time: timestamppb.New(r.Time), Handler: r.Handler, Pid: int32(r.PID), Level: r.Level.String(), Message: r.Message, Missed: r.Missed,
	}
	for _, a := range r.Attrs {
		record.Attributes = append(record.Attributes, &controlv1.LogAttribute{Key: a.Key, Value: a.Value})
	}
	return &controlv1.LogsResponse{Item: &controlv1.LogsResponse_Record{Record: record}}
}

func crash(handler string, c logpump.Crash) *controlv1.Crash {
	out := &controlv1.Crash{Time: timestamppb.New(c.Time), Handler: handler, Reason: c.Reason, Text: c.Text, Panic: c.Panic, Lines: c.Lines}
	if c.PID != 0 {
		pid := int32(c.PID)
		out.Pid = &pid
	}
	return out
}
