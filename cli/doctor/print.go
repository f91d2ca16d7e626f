package doctor

import (
	"fmt"
	"io"
	"strings"

	"github.com/charmbracelet/x/ansi"
)

// leastText is how wide texts are at least, also where the screen is too narrow for it.
const leastText = 20

// column is where the text of a line begins.
const column = len("configuration") + len("FAIL") + 4

// words are how the report names the states, and their colors.
var words = map[State]struct{ text, color string }{
	OK: {"ok", "\x1b[32m"}, Warn: {"warn", "\x1b[33m"}, Fail: {"FAIL", "\x1b[1;31m"}, Skip: {"-", "\x1b[2m"},
}

const noColor = "\x1b[0m"

// Print writes the report for people, so many columns wide. Text must be safe for a terminal already.
func Print(w io.Writer, rs []Result, width int, colors bool) error {
	room := max(width-column, leastText)
	counts := map[State]int{}
	for _, r := range rs {
		counts[r.State]++
		word := words[r.State]
		state := fmt.Sprintf("%-4s", word.text)
		if colors {
			state = word.color + state + noColor
		}
		lines := wrap(r.Detail, room)
		if r.Fix != "" {
			for i, line := range wrap(r.Fix, room-2) {
				lines = append(lines, []string{"→ ", "  "}[min(i, 1)]+line)
			}
		}
		for i, line := range lines {
			head := strings.Repeat(" ", column)
			if i == 0 {
				head = fmt.Sprintf("%s  %-*s", state, column-6, r.Check)
			}
			if _, err := fmt.Fprintln(w, strings.TrimRight(head+line, " ")); err != nil {
				return err
			}
		}
	}
	_, err := fmt.Fprintf(w, "\n%s\n", summary(counts))
	return err
}

func summary(counts map[State]int) string {
	parts := []string{fmt.Sprintf("%d ok", counts[OK])}
	if n := counts[Warn]; n > 0 {
		parts = append(parts, plural(n, "warning"))
	}
	if n := counts[Fail]; n > 0 {
		parts = append(parts, fmt.Sprintf("%d failed", n))
	}
	if n := counts[Skip]; n > 0 {
		parts = append(parts, fmt.Sprintf("%d not looked at", n))
	}
	return strings.Join(parts, ", ")
}

// wrap breaks a text into lines of at most so many columns, between words where it can.
func wrap(text string, width int) (lines []string) {
	line := ""
	for _, word := range strings.Fields(text) {
		switch n := ansi.StringWidth(line); {
		case line == "":
			line = word
		case n+1+ansi.StringWidth(word) <= width:
			line += " " + word
		default:
			lines = append(lines, line)
			line = word
		}
		for ansi.StringWidth(line) > width { // a path that is longer than a line
			first := ansi.Truncate(line, width, "")
			lines = append(lines, first)
			line = line[len(first):]
		}
	}
	return append(lines, line)
}
