package cli

import (
	"bytes"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// TestWideTexts: what a terminal shows in two columns, or in none, is counted so.
func TestWideTexts(t *testing.T) {
	for _, tt := range []struct {
		got, want string
	}{
		{cut("日本語のテキスト", 7), "日本語…"},
		{cut("日本語のテキスト", 8), "日本語…"},
		{cut("日本語", 6), "日本語"},
		{cut("cafe\u0301s", 5), "cafe\u0301s"},
		{cutHead("日本語のテキスト", 8), "…キスト"},
		{cutHead("/srv/路径/handler", 10), "…/handler"},
		{strings.Join(wrap("> ", "日本語のテキスト ab", 8), "|"), "> 日本語|  のテキ|  スト|  ab"},
	} {
		if tt.got != tt.want {
			t.Errorf("%q, want %q", tt.got, tt.want)
		}
	}
	var out bytes.Buffer
	s := screen{width: 20}
	if err := s.grid(&out, []column{{title: "NAME"}, {title: "REASON"}}, [][]cell{{{text: "日本"}, {text: "x"}}, {{text: "a"}, {text: "語語語語語語語語語語"}}}); err != nil {
		t.Fatal(err)
	}
	if got, want := out.String(), "NAME  REASON\n日本  x\na     語語語語語語…\n"; got != want {
		t.Errorf("the grid is\n%swant\n%s", got, want)
	}
}

// TestTextsFit: whatever the text is, what is made of it fits, and wrap loses nothing.
func TestTextsFit(t *testing.T) {
	words := rapid.StringOf(rapid.RuneFrom([]rune("ab /語日…é\u0301👍🏽ｗ ")))
	rapid.Check(t, func(t *rapid.T) {
		text, width := printable(words.Draw(t, "text")), rapid.IntRange(8, 40).Draw(t, "width")
		if got := cut(text, width); columnsOf(got) > width || columnsOf(text) <= width && got != text {
			t.Errorf("cut to %d columns %q is %q", width, text, got)
		}
		if got := cutHead(text, width); columnsOf(got) > width || columnsOf(text) <= width && got != text {
			t.Errorf("the end of %q in %d columns is %q", text, width, got)
		}
		lines := wrap("> ", text, width)
		for _, line := range lines {
			if columnsOf(line) > width {
				t.Errorf("%q has %d columns of %d", line, columnsOf(line), width)
			}
		}
		whole := strings.Join(strings.Fields(strings.TrimPrefix(strings.Join(lines, ""), "> ")), "")
		if want := strings.Join(strings.Fields(text), ""); whole != want {
			t.Errorf("%q became %q", want, whole)
		}
	})
}
