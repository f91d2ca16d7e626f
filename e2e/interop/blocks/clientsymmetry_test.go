package blocks

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/blocksd/blocksd/client"
)

// The digests that every direction must come to, whatever the two sides are written in.
const (
	digestOfPayloads = "5 pieces 83968 bytes e6dbed690bf6a1e1"
	digestOfEvents   = "13 pieces 416 bytes b241aa20b4bcf2d1"
)

// payloads are those of symmetry.py.
func payloads() (pieces [][]byte, events []json.RawMessage) {
	generated, state := make([]byte, 64<<10), uint32(0xbeef)
	for i := range generated {
		state = (state*1103515245 + 12345) & 0x7fffffff
		generated[i] = byte(state)
	}
	pieces = [][]byte{{}, make([]byte, 1024), bytes.Repeat([]byte{0xff}, 1024), bytes.Repeat([]byte{'B'}, 16384), generated}
	for _, text := range []string{
		`{"b":true,"n":42,"nullValue":null,"s":"hello","type":"primitive"}`,
		`{"meta":{"count":7,"deep":{"x":{"y":"z"}},"tags":["a","b","c"]},"type":"nested"}`,
		"{\"text\":\"emoji \U0001f680 RTL \u05de\u05d1\u05d7\u05df\",\"type\":\"special\"}",
	} {
		events = append(events, json.RawMessage(text))
	}
	for i := range 10 {
		events = append(events, json.RawMessage(fmt.Sprintf(`{"i":%d,"type":"batch"}`, i)))
	}
	return pieces, events
}

func digestOf[T ~[]byte](pieces []T) string {
	sum, n := sha256.New(), 0
	for _, p := range pieces {
		sum.Write(p)
		n += len(p)
	}
	return fmt.Sprintf("%d pieces %d bytes %x", len(pieces), n, sum.Sum(nil)[:8])
}

// canonical is a JSON value with its members in order and no space.
func canonical(text json.RawMessage) (json.RawMessage, error) {
	var v any
	if err := json.Unmarshal(text, &v); err != nil {
		return nil, err
	}
	return json.Marshal(v)
}

// symmetry: both sides write the same payloads and events, and read them, all at the same time.
func (w *work) symmetry() ([]string, error) {
	_, s, err := w.send()
	if err != nil {
		return nil, err
	}
	defer s.Close()
	pieces, events := payloads()
	var (
		all  sync.WaitGroup
		mu   sync.Mutex
		said []string
		errs []error
	)
	for name, do := range map[string]func(*client.Stream) (string, error){
		"c_to_p_bytes": func(stream *client.Stream) (string, error) {
			for _, p := range pieces {
				if err := stream.Write(w.ctx, p); err != nil {
					return "", err
				}
			}
			return "sent bytes: " + digestOf(pieces), stream.End(w.ctx)
		},
		"c_to_p_events": func(stream *client.Stream) (string, error) {
			for _, e := range events {
				if err := stream.WriteEvent(w.ctx, e); err != nil {
					return "", err
				}
			}
			return "sent events: " + digestOf(events), stream.End(w.ctx)
		},
		"p_to_c_bytes": func(stream *client.Stream) (string, error) {
			var got [][]byte
			for b, err := range stream.Bytes(w.ctx) {
				if err != nil {
					return "", err
				}
				got = append(got, bytes.Clone(b))
			}
			return "got bytes: " + digestOf(got), nil
		},
		"p_to_c_events": func(stream *client.Stream) (string, error) {
			var got []json.RawMessage
			for e, err := range stream.Events(w.ctx) {
				if err == nil {
					e, err = canonical(e)
				}
				if err != nil {
					return "", err
				}
				got = append(got, e)
			}
			return "got events: " + digestOf(got), nil
		},
	} {
		all.Go(func() {
			_, stream, err := w.open(s, name)
			var line string
			if err == nil {
				line, err = do(stream)
			}
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				errs = append(errs, fmt.Errorf("%s: %w", name, err))
			}
			said = append(said, line)
		})
	}
	all.Wait()
	if len(errs) > 0 {
		return nil, errs[0]
	}
	slices.Sort(said)
	if _, err := w.follow(s, "artifact"); err != nil {
		return nil, err
	}
	told, err := s.Download(w.ctx, s.Artifacts()[0])
	if err != nil {
		return nil, err
	}
	ends, err := w.end(s, nil)
	return slices.Concat(said, strings.Split(string(told.Data), "\n"), ends), err
}
