package agent

import (
	"context"
	"sync"

	"github.com/blocksd/blocksd/network/link"
	"github.com/blocksd/blocksd/network/wire"
	"github.com/blocksd/blocksd/runtime/journal"
)

// A stream whose end is marked is noted in the journal before it can be written: after a crash nobody else could tell its
// readers that it is over. The note does not say how far the stream was written. The mark is numbered like the first message,
// which for a reader that has got everything before means that the stream is over now.

// maxNotedStreams of a task are noted, so that a task with many does not fill the journal.
const maxNotedStreams = 64

// noteStream notes a stream that a task is about to get, and returns when that is durable, or cannot be.
func (t *streamTable) noteStream(ctx context.Context, h *streamHandle, open *openStream) {
	j := h.job
	if j.entry == nil || !open.spec.Marked() {
		return
	}
	noted := make(chan struct{})
	t.mu.Lock()
	h.made = open
	over := j.streamsOver
	if !over {
		t.noteStreamsLocked(j, func(error) { close(noted) })
	}
	t.mu.Unlock()
	if over {
		return
	}
	select {
	case <-noted:
	case <-ctx.Done():
	}
}

// noteStreamsLocked notes the streams that the task has now, or is about to get.
func (t *streamTable) noteStreamsLocked(j *job, durable func(error)) {
	if j.entry == nil {
		return
	}
	noted := j.agent.entryOf(j.session, j.task.ID, j.order.received)
	noted.Accepted = j.since
	for _, id := range t.registry.Of(j.task.ID) {
		h := t.handles[handleKey{id, j.task.ID}]
		if h == nil || h.made == nil {
			continue
		}
		if len(noted.Streams) == maxNotedStreams {
			break
		}
		noted.Streams = append(noted.Streams, h.made.noted())
	}
	j.entry.Update(noted, durable)
}

func (o *openStream) noted() journal.Stream {
	return journal.Stream{ID: o.id, Channel: o.channel, Format: o.spec.Format, UserID: o.userID, Token: *o.token.Load()}
}

// endLostStreams marks the end of the streams that were open when the agent ended without being asked to. Readers of
// other people's programs see an end, ours also why. It takes no longer than a set-up.
func (a *Agent) endLostStreams(ctx context.Context, s *session, task journal.Task) {
	ctx, cancel := context.WithTimeout(ctx, a.cfg.Timeouts.StreamSetup)
	defer cancel()
	var all sync.WaitGroup
	for _, stream := range task.Streams {
		if wire.CheckStreamID(stream.ID) != nil || !stream.Format.Valid() {
			continue // another version of this program wrote it
		}
		all.Go(func() {
			first := stream.Format.FirstSeq()
			head := wire.StreamHead{StreamID: stream.ID, Format: stream.Format, FirstSeq: first}
			_, err := s.link.Publish(ctx, link.Message{
				Channel: stream.Channel, Token: stream.Token, UserID: stream.UserID, Meta: wire.StreamMeta(stream.UserID),
				Body: head.AppendEnd(nil, wire.StreamStamp{Seq: first, Unacked: first, TS: a.cfg.Now().UnixMilli()}, lostText),
			})
			if err != nil {
				a.log.Info("a stream from before the restart could not be ended for its readers", "stream", stream.ID, "err", err)
			}
		})
	}
	all.Wait()
}
