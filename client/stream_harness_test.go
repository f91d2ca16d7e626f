package client_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/blocksd/blocksd/client"
	"github.com/blocksd/blocksd/network/link"
	"github.com/blocksd/blocksd/network/stream"
	"github.com/blocksd/blocksd/network/wire"
)

// streamCard declares a stream of each kind.
var streamCard = strings.Replace(cardText, `"io":`, `"streams":{
"_default":{"direction":"outbound","format":"bytes"},"ticks":{"direction":"outbound","format":"events"},
"upload":{"direction":"inbound","format":"bytes"},"orders":{"direction":"inbound","format":"events"},
"chat":{"direction":"bidirectional","format":"bytes"},
"news":{"direction":"outbound","format":"bytes","affinity":"shared"}},"io":`, 1)

// open is a stream as the provider sees it.
type open struct {
	*stream.Writer
	reader *stream.Reader
}

// stream sets up a stream of the task and lets the provider's side of it run until the end of the test.
func (j *job) stream(declared string, n int) open {
	s := wire.StreamSetup{
		TaskID: j.start.Task.ID, OrgID: j.start.Task.OrgID, AgentName: j.start.Task.AgentName, StreamID: fmt.Sprintf("%s-%d", j.start.Task.ID, n),
		Direction: wire.Outbound, Format: wire.FormatBytes, Affinity: wire.Dedicated, TaskKind: j.start.Task.Kind, DurationMinutes: 60,
		Declared: declared, Phase: wire.PhaseEmbedded, Metadata: json.RawMessage(`{"n":1}`),
	}
	switch declared {
	case "ticks":
		s.Format = wire.FormatEvents
	case "upload":
		s.Direction = wire.Inbound
	case "orders":
		s.Direction, s.Format = wire.Inbound, wire.FormatEvents
	case "chat":
		s.Direction = wire.Bidirectional
	case "news":
		s.Affinity, s.StreamID = wire.Shared, "news"
	}
	body, err := s.Encode()
	if err != nil {
		j.t.Error(err)
		return open{}
	}
	// The consumer may hear of the stream, and end the test, before the answer is here.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(j.ctx), testTimeout)
	defer cancel()
	_, err = j.link.Publish(ctx, link.Message{Channel: wire.SetupChannel(s.OrgID, s.TaskID), Token: j.start.WriteToken, Body: body})
	status, ok := errors.AsType[*link.StatusError](err)
	if !ok {
		j.t.Errorf("set-up: %v", err)
		return open{}
	}
	grant, err := wire.DecodeSetupAnswer(status.Status, status.Body, s.Phase)
	if err != nil {
		j.t.Errorf("set-up of %s: %v", declared, err)
		return open{}
	}
	var ids stream.UserIDs
	e := stream.Endpoint{Link: j.link, Channel: grant.Channel, UserID: ids.Next("echo"), Token: func() string { return grant.Token }}
	var o open
	marker := wire.HasEndMarker(s.Direction, s.Affinity)
	if s.Direction.Writes() {
		o.Writer, err = stream.NewWriter(stream.WriterConfig{Endpoint: e, StreamID: s.StreamID, Format: s.Format, EndMarker: marker, FirstSeq: stream.FirstSeq(s.Format, s.Affinity == wire.Shared, time.Now())})
		if err != nil {
			j.t.Error(err)
		}
		j.running.Go(func() { _ = o.Run(j.ctx) })
	}
	if s.Direction.Reads() {
		o.reader, err = stream.NewReader(stream.ReaderConfig{Endpoint: e, Format: s.Format, EndMarker: marker, IgnoreOwn: s.Direction == wire.Bidirectional})
		if err != nil {
			j.t.Error(err)
		}
		j.running.Go(func() { _ = o.reader.Run(j.ctx) })
	}
	return o
}

func (j *job) check(err error) {
	if err != nil && j.ctx.Err() == nil {
		j.t.Errorf("provider: %v", err)
	}
}

func streaming(agent string) client.Message {
	return client.Message{Agent: agent, Parts: text("x"), Stream: client.StreamOn}
}

func piping(agent string) client.Message {
	m := streaming(agent)
	m.Duration = 10 * time.Minute
	return m
}

func (w *world) stream(s *client.Session, name string, o ...client.StreamOption) *client.Stream {
	w.t.Helper()
	ref, err := s.WaitStream(within(w.t), name)
	if err != nil {
		w.t.Fatal(err)
	}
	r, err := ref.Open(within(w.t), o...)
	if err != nil {
		w.t.Fatal(err)
	}
	return r
}

func chunks(t testing.TB, r *client.Stream) (all []string) {
	t.Helper()
	for b, err := range r.Bytes(within(t)) {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, string(b))
	}
	return all
}
