package client

import (
	"testing"

	"github.com/blocksd/blocksd/network/stream"
)

// A stream is silent when looks say so, one after the other: what came while the machine stood still is there at the second
// look after that, however late the first one is.
func TestSilenceIsCountedInLooks(t *testing.T) {
	var s silence
	for _, step := range []struct {
		now    stream.ReaderStats
		looks  int
		silent bool
	}{
		{stream.ReaderStats{Items: 1}, 1, false},
		{stream.ReaderStats{Items: 1}, quietLooks - 1, false},
		{stream.ReaderStats{Items: 2}, 1, false},
		{stream.ReaderStats{Items: 2, Waiting: 5}, 2 * quietLooks, false}, // somebody has to read it
		{stream.ReaderStats{Items: 2}, quietLooks - 1, false},
		{stream.ReaderStats{Items: 2}, 1, true},
	} {
		silent := false
		for range step.looks {
			silent = s.looked(step.now)
		}
		if silent != step.silent {
			t.Errorf("after %d looks at %+v it is silent: %v", step.looks, step.now, silent)
		}
	}
}
