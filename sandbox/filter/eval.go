package filter

import (
	"bytes"
	"encoding/json"
	"math"
	"reflect"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/blocksd/blocksd/internal/jsonscan"
)

// Match reports whether the expression is true for a message. meta and data are valid JSON, nil when there is none. A field that is missing, or of a type that the operator does not take, makes
// its comparison neither true nor false, so that the negation does not match either.
func (e *Expr) Match(meta, data []byte) bool {
	v, ok := truth(e.root.eval(scope{meta: bytes.TrimSpace(meta), data: bytes.TrimSpace(data)}))
	return ok && v
}

// scope is a message. Only what an expression asks for is decoded: most messages are let through or held back by one short
// text in them.
type scope struct{ meta, data jsonscan.Value }

// missing is the value of a field that is not there and of an operation that has no result.
type missing struct{}

// node of the expression tree. eval returns a JSON value or missing.
type node interface{ eval(scope) any }

type literal struct{ value any }

func (n literal) eval(scope) any { return n.value }

// field is a path into the payload or the metadata; its elements are names (string) and indexes (int).
type field struct {
	data bool
	path []any
}

func (n field) eval(s scope) any {
	v := s.meta
	if n.data {
		v = s.data
	}
	for _, step := range n.path {
		var inner jsonscan.Value
		switch step := step.(type) {
		case string:
			for name, value := range v.Members {
				if nameIs(name, step) {
					inner = value // the last one counts
				}
			}
		case int:
			at := 0
			for value := range v.Elements {
				if at == step {
					inner = value
					break
				}
				at++
			}
		}
		if inner == nil {
			return missing{}
		}
		v = inner
	}
	if v.IsNull() {
		return missing{}
	}
	if text, ok := v.Plain(); ok {
		return string(text)
	}
	var value any
	if json.Unmarshal(v, &value) != nil { // not with what is valid
		return missing{}
	}
	return value
}

// nameIs compares the name of a member, as it stands in the text, with a name.
func nameIs(written []byte, name string) bool {
	if bytes.IndexByte(written, '\\') < 0 && utf8.Valid(written) {
		return string(written) == name
	}
	var decoded string
	return json.Unmarshal(slices.Concat([]byte{'"'}, written, []byte{'"'}), &decoded) == nil && decoded == name
}

type unary struct {
	op      string
	operand node
}

func (n unary) eval(s scope) any {
	v := n.operand.eval(s)
	if n.op == "!" {
		if b, ok := truth(v); ok {
			return !b
		}
		return missing{}
	}
	if f, ok := v.(float64); ok {
		return -f
	}
	return missing{}
}

type binary struct {
	op          string
	left, right node
}

func (n binary) eval(s scope) any {
	left := n.left.eval(s)
	switch n.op {
	case "&&", "||":
		// Three-valued: what is decided by one side is decided, whatever the other one lacks.
		decisive := n.op == "||"
		l, lok := truth(left)
		if lok && l == decisive {
			return decisive
		}
		r, rok := truth(n.right.eval(s))
		if rok && r == decisive {
			return decisive
		}
		if lok && rok {
			return !decisive
		}
		return missing{}
	}
	right := n.right.eval(s)
	switch n.op {
	case "==", "!=":
		equal, ok := equals(left, right)
		if !ok {
			return missing{}
		}
		return equal == (n.op == "==")
	case "LIKE":
		pattern, ok := right.(string)
		if !ok {
			return missing{}
		}
		return anyElement(left, func(v string) bool { return like(v, pattern) })
	case "CONTAINS":
		return contains(left, right)
	case "+":
		l, lok := left.(string)
		r, rok := right.(string)
		if lok && rok {
			return l + r
		}
	}
	l, lok := left.(float64)
	r, rok := right.(float64)
	if !lok || !rok {
		return missing{}
	}
	return arithmetic(n.op, l, r)
}

func arithmetic(op string, l, r float64) any {
	switch op {
	case "<":
		return l < r
	case ">":
		return l > r
	case "<=":
		return l <= r
	case ">=":
		return l >= r
	case "+":
		return l + r
	case "-":
		return l - r
	case "*":
		return l * r
	case "/":
		if r != 0 {
			return l / r
		}
	case "%":
		if r != 0 {
			return math.Mod(l, r)
		}
	}
	return missing{}
}

// equals compares values of the same simple type. Values of different types differ; objects and arrays have no answer.
func equals(a, b any) (equal, ok bool) {
	for _, v := range [...]any{a, b} {
		switch v.(type) {
		case string, float64, bool:
		default:
			return false, false
		}
	}
	return a == b, true
}

func truth(v any) (value, ok bool) {
	switch v := v.(type) {
	case bool:
		return v, true
	case float64:
		return v != 0, true
	case string:
		return v != "", true
	}
	return false, false
}

func anyElement(v any, match func(string) bool) any {
	switch v := v.(type) {
	case string:
		return match(v)
	case []any:
		for _, element := range v {
			if s, ok := element.(string); ok && match(s) {
				return true
			}
		}
		return false
	}
	return missing{}
}

func contains(container, value any) any {
	switch c := container.(type) {
	case string:
		if s, ok := value.(string); ok {
			return strings.Contains(c, s)
		}
	case []any:
		for _, element := range c {
			if reflect.DeepEqual(element, value) {
				return true
			}
		}
		return false
	}
	return missing{}
}

// like compares without regard to case; an asterisk in the pattern stands for any text unless a backslash precedes it.
func like(s, pattern string) bool {
	var pieces []string // texts between asterisks
	var b strings.Builder
	for i := 0; i < len(pattern); i++ {
		switch c := pattern[i]; {
		case c == '\\' && i+1 < len(pattern) && pattern[i+1] == '*':
			i++
			b.WriteByte('*')
		case c == '*':
			pieces = append(pieces, b.String())
			b.Reset()
		default:
			b.WriteByte(c)
		}
	}
	pieces = append(pieces, b.String())
	for i := range pieces {
		pieces[i] = strings.ToLower(pieces[i])
	}
	s = strings.ToLower(s)
	if len(pieces) == 1 {
		return s == pieces[0]
	}
	last := pieces[len(pieces)-1]
	rest, ok := strings.CutPrefix(s, pieces[0])
	if !ok {
		return false
	}
	for _, piece := range pieces[1 : len(pieces)-1] {
		_, after, found := strings.Cut(rest, piece)
		if !found {
			return false
		}
		rest = after
	}
	return strings.HasSuffix(rest, last)
}
