package client_test

import (
	"encoding/json"
	"testing"

	"github.com/blocksd/blocksd/client"
	"github.com/blocksd/blocksd/internal/testutil"
	"github.com/blocksd/blocksd/network/stream"
	"github.com/blocksd/blocksd/network/wire"
)

// TestPayloadsKeepTheirBoundaries: five payloads, an empty one and one in pieces among them, and thirteen events come back as
// they were written, and with the digests that implementations in other languages come to.
func TestPayloadsKeepTheirBoundaries(t *testing.T) {
	pieces, events := testutil.SymmetricPayloads()
	w := newWorld(t)
	w.provideCard(streamCard, "echo", client.Free, func(j *job) {
		for n, names := range [][2]string{{"upload", "_default"}, {"orders", "ticks"}} {
			in, out := j.stream(names[0], 2*n+1), j.stream(names[1], 2*n+2)
			for {
				d, err := in.reader.Next(j.ctx)
				if err != nil {
					break
				}
				for _, i := range d.Items {
					item := stream.Bytes(i.Data)
					if i.Event != nil {
						item = stream.Event(i.Event)
					}
					j.check(out.Write(j.ctx, item))
				}
			}
			j.check(out.End(j.ctx))
		}
		j.end(wire.Completed)
	})
	s := w.send(w.client(), piping("echo"))
	up, down := w.stream(s, "upload"), w.stream(s, "_default")
	for _, p := range pieces {
		if err := up.Write(within(t), p); err != nil {
			t.Fatal(err)
		}
	}
	if err := up.End(within(t)); err != nil {
		t.Fatal(err)
	}
	var back [][]byte
	for _, c := range chunks(t, down) {
		back = append(back, []byte(c))
	}
	if got := testutil.DigestOf(back); got != testutil.DigestOfPayloads {
		t.Errorf("bytes came back as %s, not %s", got, testutil.DigestOfPayloads)
	}

	up, down = w.stream(s, "orders"), w.stream(s, "ticks")
	for _, e := range events {
		if err := up.WriteEvent(within(t), e); err != nil {
			t.Fatal(err)
		}
	}
	if err := up.End(within(t)); err != nil {
		t.Fatal(err)
	}
	var got []json.RawMessage
	for e, err := range down.Events(within(t)) {
		if err == nil {
			e, err = testutil.Canonical(e)
		}
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, e)
	}
	if got := testutil.DigestOf(got); got != testutil.DigestOfEvents {
		t.Errorf("events came back as %s, not %s", got, testutil.DigestOfEvents)
	}
}
