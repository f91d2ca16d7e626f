package cli

import (
	"os"
	"strconv"
	"strings"

	"github.com/charmbracelet/x/ansi"
	"golang.org/x/sys/unix"
)

// tone is how a text looks on a terminal.
type tone int

const (
	ordinary tone = iota
	good
	odd
	bad
	dim
	bold
)

var tones = [...]string{good: "\x1b[32m", odd: "\x1b[33m", bad: "\x1b[31m", dim: "\x1b[2m", bold: "\x1b[1m"}

// style colours text, where that is wanted.
type style struct{ on bool }

// style is for standard output: colours are for terminals whose user has not set NO_COLOR.
func (a *app) style() style {
	return style{isTerminal(a.Stdout) && a.getenv("NO_COLOR") == "" && a.getenv("TERM") != "dumb"}
}

func (s style) of(t tone, text string) string {
	if !s.on || t == ordinary || text == "" {
		return text
	}
	return tones[t] + text + "\x1b[0m"
}

// defaultWidth is how wide output is made where the width is not known.
const defaultWidth = 80

// terminalWidth is the number of columns of a terminal, 0 when it does not say.
func terminalWidth(f *os.File) int {
	size, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ)
	if err != nil {
		return 0
	}
	return int(size.Col)
}

// width is that of standard output: a terminal's, else COLUMNS or 80.
func (a *app) width() int {
	if f, ok := a.Stdout.(*os.File); ok && isTerminal(f) {
		if n := terminalWidth(f); n > 0 {
			return n
		}
	}
	if n, err := strconv.Atoi(a.getenv("COLUMNS")); err == nil && n > 0 {
		return n
	}
	return defaultWidth
}

// columnsOf is how many columns of a terminal a text takes: a character of Chinese takes two, an accent none.
func columnsOf(s string) int { return ansi.StringWidth(s) }

// cut shortens a line to width columns, with a sign that something is missing; 0 for no limit.
func cut(s string, width int) string {
	if width <= 0 || columnsOf(s) <= width {
		return s
	}
	return strings.TrimRight(ansi.Truncate(s, width-1, ""), " ") + "…"
}

// cutHead shortens a text to width columns from its beginning.
func cutHead(s string, width int) string {
	all := columnsOf(s)
	if width <= 0 || all <= width {
		return s
	}
	rest := s
	for n := all - width + 1; columnsOf(rest) >= width; n++ { // the first character that stays may be a wide one
		rest = ansi.TruncateLeft(s, n, "")
	}
	return "…" + rest
}
