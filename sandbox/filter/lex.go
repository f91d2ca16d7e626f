// Package filter reads and evaluates the filter expressions that a PubNub subscriber sends with its polls: a message is
// delivered when the expression over its payload (data) and its publisher metadata (meta) is true.
package filter

import (
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// kind of a lexical token.
type kind int

const (
	end    kind = iota
	name        // identifier or keyword
	text        // quoted string, unquoted in token.text
	number      // token.number
	symbol      // operator or bracket
)

type token struct {
	kind   kind
	text   string
	number float64
	pos    int
}

// lex splits an expression into tokens; the last one is of kind end.
func lex(s string) ([]token, error) {
	var out []token
	for i := 0; i < len(s); {
		c := s[i]
		switch {
		case c == ' ' || c == '\t' || c == '\n' || c == '\r':
			i++
		case c == '"' || c == '\'':
			value, next, err := quoted(s, i)
			if err != nil {
				return nil, err
			}
			out = append(out, token{kind: text, text: value, pos: i})
			i = next
		case c >= '0' && c <= '9':
			start := i
			for i < len(s) && (s[i] >= '0' && s[i] <= '9' || s[i] == '.') {
				i++
			}
			f, err := strconv.ParseFloat(s[start:i], 64)
			if err != nil {
				return nil, fmt.Errorf("number %q at byte %d is none", s[start:i], start)
			}
			out = append(out, token{kind: number, number: f, text: s[start:i], pos: start})
		default:
			if op := operator(s[i:]); op != "" {
				out = append(out, token{kind: symbol, text: op, pos: i})
				i += len(op)
				continue
			}
			r, _ := utf8.DecodeRuneInString(s[i:])
			if r != '_' && !unicode.IsLetter(r) || r == utf8.RuneError {
				return nil, fmt.Errorf("unexpected %q at byte %d", r, i)
			}
			start := i
			for i < len(s) {
				r, size := utf8.DecodeRuneInString(s[i:])
				if r != '_' && !unicode.IsLetter(r) && !unicode.IsDigit(r) {
					break
				}
				i += size
			}
			out = append(out, token{kind: name, text: s[start:i], pos: start})
		}
	}
	return append(out, token{kind: end, pos: len(s)}), nil
}

var operators = [...]string{"==", "!=", "<=", ">=", "&&", "||", "<", ">", "!", "+", "-", "*", "/", "%", "(", ")", "[", "]", "."}

func operator(s string) string {
	for _, op := range operators {
		if strings.HasPrefix(s, op) {
			return op
		}
	}
	return ""
}

// quoted reads the string that starts at s[i]. A backslash takes away the meaning of the quote and of itself; before an
// asterisk it stays, because the operand of LIKE needs it.
func quoted(s string, i int) (value string, next int, err error) {
	quote := s[i]
	var b strings.Builder
	for j := i + 1; j < len(s); j++ {
		switch c := s[j]; {
		case c == quote:
			return b.String(), j + 1, nil
		case c == '\\' && j+1 < len(s) && (s[j+1] == quote || s[j+1] == '\\'):
			j++
			b.WriteByte(s[j])
		default:
			b.WriteByte(c)
		}
	}
	return "", 0, fmt.Errorf("string that starts at byte %d does not end", i)
}
