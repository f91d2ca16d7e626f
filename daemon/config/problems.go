package config

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Problem is one thing that is wrong with a configuration.
type Problem struct {
	// File and Line say where. Line is 0 for a problem that is not in one line.
	File string
	Line int
	// Message is one sentence.
	Message string
	key     string // path of the key whose value is wrong, to find its origin; "" when the place is known
}

func (p Problem) String() string {
	switch {
	case p.File == "":
		return p.Message
	case p.Line == 0:
		return fmt.Sprintf("configuration file %s: %s", p.File, p.Message)
	}
	return fmt.Sprintf("configuration file %s, line %d: %s", p.File, p.Line, p.Message)
}

// Problems is everything that is wrong with a configuration.
type Problems []Problem

// Tell reports whether there is one of the same line already, of which another may only be what follows.
func (p Problems) Tell(other Problem) bool {
	return other.Line > 0 && slices.ContainsFunc(p, func(one Problem) bool { return one.File == other.File && one.Line == other.Line })
}

// sort puts those of a file in the order of its lines.
func (p Problems) sort() {
	slices.SortStableFunc(p, func(a, b Problem) int { return cmp.Or(strings.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line)) })
}

func (p Problems) Error() string {
	texts := make([]string, len(p))
	for i, one := range p {
		texts[i] = one.String()
	}
	return strings.Join(texts, "; ")
}
