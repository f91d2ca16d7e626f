package blocks

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/blocksd/blocksd/client"
	"github.com/blocksd/blocksd/internal/testutil"
)

// symmetry: both sides write the same payloads and events, and read them, all at the same time.
func (w *work) symmetry() ([]string, error) {
	_, s, err := w.send()
	if err != nil {
		return nil, err
	}
	defer s.Close()
	pieces, events := testutil.SymmetricPayloads()
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
			return "sent bytes: " + testutil.DigestOf(pieces), stream.End(w.ctx)
		},
		"c_to_p_events": func(stream *client.Stream) (string, error) {
			for _, e := range events {
				if err := stream.WriteEvent(w.ctx, e); err != nil {
					return "", err
				}
			}
			return "sent events: " + testutil.DigestOf(events), stream.End(w.ctx)
		},
		"p_to_c_bytes": func(stream *client.Stream) (string, error) {
			var got [][]byte
			for b, err := range stream.Bytes(w.ctx) {
				if err != nil {
					return "", err
				}
				got = append(got, bytes.Clone(b))
			}
			return "got bytes: " + testutil.DigestOf(got), nil
		},
		"p_to_c_events": func(stream *client.Stream) (string, error) {
			var got []json.RawMessage
			for e, err := range stream.Events(w.ctx) {
				if err == nil {
					e, err = testutil.Canonical(e)
				}
				if err != nil {
					return "", err
				}
				got = append(got, e)
			}
			return "got events: " + testutil.DigestOf(got), nil
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
