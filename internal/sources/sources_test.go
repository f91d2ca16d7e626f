package sources

import (
	"os"
	"path/filepath"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestTrack(t *testing.T) {
	root := t.TempDir()
	for _, dir := range []string{"a/b", ".git/c", "bin/d"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := trackBelow(root); err != nil {
		t.Error(err)
	}
	if err := trackBelow(filepath.Join(root, "none")); err == nil {
		t.Error("a directory that does not exist was looked at")
	}
	if err := Track(); err != nil {
		t.Error(err)
	}
	t.Chdir(root)
	if err := Track(); err == nil {
		t.Error("sources were found without a go.mod")
	}
}
