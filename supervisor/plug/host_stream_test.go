package plug

import (
	"bytes"
	"slices"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/blocksd/blocksd/dispatch"
)

// TestReadAnswersFit: whatever comes in one message of a stream, each answer to a handler fits into a message of gRPC.
func TestReadAnswersFit(t *testing.T) {
	for _, c := range []struct {
		what  string
		sizes []int
		lost  int64 // before the items
		ended bool
		// The answers: how many items each has, and how many messages are missing before them.
		items []int
		gaps  []int64
	}{
		{"nothing", nil, 0, false, []int{0}, []int64{0}},
		{"an end", nil, 0, true, []int{0}, []int64{0}},
		{"a gap", nil, 3, false, []int{0}, []int64{3}},
		{"small ones", []int{1, 0, 100}, 0, true, []int{3}, []int64{0}},
		{"up to the limit", []int{maxWriteBytes - 1, 1, 1}, 2, true, []int{2, 1}, []int64{2, 0}},
		{"large ones", []int{maxReadItem, maxReadItem, 0}, 0, true, []int{1, 1, 1}, []int64{0, 0, 0}},
		{"too large alone", []int{maxReadItem + 1}, 0, false, []int{0}, []int64{1}},
		{"too large among others", []int{1, maxReadItem + 1, 2, MaxMessage}, 1, true, []int{1, 1, 0}, []int64{1, 1, 1}},
	} {
		batch := dispatch.StreamBatch{Lost: c.lost}
		if c.ended {
			batch.End = &dispatch.StreamEnd{Reason: "ended"}
		}
		for _, n := range c.sizes {
			batch.Items = append(batch.Items, dispatch.StreamItem{Kind: dispatch.StreamBytes, Data: bytes.Repeat([]byte{0xff}, n)})
		}
		var items []int
		var gaps []int64
		for m := range readAnswers(batch) {
			if n := proto.Size(m); n > MaxMessage {
				t.Errorf("%s: an answer has %d bytes", c.what, n)
			}
			items, gaps = append(items, len(m.GetItems())), append(gaps, m.GetGap().GetMessages())
			if last := len(items) == len(c.items); (m.GetEnd() != nil) != (c.ended && last) {
				t.Errorf("%s: answer %d ends the stream, or does not", c.what, len(items))
			}
		}
		if !slices.Equal(items, c.items) || !slices.Equal(gaps, c.gaps) {
			t.Errorf("%s: answers with %v items after gaps of %v, want %v and %v", c.what, items, gaps, c.items, c.gaps)
		}
	}
}
