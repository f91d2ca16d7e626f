package client

import (
	"context"
	"sync"
	"time"

	"github.com/blocksd/blocksd/network/stream"
)

// Waits at the end of streams.
const (
	// endTimeout is how long what was written may take to be acknowledged when a stream or its session is closed.
	endTimeout = 3 * time.Second
	// A stream that nothing ends is over, once its task is, when so many looks in a row find it silent: two seconds of silence.
	quietLooks = 8
	// quietCheck is how often it is looked at.
	quietCheck = 250 * time.Millisecond
)

// silence counts the looks that have found nothing new. Looks and not time, because what comes while the machine stands still
// is read only afterwards, and then a look may come first.
type silence struct {
	heard stream.ReaderStats
	looks int
}

// looked reports whether the stream has been silent for long enough.
func (s *silence) looked(now stream.ReaderStats) bool {
	if s.looks++; now.Items != s.heard.Items || now.Waiting > 0 {
		s.heard, s.looks = now, 0
	}
	return s.looks >= quietLooks
}

// Close ends the stream on this side: what was written is sent, with the end marker if one is due, for three seconds at
// the most; what has arrived and was not read is lost. It may be called more than once.
func (r *Stream) Close() {
	r.endWriting()
	if r.reader != nil {
		r.reader.End(StreamClosed, "")
	}
	if r.writer != nil {
		r.writer.Close(ErrClosed)
	}
	r.cancel()
	r.running.Wait()
}

// endWriting ends what is written here, as far as the network lets it in time.
func (r *Stream) endWriting() {
	if r.writer == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), endTimeout)
	defer cancel()
	_ = r.writer.End(ctx) // Trouble says why it could not be
}

// drainStreams gives open streams time to bring what is under way. It is called once, when the terminal event has come,
// and returns at once.
func (s *Session) drainStreams() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	s.streams.leave = make(chan struct{})
	for _, r := range s.streams.open {
		s.drainLocked(r)
	}
}

// drainLocked gives one stream that time.
func (s *Session) drainLocked(r *Stream) {
	leave := s.streams.leave
	s.streams.draining.Go(func() { r.drain(leave, s.drain) }) // ends with the window, or closeStreams, which waits for it
}

// drain waits for the end of the stream, at most as long as the window.
func (r *Stream) drain(leave <-chan struct{}, window time.Duration) {
	var working sync.WaitGroup
	defer working.Wait()
	working.Go(func() { // nobody reads it any more, so it must not hold anything up
		r.endWriting()
		if r.writer != nil {
			r.writer.Close(ErrClosed)
		}
	})
	if r.reader == nil {
		return
	}
	silent := make(chan struct{})
	if !r.ref.hasEndMarker() { // elsewhere the end marker may still come
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		working.Go(func() {
			if r.awaitSilence(ctx) {
				close(silent)
			}
		})
	}
	over := time.NewTimer(window)
	defer over.Stop()
	select {
	case <-leave:
		return
	case <-r.reader.Arrived():
		return
	case <-over.C:
	case <-silent:
	}
	r.reader.End(StreamDrained, "")
}

// awaitSilence returns true when the stream has been silent for long enough. A look counts only if the network has answered
// something else since the one before: when it stands still, nothing can be heard of the stream.
func (r *Stream) awaitSilence(ctx context.Context) bool {
	look := time.NewTicker(quietCheck)
	defer look.Stop()
	for quiet := (silence{heard: r.reader.Stats()}); ; {
		select {
		case <-ctx.Done():
			return false
		case <-look.C:
		}
		if _, err := r.ref.session.link.Time(ctx); err == nil && quiet.looked(r.reader.Stats()) {
			return true
		}
	}
}

// closeStreams closes every open stream. It may be called more than once.
func (s *Session) closeStreams() {
	s.mu.Lock()
	open := append([]*Stream(nil), s.streams.open...)
	leave := s.streams.leave
	s.streams.leave = nil
	s.mu.Unlock()
	var closing sync.WaitGroup
	for _, r := range open {
		closing.Go(r.Close)
	}
	closing.Wait()
	if leave != nil {
		close(leave)
	}
	s.streams.draining.Wait()
}
