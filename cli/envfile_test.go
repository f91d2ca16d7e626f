package cli

import (
	"iter"
	"strings"
)

func lines(text string) iter.Seq[string] {
	return func(yield func(string) bool) {
		for line := range strings.Lines(text) {
			if !yield(strings.TrimSuffix(line, "\n")) {
				return
			}
		}
	}
}

func cutVariable(line string) (name, value string) {
	name, value, _ = strings.Cut(line, "=")
	return name, strings.Trim(value, "'")
}
