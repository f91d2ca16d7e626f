package card

import (
	"fmt"
	"slices"
	"strings"

	"github.com/blocksd/blocksd/internal/nearest"
)

// checker collects problems while it walks a document.
type checker struct {
	found []located
}

type located struct {
	at int64
	Problem
}

func (c *checker) add(at int64, ptr, format string, args ...any) {
	c.found = append(c.found, located{at, Problem{ptr, fmt.Sprintf(format, args...)}})
}

// problems returns what was found in the order of the document, nil for nothing.
func (c *checker) problems() Problems {
	slices.SortStableFunc(c.found, func(a, b located) int { return int(a.at - b.at) })
	var ps Problems
	for _, f := range c.found {
		if !slices.Contains(ps, f.Problem) {
			ps = append(ps, f.Problem)
		}
	}
	return ps
}

// check looks at one value. ptr is where it stands.
type check func(c *checker, ptr string, n *node)

// field is one key of an object.
type field struct {
	key      string
	required bool
	check    check // nil: anything
}

// object checks that n is an object with these fields and no others; what names it in messages.
func (c *checker) object(ptr, what string, n *node, fields []field) bool {
	if !c.is(ptr, what, n, kindObject) {
		return false
	}
	c.members(ptr, what, n, fields, false)
	return true
}

func (c *checker) members(ptr, what string, n *node, fields []field, open bool) {
	seen := map[string]bool{}
	for _, m := range n.members {
		at := pointer(ptr, m.key)
		if seen[m.key] {
			c.add(m.start, at, "%s has the key %q twice: keep one", what, m.key)
			continue
		}
		seen[m.key] = true
		i := slices.IndexFunc(fields, func(f field) bool { return f.key == m.key })
		switch {
		case i >= 0 && fields[i].check != nil:
			fields[i].check(c, at, m.value)
		case i < 0 && !open:
			hint := nearest.Hint(m.key, keys(fields))
			if hint == "" {
				hint = ": known are " + strings.Join(keys(fields), ", ")
			}
			c.add(m.start, at, "%s has the unknown key %q%s", what, m.key, hint)
		}
	}
	for _, f := range fields {
		if f.required && !seen[f.key] {
			c.add(n.at, ptr, "%s lacks the required key %q", what, f.key)
		}
	}
}

func (c *checker) is(ptr, what string, n *node, k kind) bool {
	if n.kind != k {
		c.add(n.at, ptr, "%s must be %s, not %s", what, k, n.kind)
		return false
	}
	return true
}

func keys(fields []field) []string {
	ks := make([]string, len(fields))
	for i, f := range fields {
		ks[i] = f.key
	}
	return ks
}

// last returns the final step of a pointer, to name a value in a message.
func last(ptr string) string { return ptr[strings.LastIndexByte(ptr, '/')+1:] }

// Checks of single values.

func isString(c *checker, ptr string, n *node) { c.is(ptr, last(ptr), n, kindString) }
func isBool(c *checker, ptr string, n *node)   { c.is(ptr, last(ptr), n, kindBool) }
func isNumber(c *checker, ptr string, n *node) { c.is(ptr, last(ptr), n, kindNumber) }
func isArray(c *checker, ptr string, n *node)  { c.is(ptr, last(ptr), n, kindArray) }
func isObject(c *checker, ptr string, n *node) { c.is(ptr, last(ptr), n, kindObject) }

func nonEmptyString(c *checker, ptr string, n *node) {
	if c.is(ptr, last(ptr), n, kindString) && n.text == "" {
		c.add(n.at, ptr, "%s must not be empty", last(ptr))
	}
}

func shortString(limit int) check {
	return func(c *checker, ptr string, n *node) {
		if c.is(ptr, last(ptr), n, kindString) && len([]rune(n.text)) > limit {
			c.add(n.at, ptr, "%s has %d characters, at most %d are allowed", last(ptr), len([]rune(n.text)), limit)
		}
	}
}

func oneOf(allowed ...string) check {
	return func(c *checker, ptr string, n *node) {
		if c.is(ptr, last(ptr), n, kindString) && !slices.Contains(allowed, n.text) {
			c.add(n.at, ptr, "%s must be %s, not %q", last(ptr), strings.Join(allowed, " or "), n.text)
		}
	}
}

// integer checks for a whole number from low to high; high 0 means no limit but that of the machine.
func integer(low, high int) check {
	return func(c *checker, ptr string, n *node) {
		if !c.is(ptr, last(ptr), n, kindNumber) {
			return
		}
		v, ok := n.integer()
		switch {
		case !ok:
			c.add(n.at, ptr, "%s must be a whole number, not %v", last(ptr), n.number)
		case v < low && high == 0:
			c.add(n.at, ptr, "%s must be at least %d, not %d", last(ptr), low, v)
		case high != 0 && (v < low || v > high):
			c.add(n.at, ptr, "%s must be from %d to %d, not %d", last(ptr), low, high, v)
		}
	}
}

// each checks every item of an array.
func each(item check) check {
	return func(c *checker, ptr string, n *node) {
		if !c.is(ptr, last(ptr), n, kindArray) {
			return
		}
		for i, it := range n.items {
			item(c, fmt.Sprintf("%s/%d", ptr, i), it)
		}
	}
}

// strings checks for an array of strings; noun names one of them.
func stringsOf(noun string) check {
	return each(func(c *checker, ptr string, n *node) { c.is(ptr, noun, n, kindString) })
}

// uniqueIDs reports objects of an array that have the id of an earlier one.
func uniqueIDs(c *checker, ptr string, n *node) {
	if n.kind != kindArray {
		return
	}
	first := map[string]int{}
	for i, it := range n.items {
		id := it.get("id")
		if id == nil || id.kind != kindString {
			continue
		}
		if j, double := first[id.text]; double {
			c.add(id.at, fmt.Sprintf("%s/%d/id", ptr, i), "%s has the id %q twice, at %d and %d: ids must be unique", last(ptr), id.text, j, i)
			continue
		}
		first[id.text] = i
	}
}
