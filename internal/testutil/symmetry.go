package testutil

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
)

// The digests that every implementation of streams must come to with SymmetricPayloads, whatever it is written in.
const (
	DigestOfPayloads = "5 pieces 83968 bytes e6dbed690bf6a1e1"
	DigestOfEvents   = "13 pieces 416 bytes b241aa20b4bcf2d1"
)

// SymmetricPayloads are what both sides of a stream write to each other to be compared: nothing, zeros, ones, as much as one
// message holds, and what needs several; and events, each as Canonical has it.
func SymmetricPayloads() (pieces [][]byte, events []json.RawMessage) {
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

// DigestOf is how many pieces there are, of how many bytes, and the beginning of their SHA-256.
func DigestOf[T ~[]byte](pieces []T) string {
	sum, n := sha256.New(), 0
	for _, p := range pieces {
		sum.Write(p)
		n += len(p)
	}
	return fmt.Sprintf("%d pieces %d bytes %x", len(pieces), n, sum.Sum(nil)[:8])
}

// Canonical is a JSON value with its members in order and no space.
func Canonical(text json.RawMessage) (json.RawMessage, error) {
	var v any
	if err := json.Unmarshal(text, &v); err != nil {
		return nil, err
	}
	return json.Marshal(v)
}
