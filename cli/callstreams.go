package cli

import (
	"context"
	"fmt"
	"sync"

	"github.com/blocksd/blocksd/client"
	"github.com/blocksd/blocksd/network/wire"
)

// streamView shows the streams of one task.
type streamView struct {
	options watchOptions
	session *client.Session
	out     *callPrinter
	opened  map[string]openedStream // by id

	mu    sync.Mutex // guards what follows
	names map[string]int
}

// openedStream is a stream of which nothing has been printed yet.
type openedStream struct {
	ref    *client.StreamRef
	stream *client.Stream // nil if it could not be opened
}

func newStreamView(o watchOptions, s *client.Session, out *callPrinter) *streamView {
	return &streamView{options: o, session: s, out: out, opened: map[string]openedStream{}, names: map[string]int{}}
}

// unavailable is the reason of a stream that was not opened before its task ended. The others are those of the client.
const unavailable = "unavailable"

// follow begins to show the streams that an event announces, which has been printed. Streams that are announced later, as
// far as the session knows already, are opened now: printing may take longer than the task.
func (v *streamView) follow(ctx context.Context, e client.Event, viewers *sync.WaitGroup) {
	for _, ref := range v.session.Streams() {
		if _, known := v.opened[ref.ID()]; known || ref.Direction() == client.Outbound {
			continue
		}
		stream, err := ref.Open(ctx)
		if err != nil {
			stream = nil
		}
		v.opened[ref.ID()] = openedStream{ref, stream}
	}
	if e.Type != client.EventProgress {
		return
	}
	announced, _, _ := wire.DecodeStreamStarted(e.Raw)
	for _, a := range announced {
		o := v.opened[a.ID]
		v.opened[a.ID] = openedStream{} // it may be announced again
		switch {
		case o.ref == nil:
		case o.stream != nil:
			viewers.Go(func() { v.show(ctx, o.ref, o.stream) })
		case ctx.Err() == nil:
			v.closed(o.ref, unavailable, 0, nil)
		}
	}
}

// show prints a stream to its end, or as far as it can be written.
func (v *streamView) show(ctx context.Context, ref *client.StreamRef, stream *client.Stream) {
	sink, err := v.sink(ref)
	if err != nil {
		v.out.giveUp(err)
		return
	}
	reason := client.StreamClosed // by whoever ends ctx
	var trouble error
	for item, err := range stream.Items(ctx) {
		if err != nil {
			trouble = err
			break
		}
		if err := sink.write(item); err != nil {
			v.out.giveUp(err)
			_ = sink.close() // the first error says more
			return
		}
	}
	if err := sink.close(); err != nil {
		v.out.giveUp(err)
		return
	}
	if ctx.Err() == nil {
		reason = stream.EndReason()
	} else {
		trouble = nil
	}
	v.closed(ref, string(reason), stream.Gaps(), trouble)
}

// closed says that a stream is over.
func (v *streamView) closed(ref *client.StreamRef, reason string, gaps int64, why error) {
	if v.out.asJSON {
		_ = v.out.line(struct { // the printer has given up if it fails
			Type     string `json:"type"`
			Stream   string `json:"stream"`
			StreamID string `json:"streamId"`
			Reason   string `json:"reason"`
			Gaps     int64  `json:"gaps"`
		}{"stream_closed", ref.Name(), ref.ID(), reason, gaps})
		return
	}
	text := fmt.Sprintf("stream %s %s", ref.Name(), reason)
	if gaps > 0 {
		text += ", with " + counted(gaps, "gap")
	}
	if why != nil {
		text += ": " + why.Error()
	}
	v.out.say("%s", text)
}
