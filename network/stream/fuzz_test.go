package stream

import (
	"bytes"
	"strconv"
	"testing"
	"time"

	"github.com/blocksd/blocksd/network/wire"
)

// FuzzReader: whatever arrives, the reader yields each number of a sender's life at most once, in order, keeps bounded
// memory, and ends when it is told to.
func FuzzReader(f *testing.F) {
	f.Add([]byte(`{"type":"stream_data","seq":1,"ts":5,"chunks":["a"]}
{"type":"stream_data","seq":0,"ts":4,"chunks":["b"]}
{"type":"stream_data","seq":0,"ts":9,"chunks":["c"]}
{"type":"stream_end","seq":3}`))
	f.Add([]byte(`{"type":"stream_data","seq":0,"multipart":{"id":"m","part":2,"total":2},"data":"IngiXX0="}
{"type":"stream_data","seq":0,"multipart":{"id":"m","part":1,"total":2},"data":"eyJ0eXBlIjoic3RyZWFtX2RhdGEiLCJzZXEiOjAsImNodW5rcyI6Ww=="}
{"type":"x","seq":9007199254740991}
{"type":"stream_data","seq":7,"firstSeq":7,"unacked":3,"chunks":["z"]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		s := newLanes(wire.FormatBytes, true, 0)
		now := epoch
		var next int64
		check := func(actions []lanesAction) {
			for _, a := range actions {
				d, ok := a.(deliver)
				if !ok {
					continue
				}
				from, to := d.d.Seq, d.d.Seq
				if d.d.Gap != nil {
					from, to = d.d.Gap.From, d.d.Gap.To
				}
				if to < from {
					t.Fatalf("gap %+v", *d.d.Gap)
				}
				// A sender that begins anew begins at some other number.
				if from != next && from != s.bySender["w"].first && from != s.format.FirstSeq() && next != 0 {
					t.Fatalf("%d follows %d", from, next-1)
				}
				next = to + 1
			}
		}
		for i, line := range bytes.Split(b, []byte("\n")) {
			now = now.Add(time.Duration(i%7) * 100 * time.Millisecond)
			m, err := wire.DecodeStreamMessage(line)
			if err != nil {
				continue
			}
			check(s.Step(arrived{"w", strconv.Itoa(1000 + i), m}, now))
			if len(s.groups.byKey) > maxGroups || s.groups.bytes < 0 {
				t.Fatalf("%d groups of %d bytes", len(s.groups.byKey), s.groups.bytes)
			}
			if l := s.bySender["w"]; l != nil && (len(l.held) > maxHeld || l.bytes < 0) {
				t.Fatalf("%d messages of %d bytes are held", len(l.held), l.bytes)
			}
		}
		check(s.Step(closing{}, now))
		if !s.ended {
			t.Fatal("it does not end")
		}
	})
}
