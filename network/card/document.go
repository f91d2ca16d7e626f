package card

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
)

// The document as a tree that keeps what encoding/json forgets: the order of members, duplicate keys, and where in the
// text each value stands. Problems are reported in that order.

type kind int

const (
	kindNull kind = iota
	kindBool
	kindNumber
	kindString
	kindArray
	kindObject
)

var kindNames = [...]string{"null", "a boolean", "a number", "a string", "an array", "an object"}

func (k kind) String() string { return kindNames[k] }

type node struct {
	kind    kind
	at      int64 // offset of the value in the document
	end     int64
	text    string // of a string
	number  float64
	truth   bool
	members []member // of an object
	items   []*node  // of an array
}

type member struct {
	key        string
	start, end int64 // of the key, with its quotes
	value      *node
}

// get returns the member's value or nil. The last of duplicate keys counts, as in encoding/json.
func (n *node) get(key string) *node {
	if n == nil {
		return nil
	}
	var found *node
	for _, m := range n.members {
		if m.key == key {
			found = m.value
		}
	}
	return found
}

// integer returns the value of a number without a fraction: 8 and 8.0.
func (n *node) integer() (int, bool) {
	if n == nil || n.kind != kindNumber || n.number != math.Trunc(n.number) || math.Abs(n.number) > math.MaxInt32 {
		return 0, false
	}
	return int(n.number), true
}

const (
	// maxCardBytes and maxDepth bound what a card may cost; real cards have a few kilobytes and ten levels.
	maxCardBytes = 1 << 20
	maxDepth     = 64
)

func parseDocument(doc []byte) (*node, error) {
	if len(doc) > maxCardBytes {
		return nil, fmt.Errorf("the document has %d bytes, a card may have %d", len(doc), maxCardBytes)
	}
	if len(bytes.TrimSpace(doc)) == 0 {
		return nil, errors.New("the document is empty")
	}
	var probe json.RawMessage // reports where the text is broken, which the token reader does not
	if err := json.Unmarshal(doc, &probe); err != nil {
		var syntax *json.SyntaxError
		if errors.As(err, &syntax) {
			line, column := position(doc, syntax.Offset)
			return nil, fmt.Errorf("the document is not JSON at line %d, column %d: %s", line, column, syntax)
		}
		return nil, fmt.Errorf("the document is not JSON: %w", err)
	}
	dec := json.NewDecoder(bytes.NewReader(doc))
	dec.UseNumber()
	r := reader{doc: doc, dec: dec}
	return r.value(0)
}

type reader struct {
	doc []byte
	dec *json.Decoder
}

// next returns the next token and the offset at which it starts.
func (r *reader) next() (json.Token, int64, error) {
	start := r.dec.InputOffset()
	for start < int64(len(r.doc)) && strings.IndexByte(" \t\r\n,:", r.doc[start]) >= 0 {
		start++
	}
	t, err := r.dec.Token()
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return t, start, err
}

func (r *reader) value(depth int) (*node, error) {
	if depth > maxDepth {
		return nil, fmt.Errorf("the document is nested deeper than %d levels", maxDepth)
	}
	t, start, err := r.next()
	if err != nil {
		return nil, fmt.Errorf("the document is not JSON: %w", err)
	}
	n := &node{at: start}
	switch v := t.(type) {
	case nil:
		n.kind = kindNull
	case bool:
		n.kind, n.truth = kindBool, v
	case json.Number:
		n.kind = kindNumber
		n.number, _ = strconv.ParseFloat(v.String(), 64) // out of range becomes infinite, which is not an integer
	case string:
		n.kind, n.text = kindString, v
	case json.Delim:
		n.kind = kindObject
		if v == '[' {
			n.kind = kindArray
		}
		for r.dec.More() {
			if err := r.element(n, depth); err != nil {
				return nil, err
			}
		}
		if _, _, err := r.next(); err != nil { // the closing bracket
			return nil, fmt.Errorf("the document is not JSON: %w", err)
		}
	}
	n.end = r.dec.InputOffset()
	return n, nil
}

func (r *reader) element(n *node, depth int) error {
	if n.kind == kindArray {
		item, err := r.value(depth + 1)
		n.items = append(n.items, item)
		return err
	}
	t, start, err := r.next()
	if err != nil {
		return fmt.Errorf("the document is not JSON: %w", err)
	}
	key, _ := t.(string)
	m := member{key: key, start: start, end: r.dec.InputOffset()}
	m.value, err = r.value(depth + 1)
	n.members = append(n.members, m)
	return err
}

// position returns the line and column, from 1, of the byte before offset.
func position(doc []byte, offset int64) (line, column int) {
	head := doc[:max(0, min(offset-1, int64(len(doc))))]
	return bytes.Count(head, []byte("\n")) + 1, len(head) - bytes.LastIndexByte(head, '\n')
}

// pointer appends one step to a JSON pointer (RFC 6901).
func pointer(base, key string) string {
	return base + "/" + strings.NewReplacer("~", "~0", "/", "~1").Replace(key)
}
