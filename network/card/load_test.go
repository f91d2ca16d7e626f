package card

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// What is no ordinary file, or too large for a card, is not read.
func TestLoadRefuses(t *testing.T) {
	giant := filepath.Join(t.TempDir(), "giant")
	f, err := os.Create(giant)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(3 << 30); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{"/dev/zero": "is not a file", filepath.Dir(giant): "is not a file", giant: "a card may have 1048576"} {
		if _, err := Load(path); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", path, err)
		}
	}
}
