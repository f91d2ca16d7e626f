package client_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"testing"

	"github.com/blocksd/blocksd/client"
	"github.com/blocksd/blocksd/network/stream"
	"github.com/blocksd/blocksd/network/wire"
)

// TestPayloadsKeepTheirBoundaries: five payloads, an empty one and one in pieces among them, and thirteen events come back as
// they were written, and with the digests that implementations in other languages come to.
func TestPayloadsKeepTheirBoundaries(t *testing.T) {
	generated, state := make([]byte, 64<<10), uint32(0xbeef)
	for i := range generated {
		state = (state*1103515245 + 12345) & 0x7fffffff
		generated[i] = byte(state)
	}
	pieces := [][]byte{{}, make([]byte, 1024), bytes.Repeat([]byte{0xff}, 1024), bytes.Repeat([]byte{'B'}, 16384), generated}
	type object = map[string]any
	events := []any{
		object{"type": "primitive", "n": 42, "b": true, "s": "hello", "nullValue": nil},
		object{"type": "nested", "meta": object{"tags": []string{"a", "b", "c"}, "count": 7, "deep": object{"x": object{"y": "z"}}}},
		object{"type": "special", "text": "emoji \U0001f680 RTL \u05de\u05d1\u05d7\u05df"},
	}
	for i := range 10 {
		events = append(events, object{"type": "batch", "i": i})
	}

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
	const wantBytes = "5 pieces, 83968 bytes, e6dbed690bf6a1e1"
	if got := digest(chunks(t, down)); got != wantBytes {
		t.Errorf("bytes came back as %s, not %s", got, wantBytes)
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
	var got []string
	for e, err := range down.Events(within(t)) {
		if err != nil {
			t.Fatal(err)
		}
		var v any // encoded again, its members are in order
		if err := json.Unmarshal(e, &v); err != nil {
			t.Fatal(err)
		}
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, string(b))
	}
	const wantEvents = "13 pieces, 416 bytes, b241aa20b4bcf2d1"
	if got := digest(got); got != wantEvents {
		t.Errorf("events came back as %s, not %s", got, wantEvents)
	}
}

func digest(pieces []string) string {
	sum, n := sha256.New(), 0
	for _, p := range pieces {
		sum.Write([]byte(p))
		n += len(p)
	}
	return fmt.Sprintf("%d pieces, %d bytes, %x", len(pieces), n, sum.Sum(nil)[:8])
}
