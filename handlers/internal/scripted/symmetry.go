package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/blocksd/blocksd/pluginsdk"
)

// payloads are those with which two sides of streams are compared, whatever they are written in: 83,968 bytes in five
// pieces, and thirteen events. Their digests are known.
func payloads() (pieces [][]byte, events []any) {
	generated, state := make([]byte, 64<<10), uint32(0xbeef)
	for i := range generated {
		state = (state*1103515245 + 12345) & 0x7fffffff
		generated[i] = byte(state)
	}
	pieces = [][]byte{{}, make([]byte, 1024), bytes.Repeat([]byte{0xff}, 1024), bytes.Repeat([]byte{'B'}, 16384), generated}
	type object = map[string]any
	events = []any{
		object{"type": "primitive", "n": 42, "b": true, "s": "hello", "nullValue": nil},
		object{"type": "nested", "meta": object{"tags": []string{"a", "b", "c"}, "count": 7, "deep": object{"x": object{"y": "z"}}}},
		object{"type": "special", "text": "emoji \U0001f680 RTL \u05de\u05d1\u05d7\u05df"},
	}
	for i := range 10 {
		events = append(events, object{"type": "batch", "i": i})
	}
	return pieces, events
}

func digestOf(pieces [][]byte) string {
	sum, n := sha256.New(), 0
	for _, p := range pieces {
		sum.Write(p)
		n += len(p)
	}
	return fmt.Sprintf("%d pieces %d bytes %.16x", len(pieces), n, sum.Sum(nil)[:8])
}

// canonical is a JSON value with its members in order and no space. The values here need no escaping.
func canonical(v any) ([]byte, error) {
	if text, ok := v.(json.RawMessage); ok {
		var decoded any
		if err := json.Unmarshal(text, &decoded); err != nil {
			return nil, err
		}
		v = decoded
	}
	return json.Marshal(v)
}

// symmetry writes the payloads to two streams and reads two others, all at the same time, and adds the digests.
func (w *work) symmetry(bool) error {
	var mu sync.Mutex
	var said []string
	var all sync.WaitGroup
	errs := make(chan error, 4)
	both := func(name string, direction pluginsdk.Direction, format pluginsdk.Format, do func(*pluginsdk.Stream) ([][]byte, error), what string) error {
		s, err := w.CreateStream(w.ctx, pluginsdk.StreamOptions{Declared: name, Direction: direction, Format: format})
		if err != nil {
			return err
		}
		all.Go(func() {
			pieces, err := do(s)
			if err != nil {
				errs <- fmt.Errorf("%s: %w", name, err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			said = append(said, what+": "+digestOf(pieces))
		})
		return nil
	}
	pieces, events := payloads()
	for _, err := range []error{
		both("p_to_c_bytes", pluginsdk.Outbound, pluginsdk.BytesFormat, func(s *pluginsdk.Stream) ([][]byte, error) {
			for _, p := range pieces {
				if _, err := s.Write(p); err != nil {
					return nil, err
				}
			}
			return pieces, s.End(w.ctx)
		}, "sent bytes"),
		both("p_to_c_events", pluginsdk.Outbound, pluginsdk.EventsFormat, func(s *pluginsdk.Stream) (sent [][]byte, err error) {
			for _, e := range events {
				b, err := canonical(e)
				if err == nil {
					err = s.WriteEvent(e)
				}
				if err != nil {
					return nil, err
				}
				sent = append(sent, b)
			}
			return sent, s.End(w.ctx)
		}, "sent events"),
		both("c_to_p_bytes", pluginsdk.Inbound, pluginsdk.BytesFormat, func(s *pluginsdk.Stream) (got [][]byte, err error) {
			for b, err := range s.Bytes() {
				if err != nil {
					return nil, err
				}
				got = append(got, bytes.Clone(b))
			}
			return got, nil
		}, "got bytes"),
		both("c_to_p_events", pluginsdk.Inbound, pluginsdk.EventsFormat, func(s *pluginsdk.Stream) (got [][]byte, err error) {
			for e, err := range s.Events() {
				if err != nil {
					return nil, err
				}
				b, err := canonical(e)
				if err != nil {
					return nil, err
				}
				got = append(got, b)
			}
			return got, nil
		}, "got events"),
	} {
		if err != nil {
			return err
		}
	}
	all.Wait()
	select {
	case err := <-errs:
		return err
	default:
	}
	slices.Sort(said)
	return w.text(strings.Join(said, "\n"))
}
