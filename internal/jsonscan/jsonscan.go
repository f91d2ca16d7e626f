// Package jsonscan finds the parts of a JSON text without decoding them. It accepts exactly what encoding/json accepts.
// Messages of streams are large texts in small envelopes, which encoding/json goes over six times
// at a tenth of the speed.
package jsonscan

import (
	"bytes"
	"unicode/utf8"
)

// maxDepth is how deeply values may be nested, as in encoding/json.
const maxDepth = 10000

// Value is one JSON value that was checked, without white space around it. It shares the memory of the text.
type Value []byte

// Check returns the one value that b is.
func Check(b []byte) (v Value, ok bool) {
	from := space(b, 0)
	end, ok := skip(b, from, 0)
	if !ok || space(b, end) != len(b) {
		return nil, false
	}
	return Value(b[from:end:end]), true
}

// IsObject reports whether it is an object.
func (v Value) IsObject() bool { return len(v) > 0 && v[0] == '{' }

// IsArray reports whether it is an array.
func (v Value) IsArray() bool { return len(v) > 0 && v[0] == '[' }

// IsText reports whether it is a string.
func (v Value) IsText() bool { return len(v) > 0 && v[0] == '"' }

// IsNull reports whether it is null, or absent.
func (v Value) IsNull() bool { return len(v) == 0 || v[0] == 'n' }

// Members yields the members of an object in order: the name as it stands between the quotes, escapes and all, and the
// value. Of any other value there are none.
func (v Value) Members(yield func(name []byte, value Value) bool) {
	if !v.IsObject() {
		return
	}
	for i := space(v, 1); v[i] != '}'; {
		end := pass(v, i)
		name := v[i+1 : end-1]
		i = space(v, space(v, end)+1) // behind the colon
		end = pass(v, i)
		if !yield(name, v[i:end:end]) {
			return
		}
		if i = space(v, end); v[i] == ',' {
			i = space(v, i+1)
		}
	}
}

// Elements yields the elements of an array in order. Of any other value there are none.
func (v Value) Elements(yield func(value Value) bool) {
	if !v.IsArray() {
		return
	}
	for i := space(v, 1); v[i] != ']'; {
		end := pass(v, i)
		if !yield(v[i:end:end]) {
			return
		}
		if i = space(v, end); v[i] == ',' {
			i = space(v, i+1)
		}
	}
}

// Plain returns a string's contents where they stand in the text as they are: no escapes, valid UTF-8. ok is false for
// every other value, which encoding/json can decode.
func (v Value) Plain() (text []byte, ok bool) {
	if !v.IsText() || bytes.IndexByte(v, '\\') >= 0 || !utf8.Valid(v) {
		return nil, false
	}
	return v[1 : len(v)-1], true
}

// pass returns where the value at v[i] ends. All of v was checked.
func pass(v []byte, i int) int {
	switch v[i] {
	case '"':
		return passString(v, i)
	case '{', '[':
		for depth := 0; ; {
			switch v[i] {
			case '"':
				i = passString(v, i)
				continue
			case '{', '[':
				depth++
			case '}', ']':
				if depth--; depth == 0 {
					return i + 1
				}
			}
			i++
		}
	}
	for i < len(v) && v[i] != ',' && v[i] != '}' && v[i] != ']' && v[i] > ' ' {
		i++
	}
	return i
}

func passString(v []byte, i int) int {
	for from := i + 1; ; {
		quote := from + bytes.IndexByte(v[from:], '"')
		slashes := 0
		for v[quote-1-slashes] == '\\' {
			slashes++
		}
		if slashes%2 == 0 {
			return quote + 1
		}
		from = quote + 1
	}
}

// space returns where the white space that begins at b[i] ends.
func space(b []byte, i int) int {
	for i < len(b) && (b[i] == ' ' || b[i] == '\n' || b[i] == '\t' || b[i] == '\r') {
		i++
	}
	return i
}

func skip(b []byte, i, depth int) (end int, ok bool) {
	if i >= len(b) {
		return i, false
	}
	switch c := b[i]; {
	case c == '"':
		return skipString(b, i)
	case c == '{', c == '[':
		return skipNested(b, i, depth+1)
	case c == '-', '0' <= c && c <= '9':
		return skipNumber(b, i)
	case c == 't':
		return skipWord(b, i, "true")
	case c == 'f':
		return skipWord(b, i, "false")
	case c == 'n':
		return skipWord(b, i, "null")
	}
	return i, false
}

func skipNested(b []byte, i, depth int) (end int, ok bool) {
	if depth > maxDepth {
		return i, false
	}
	object := b[i] == '{'
	stop := byte(']')
	if object {
		stop = '}'
	}
	if i = space(b, i+1); i < len(b) && b[i] == stop {
		return i + 1, true
	}
	for {
		if object {
			if i >= len(b) || b[i] != '"' {
				return i, false
			}
			if i, ok = skipString(b, i); !ok {
				return i, false
			}
			if i = space(b, i); i >= len(b) || b[i] != ':' {
				return i, false
			}
			i = space(b, i+1)
		}
		if i, ok = skip(b, i, depth); !ok {
			return i, false
		}
		if i = space(b, i); i >= len(b) {
			return i, false
		}
		switch b[i] {
		case stop:
			return i + 1, true
		case ',':
			i = space(b, i+1)
		default:
			return i, false
		}
	}
}

func skipWord(b []byte, i int, word string) (end int, ok bool) {
	if len(b)-i < len(word) || string(b[i:i+len(word)]) != word {
		return i, false
	}
	return i + len(word), true
}

func skipNumber(b []byte, i int) (end int, ok bool) {
	if b[i] == '-' {
		i++
	}
	digits := func() bool {
		from := i
		for i < len(b) && '0' <= b[i] && b[i] <= '9' {
			i++
		}
		return i > from
	}
	switch {
	case i < len(b) && b[i] == '0':
		i++
	case !digits():
		return i, false
	}
	if i < len(b) && b[i] == '.' {
		if i++; !digits() {
			return i, false
		}
	}
	if i < len(b) && (b[i] == 'e' || b[i] == 'E') {
		if i++; i < len(b) && (b[i] == '+' || b[i] == '-') {
			i++
		}
		if !digits() {
			return i, false
		}
	}
	return i, true
}

// skipString skips a string that begins at b[i], which is a quote.
func skipString(b []byte, i int) (end int, ok bool) {
	i++
	quote := i - 1
	for {
		if quote < i {
			n := bytes.IndexByte(b[i:], '"')
			if n < 0 {
				return i, false
			}
			quote = i + n
		}
		// Up to the quote: escapes, of which one may be the quote's, and control characters, which must be escaped.
		if i += plain(b[i:quote]); i == quote {
			return i + 1, true
		}
		if b[i] != '\\' || i+1 >= len(b) {
			return i, false
		}
		switch b[i+1] {
		case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
			i += 2
		case 'u':
			if len(b)-i < 6 {
				return i, false
			}
			for _, c := range b[i+2 : i+6] {
				if !('0' <= c && c <= '9' || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F') {
					return i, false
				}
			}
			i += 6
		default:
			return i, false
		}
	}
}

// plain returns how many bytes at the beginning of a text stand for themselves in a string.
func plain(b []byte) int {
	i := 0
	// Eight at a time: the highest bit of each byte of x is set where a byte is below 0x20 or a backslash, and perhaps in
	// bytes behind such a one.
	for ; i+8 <= len(b); i += 8 {
		v := uint64(b[i]) | uint64(b[i+1])<<8 | uint64(b[i+2])<<16 | uint64(b[i+3])<<24 |
			uint64(b[i+4])<<32 | uint64(b[i+5])<<40 | uint64(b[i+6])<<48 | uint64(b[i+7])<<56
		slash := v ^ '\\'*ones
		if ((v-0x20*ones)&^v|(slash-ones)&^slash)&(0x80*ones) != 0 {
			break
		}
	}
	for ; i < len(b); i++ {
		if b[i] < 0x20 || b[i] == '\\' {
			return i
		}
	}
	return i
}

const ones = 0x0101010101010101
