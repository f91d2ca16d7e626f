package savedir

import (
	"strings"
	"testing"
	"unicode/utf8"
)

func TestFileName(t *testing.T) {
	for sent, want := range map[string]string{
		"": "artifact-3", ".": "artifact-3", "...": "artifact-3", "a/": "artifact-3", "/etc/passwd": "passwd", `..\..\x.txt`: "x.txt",
		"a\x00b\nc": "abc", " x ": "x", ".profile": "profile", "-rf": "rf", "- .-x-y": "x-y", "--": "artifact-3", ". .x": "x", "a.blocksd-part.blocksd-part": "a", ".blocksd-part": "artifact-3", "ü\xff.txt": "ü.txt",
		strings.Repeat("ü", 200) + ".json": strings.Repeat("ü", 97) + ".json",
	} {
		if got := fileName(sent, 3); got != want {
			t.Errorf("%q becomes %q, want %q", sent, got, want)
		}
	}
}

func FuzzFileName(f *testing.F) {
	f.Add("a/b.txt")
	f.Add(`..\x` + "\x00")
	f.Fuzz(func(t *testing.T, sent string) {
		got := fileName(sent, 1)
		if got == "" || got[0] == '.' || got[0] == '-' || len(got) > 255 || strings.ContainsAny(got, "/\\\x00\n") || !utf8.ValidString(got) {
			t.Errorf("%q becomes %q", sent, got)
		}
	})
}
