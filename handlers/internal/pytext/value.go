// Package pytext reads JSON and writes texts as Python's json module and str() do. The network's reference handlers are
// Python programs, and consumers compare outputs byte for byte: member order, number forms, escapes.
package pytext

import (
	"errors"
	"fmt"
	"math"
	"math/big"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// Value is what Python's json.loads makes of a document: nil, bool, string, *big.Int, float64, []Value or *Object.
type Value any

// Object is a dict: members in the order in which their names came first, the last value of a name wins.
type Object struct {
	Names  []string
	Values map[string]Value
}

// Get returns the member called name.
func (o *Object) Get(name string) (Value, bool) {
	if o == nil {
		return nil, false
	}
	v, ok := o.Values[name]
	return v, ok
}

func (o *Object) set(name string, v Value) {
	if _, ok := o.Values[name]; !ok {
		o.Names = append(o.Names, name)
	}
	o.Values[name] = v
}

// Without returns a copy of o that lacks names.
func (o *Object) Without(names ...string) *Object {
	c := &Object{Values: map[string]Value{}}
next:
	for _, n := range o.Names {
		for _, not := range names {
			if n == not {
				continue next
			}
		}
		c.set(n, o.Values[n])
	}
	return c
}

// maxDepth stops documents that would exhaust the stack; Python stops about there too.
const maxDepth = 900

// Decode reads one JSON document with Python's extensions: NaN, Infinity and -Infinity.
func Decode(doc string) (Value, error) {
	p := parser{s: doc}
	v, err := p.value(0)
	if err == nil {
		if p.space(); p.at != len(p.s) {
			err = errors.New("text after the value")
		}
	}
	if err != nil {
		return nil, fmt.Errorf("decode JSON at byte %d: %w", p.at, err)
	}
	return v, nil
}

type parser struct {
	s  string
	at int
}

func (p *parser) space() {
	for p.at < len(p.s) && strings.IndexByte(" \t\n\r", p.s[p.at]) >= 0 {
		p.at++
	}
}

func (p *parser) take(text string) bool {
	if strings.HasPrefix(p.s[p.at:], text) {
		p.at += len(text)
		return true
	}
	return false
}

func (p *parser) value(depth int) (Value, error) {
	if depth > maxDepth {
		return nil, errors.New("nested too deeply")
	}
	p.space()
	switch {
	case p.take("null"):
		return nil, nil
	case p.take("true"):
		return true, nil
	case p.take("false"):
		return false, nil
	case p.take("NaN"):
		return math.NaN(), nil
	case p.take("Infinity"):
		return math.Inf(1), nil
	case p.take("-Infinity"):
		return math.Inf(-1), nil
	case p.take(`"`):
		return p.text()
	case p.take("["):
		return p.array(depth)
	case p.take("{"):
		return p.object(depth)
	}
	return p.number()
}

func (p *parser) array(depth int) (Value, error) {
	list := []Value{}
	if p.space(); p.take("]") {
		return list, nil
	}
	for {
		v, err := p.value(depth + 1)
		if err != nil {
			return nil, err
		}
		list = append(list, v)
		p.space()
		switch {
		case p.take("]"):
			return list, nil
		case !p.take(","):
			return nil, errors.New("comma or ] expected")
		}
	}
}

func (p *parser) object(depth int) (Value, error) {
	o := &Object{Values: map[string]Value{}}
	if p.space(); p.take("}") {
		return o, nil
	}
	for {
		if p.space(); !p.take(`"`) {
			return nil, errors.New("member name expected")
		}
		name, err := p.text()
		if err != nil {
			return nil, err
		}
		if p.space(); !p.take(":") {
			return nil, errors.New("colon expected")
		}
		v, err := p.value(depth + 1)
		if err != nil {
			return nil, err
		}
		o.set(name, v)
		p.space()
		switch {
		case p.take("}"):
			return o, nil
		case !p.take(","):
			return nil, errors.New("comma or } expected")
		}
	}
}

// text reads a string behind its opening quote.
func (p *parser) text() (string, error) {
	var b strings.Builder
	for p.at < len(p.s) {
		c := p.s[p.at]
		switch {
		case c == '"':
			p.at++
			return b.String(), nil
		case c < 0x20:
			return "", errors.New("control character in a string")
		case c != '\\':
			b.WriteByte(c)
			p.at++
			continue
		}
		p.at++
		if p.at == len(p.s) {
			break
		}
		c = p.s[p.at]
		p.at++
		if i := strings.IndexByte(`"\/bfnrt`, c); i >= 0 {
			b.WriteByte("\"\\/\b\f\n\r\t"[i])
			continue
		}
		if c != 'u' {
			return "", errors.New("unknown escape in a string")
		}
		r, err := p.hex4()
		if err != nil {
			return "", err
		}
		if utf16.IsSurrogate(r) {
			// A pair is one character; a lone one cannot be written in UTF-8 and becomes U+FFFD.
			before := p.at
			low := rune(utf8.RuneError)
			if p.take(`\u`) {
				if low, err = p.hex4(); err != nil {
					return "", err
				}
			}
			if r = utf16.DecodeRune(r, low); r == utf8.RuneError {
				p.at = before
			}
		}
		b.WriteRune(r)
	}
	return "", errors.New("string without an end")
}

func (p *parser) hex4() (rune, error) {
	if p.at+4 > len(p.s) {
		return 0, errors.New("short \\u escape")
	}
	n, err := strconv.ParseUint(p.s[p.at:p.at+4], 16, 16)
	if err != nil {
		return 0, errors.New("bad \\u escape")
	}
	p.at += 4
	return rune(n), nil
}

func (p *parser) number() (Value, error) {
	start := p.at
	digits := func() int {
		from := p.at
		for p.at < len(p.s) && p.s[p.at] >= '0' && p.s[p.at] <= '9' {
			p.at++
		}
		return p.at - from
	}
	p.take("-")
	if !p.take("0") && digits() == 0 {
		p.at = start
		return nil, errors.New("value expected")
	}
	whole := p.at
	// A fraction or exponent that is not complete is not part of the number, as in Python.
	if p.take(".") && digits() == 0 {
		p.at = whole
	} else if mark := p.at; p.take("e") || p.take("E") {
		if !p.take("+") {
			p.take("-")
		}
		if digits() == 0 {
			p.at = mark
		}
	}
	text := p.s[start:p.at]
	if p.at == whole {
		n, _ := new(big.Int).SetString(text, 10)
		return n, nil
	}
	f, _ := strconv.ParseFloat(text, 64) // out of range gives an infinity, as in Python
	return f, nil
}
