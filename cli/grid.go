package cli

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/charmbracelet/x/ansi"
)

// screen is where output for people goes: so many columns wide, coloured or not.
type screen struct {
	width int // 0 for no limit
	style style
}

// screen is that of standard output.
func (a *app) screen() screen { return screen{a.width(), a.style()} }

// column of a grid.
type column struct {
	title string
	// rank says which columns go first when there is no room for all: the highest. Those of rank 0 stay.
	rank int
	// tail: a text that is too long loses its beginning; otherwise its end.
	tail bool
}

// cell of a grid.
type cell struct {
	text string
	tone tone
}

// least is what a column keeps at least when all are too wide.
const least = 4

// gap is between two columns.
const gap = "  "

// grid prints rows in columns that fit the screen: first columns are left out, then texts are shortened. An empty cell is
// a dash.
func (s screen) grid(w io.Writer, columns []column, rows [][]cell) error {
	lines := make([][]cell, 0, len(rows)+1)
	titles := make([]cell, len(columns))
	for i, c := range columns {
		titles[i] = cell{c.title, dim}
	}
	for _, row := range append([][]cell{titles}, rows...) {
		line := slices.Clone(row)
		for i := range line {
			if line[i].text = printable(line[i].text); line[i].text == "" {
				line[i].text = "-"
			}
		}
		lines = append(lines, line)
	}
	shown, widths := s.fit(columns, lines)
	for _, line := range lines {
		var b strings.Builder
		for n, i := range shown {
			text := line[i].text
			if columns[i].tail {
				text = cutHead(text, widths[n])
			} else {
				text = cut(text, widths[n])
			}
			b.WriteString(s.style.of(line[i].tone, text))
			if n < len(shown)-1 {
				b.WriteString(strings.Repeat(" ", widths[n]-columnsOf(text)) + gap)
			}
		}
		if _, err := fmt.Fprintln(w, b.String()); err != nil {
			return err
		}
	}
	return nil
}

// fit chooses the columns that are shown, and how wide each is.
func (s screen) fit(columns []column, lines [][]cell) (shown, widths []int) {
	for i := range columns {
		width := 0
		for _, line := range lines {
			width = max(width, columnsOf(line[i].text))
		}
		shown, widths = append(shown, i), append(widths, width)
	}
	if s.width <= 0 {
		return shown, widths
	}
	total := func() (sum int) {
		for _, w := range widths {
			sum += w + len(gap)
		}
		return sum - len(gap)
	}
	for total() > s.width {
		worst := 0
		for n, i := range shown {
			if columns[i].rank > columns[shown[worst]].rank {
				worst = n
			}
		}
		if columns[shown[worst]].rank == 0 {
			break
		}
		shown, widths = slices.Delete(shown, worst, worst+1), slices.Delete(widths, worst, worst+1)
	}
	for total() > s.width {
		widest := 0
		for n := range widths {
			if widths[n] > widths[widest] {
				widest = n
			}
		}
		if widths[widest] <= least {
			break
		}
		widths[widest]--
	}
	return shown, widths
}

// text prints a sentence in as many lines as it needs; the lines after the first are indented.
func (s screen) text(w io.Writer, t tone, first, sentence string) error {
	for _, line := range wrap(first, printable(sentence), s.width) {
		if _, err := fmt.Fprintln(w, s.style.of(t, line)); err != nil {
			return err
		}
	}
	return nil
}

// wrap breaks a sentence between words into lines of at most width columns; a word that is longer is broken too. The first
// line begins with first, the others are as much indented.
func wrap(first, sentence string, width int) []string {
	if width <= 0 {
		return []string{first + sentence}
	}
	indent := strings.Repeat(" ", columnsOf(first))
	room := max(width-len(indent), least)
	var lines []string
	line, length := "", 0
	flush := func() {
		prefix := first
		if len(lines) > 0 {
			prefix = indent
		}
		lines = append(lines, prefix+line)
		line, length = "", 0
	}
	for _, word := range strings.Fields(sentence) {
		if length > 0 && length+1+columnsOf(word) > room {
			flush()
		}
		for columnsOf(word) > room {
			line = ansi.Truncate(word, room, "")
			word = word[len(line):]
			flush()
		}
		if length > 0 {
			line, length = line+" ", length+1
		}
		line, length = line+word, length+columnsOf(word)
	}
	if length > 0 || len(lines) == 0 {
		flush()
	}
	return lines
}
