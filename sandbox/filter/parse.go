package filter

import (
	"fmt"
	"math"
	"strings"
)

// Limits of an expression; beyond them it is refused.
const (
	MaxLength = 8 << 10
	maxDepth  = 100
)

// Expr is a parsed expression. It is immutable.
type Expr struct {
	root node
}

// Parse reads an expression. The error says what is wrong and where.
func Parse(s string) (*Expr, error) {
	if len(s) > MaxLength {
		return nil, fmt.Errorf("filter expression has %d bytes, more than %d", len(s), MaxLength)
	}
	tokens, err := lex(s)
	if err != nil {
		return nil, fmt.Errorf("filter expression: %w", err)
	}
	p := &parser{tokens: tokens}
	root, err := p.binary(0)
	if err == nil && p.peek().kind != end {
		err = p.unexpected()
	}
	if err != nil {
		return nil, fmt.Errorf("filter expression: %w", err)
	}
	return &Expr{root: root}, nil
}

type parser struct {
	tokens []token
	depth  int
}

func (p *parser) peek() token { return p.tokens[0] }

func (p *parser) next() token {
	t := p.tokens[0]
	if t.kind != end {
		p.tokens = p.tokens[1:]
	}
	return t
}

func (p *parser) unexpected() error {
	t := p.peek()
	if t.kind == end {
		return fmt.Errorf("unexpected end")
	}
	return fmt.Errorf("unexpected %q at byte %d", t.text, t.pos)
}

// levels are the binary operators from the loosest to the tightest.
var levels = [...][]string{
	{"||"}, {"&&"}, {"==", "!=", "<", ">", "<=", ">=", "LIKE", "CONTAINS"}, {"+", "-"}, {"*", "/", "%"},
}

func (p *parser) binary(level int) (node, error) {
	if level == len(levels) {
		return p.unary()
	}
	left, err := p.binary(level + 1)
	if err != nil {
		return nil, err
	}
	for {
		op, ok := p.operatorOf(level)
		if !ok {
			return left, nil
		}
		p.next()
		right, err := p.binary(level + 1)
		if err != nil {
			return nil, err
		}
		left = binary{op: op, left: left, right: right}
	}
}

func (p *parser) operatorOf(level int) (string, bool) {
	t := p.peek()
	op := t.text
	switch t.kind {
	case name:
		op = strings.ToUpper(op) // only LIKE and CONTAINS are words
	case symbol:
	default:
		return "", false
	}
	for _, candidate := range levels[level] {
		if op == candidate {
			return op, true
		}
	}
	return "", false
}

func (p *parser) unary() (node, error) {
	if p.depth++; p.depth > maxDepth {
		return nil, fmt.Errorf("nested deeper than %d", maxDepth)
	}
	defer func() { p.depth-- }()
	t := p.peek()
	if t.kind == symbol {
		switch t.text {
		case "!", "-":
			p.next()
			operand, err := p.unary()
			if err != nil {
				return nil, err
			}
			return unary{op: t.text, operand: operand}, nil
		case "(":
			p.next()
			inner, err := p.binary(0)
			if err != nil {
				return nil, err
			}
			return inner, p.expect(")")
		}
		return nil, p.unexpected()
	}
	switch t.kind {
	case text:
		p.next()
		return literal{t.text}, nil
	case number:
		p.next()
		return literal{t.number}, nil
	case name:
		return p.field()
	}
	return nil, p.unexpected()
}

func (p *parser) expect(s string) error {
	if t := p.peek(); t.kind != symbol || t.text != s {
		return p.unexpected()
	}
	p.next()
	return nil
}

// field reads true, false, or a path into the payload or the metadata. A bare name is a field of the metadata.
func (p *parser) field() (node, error) {
	first := p.next()
	switch first.text {
	case "true":
		return literal{true}, nil
	case "false":
		return literal{false}, nil
	}
	f := field{}
	switch first.text {
	case "data":
		f.data = true
	case "meta":
	default:
		f.path = append(f.path, first.text)
	}
	for p.peek().kind == symbol {
		switch p.peek().text {
		case ".":
			p.next()
			if p.peek().kind != name {
				return nil, p.unexpected()
			}
			f.path = append(f.path, p.next().text)
		case "[":
			p.next()
			switch t := p.peek(); {
			case t.kind == text:
				f.path = append(f.path, p.next().text)
			case t.kind == number && t.number == math.Trunc(t.number) && t.number < 1<<31:
				f.path = append(f.path, int(p.next().number))
			default:
				return nil, p.unexpected()
			}
			if err := p.expect("]"); err != nil {
				return nil, err
			}
		default:
			return f, nil
		}
	}
	return f, nil
}
