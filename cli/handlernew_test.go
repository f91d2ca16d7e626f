package cli

import (
	"os"
	"path/filepath"
	"testing"
)

// A program that lies in a copy of the repository makes projects that are built with that copy.
func TestCheckoutOf(t *testing.T) {
	repo, other := t.TempDir(), t.TempDir()
	for path, content := range map[string]string{
		filepath.Join(repo, "go.mod"): "module github.com/blocksd/blocksd\n\ngo 1.26\n", filepath.Join(repo, "bin", "blocksd"): "",
		filepath.Join(other, "go.mod"): "module example.com/other\n", filepath.Join(other, "blocksd"): "",
	} {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	link := filepath.Join(other, "link")
	if err := os.Symlink(filepath.Join(repo, "bin", "blocksd"), link); err != nil {
		t.Fatal(err)
	}
	for program, want := range map[string]string{filepath.Join(repo, "bin", "blocksd"): repo, link: repo, filepath.Join(other, "blocksd"): "", "/nowhere/blocksd": ""} {
		if got := checkoutOf(program); got != want {
			t.Errorf("%s lies in %q, want %q", program, got, want)
		}
	}
}
