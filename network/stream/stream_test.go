package stream_test

import (
	"testing"

	"github.com/blocksd/blocksd/network/stream"
)

func TestWriteAndRead(t *testing.T) {
	w := newWorld(t, false)
	r := w.reader()
	sw := w.writer()
	for _, s := range []string{"hello ", "", "world"} {
		must(t, sw.Write(within(t), stream.Text(s)))
	}
	must(t, sw.Write(within(t), stream.Bytes([]byte{0xff, 0})))
	must(t, sw.End(within(t)))
	g := all(t, r)
	if got := string(g.bytes()); got != "hello world\xff\x00" || len(g.items) != 4 || len(g.gaps) != 0 || g.end.Reason != stream.Ended {
		t.Errorf("%q, %+v", got, g)
	}
}
