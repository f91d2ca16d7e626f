package plug

import (
	"net"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"
)

// frame is a frame with a payload of so many bytes.
func frame(kind, flags byte, call uint32, payload int) []byte {
	head := []byte{byte(payload >> 16), byte(payload >> 8), byte(payload), kind, flags, byte(call >> 24), byte(call >> 16), byte(call >> 8), byte(call)}
	return append(head, make([]byte, payload)...)
}

// Frames are found however the bytes come.
func TestFramesInAnyPieces(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		type seen struct {
			kind, flags byte
			call        uint32
		}
		var want, got []seen
		var all []byte
		for range rapid.IntRange(0, 10).Draw(t, "frames") {
			s := seen{rapid.Byte().Draw(t, "kind"), rapid.Byte().Draw(t, "flags"), rapid.Uint32Range(0, 1<<31-1).Draw(t, "call")}
			want = append(want, s)
			all = append(all, frame(s.kind, s.flags, s.call, rapid.IntRange(0, 300).Draw(t, "payload"))...)
		}
		var f frames
		for len(all) > 0 {
			n := min(rapid.IntRange(1, 400).Draw(t, "piece"), len(all))
			f.feed(all[:n], func(kind, flags byte, call uint32) { got = append(got, seen{kind, flags, call}) }, nil)
			all = all[n:]
		}
		if !slices.Equal(want, got) {
			t.Fatalf("want %v, got %v", want, got)
		}
	})
}

// FuzzFrames: whatever a handler sends, counting neither panics nor goes wrong.
func FuzzFrames(f *testing.F) {
	f.Add(slices.Concat(make([]byte, http2Preface), frame(frameCall, 4, 1, 9), frame(frameReset, 0, 1, 4)), frame(frameCall, flagEnd, 1, 3))
	f.Add(slices.Concat(make([]byte, http2Preface), frame(frameCall, 4, 1, 1<<16)[:100]), []byte{0})
	window := frame(frameWindow, 0, 1, 4)
	window[frameHeader+1] = 0xff
	f.Add(slices.Concat(make([]byte, http2Preface), frame(frameCall, 4, 1, 1), []byte{0, 0, 6, frameData, flagPadded, 0, 0, 0, 1, 0, 0, 0, 9, 9, 9}), window)
	f.Add([]byte{0, 0, 6, frameData, 0, 0, 0, 0, 1, 0, 0, 9, 9, 9, 0}, slices.Concat(make([]byte, http2Preface), frame(frameCall, 4, 1, 1), window))
	f.Fuzz(func(t *testing.T, in, out []byte) {
		q := newTurns(maxLarge)
		var all atomic.Int64
		served, calling := newWireCalls(&all, q), newWireCalling(q)
		for _, w := range []*wireCalls{served, calling} {
			for range 2 { // what is said once may begin a call, and again be about it
				w.received(in)
				if n, err := w.write(&written{}, out); n != len(out) || err != nil {
					t.Error(n, err)
				}
			}
			if n := w.all.Load(); n < 0 || n != int64(len(w.open)) {
				t.Errorf("%d calls, and %d are open", n, len(w.open))
			}
			w.close()
			if n := w.all.Load(); n != 0 {
				t.Errorf("%d calls of a closed connection", n)
			}
		}
		q.close()
		if free, waiting := q.state(); free != maxLarge || waiting != 0 {
			t.Errorf("%d free and %d waiting when all is closed", free, waiting)
		}
	})
}

// closing is a connection that says when it is closed.
type closing struct {
	net.Conn
	closed bool
}

func (c *closing) Close() error { c.closed = true; return nil }

// A connection is closed for calls that stay unread, and not for many that just end at once, or that are served for long.
func TestUnreadCallsCloseTheConnection(t *testing.T) {
	for _, tt := range []struct {
		name                  string
		begun, returned, over int
		want                  bool
	}{
		{"unread", maxUnread + 1, maxUnread + 1, 0, true},
		{"a few unread", maxUnread, maxUnread, 0, false},
		{"read in time", 1000, 1000, 1000, false},
		{"long ones", 1000, 1, 1, false},
		{"long ones beside unread ones", 1000, maxUnread + 1, 0, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var all atomic.Int64
				w, conn := newWireCalls(&all, newTurns(maxLarge)), &closing{}
				w.received(make([]byte, http2Preface))
				var done []func()
				for i := range tt.begun {
					w.received(frame(frameCall, 4, uint32(2*i+1), 7))
					done = append(done, w.serve(conn))
				}
				for _, f := range done[:tt.returned] {
					f()
				}
				time.Sleep(unreadTime / 2)
				for i := range tt.over {
					w.sent(frame(frameCall, flagEnd, uint32(2*i+1), 7))
				}
				time.Sleep(2 * unreadTime)
				synctest.Wait()
				if conn.closed != tt.want {
					t.Errorf("closed: %v", conn.closed)
				}
				w.close()
				if n := all.Load(); n != 0 {
					t.Errorf("%d calls are left", n)
				}
			})
		})
	}
}
