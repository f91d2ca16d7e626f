package cli

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestManPages: every command has a page that man itself has nothing to say against.
func TestManPages(t *testing.T) {
	root := newRoot(&app{})
	dir := t.TempDir()
	if err := writeManPages(root, dir); err != nil {
		t.Fatal(err)
	}
	pages, err := filepath.Glob(filepath.Join(dir, "*.1"))
	if err != nil || len(pages) != len(withSubcommands(root)) {
		t.Fatalf("%d pages, %v", len(pages), err)
	}
	for _, page := range pages {
		b, err := os.ReadFile(page)
		if err != nil || !strings.HasPrefix(string(b), ".TH \"BLOCKSD") || !strings.Contains(string(b), ".SH DESCRIPTION\n") {
			t.Errorf("%s: %v\n%s", page, err, b)
		}
	}
	groff, err := exec.LookPath("groff")
	if err != nil {
		return
	}
	out, err := exec.CommandContext(t.Context(), groff, append([]string{"-man", "-Tutf8", "-ww", "-z"}, pages...)...).CombinedOutput()
	if err != nil || len(out) > 0 {
		t.Errorf("groff: %v\n%s", err, out)
	}
}

func TestRoff(t *testing.T) {
	for text, want := range map[string]string{
		"a-b":       `a\-b`,
		"[A]…":      `[A]\[u2026]`,
		`C:\x`:      `C:\ex`,
		".TH\n'x y": "\\&.TH\n\\&'x y",
	} {
		if got := roff(text); got != want {
			t.Errorf("%q: %q", text, got)
		}
	}
}
