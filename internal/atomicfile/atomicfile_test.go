package atomicfile_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"go.uber.org/goleak"

	"github.com/blocksd/blocksd/internal/atomicfile"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func names(t *testing.T, dir string) (out []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		out = append(out, e.Name())
	}
	return out
}

func TestWrite(t *testing.T) {
	old := syscall.Umask(0o077)
	defer syscall.Umask(old)
	dir := t.TempDir()
	path := filepath.Join(dir, "f")
	for _, content := range []string{"one", "the second, which is longer", ""} {
		if err := atomicfile.Write(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(path)
		if err != nil || string(got) != content {
			t.Errorf("read %q, %v; want %q", got, err, content)
		}
	}
	if info, err := os.Stat(path); err != nil || info.Mode() != 0o644 {
		t.Errorf("mode is %v, %v", info.Mode(), err)
	}
	if n := names(t, dir); len(n) != 1 {
		t.Errorf("directory holds %q", n)
	}
}

// TestUncommitted: the file that is there stays until the commit, and what is given up leaves nothing behind.
func TestUncommitted(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "f")
	if err := atomicfile.Write(path, []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := atomicfile.Create(path, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString("new"); err != nil {
		t.Fatal(err)
	}
	n := names(t, dir)
	if len(n) != 2 || !atomicfile.IsTemp(n[0]) || atomicfile.IsTemp(n[1]) {
		t.Errorf("directory holds %q", n)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if err := f.Commit(); err == nil {
		t.Error("a file that was given up can be committed")
	}
	got, err := os.ReadFile(path)
	if err != nil || string(got) != "old" || len(names(t, dir)) != 1 {
		t.Errorf("read %q, %v; directory holds %q", got, err, names(t, dir))
	}
}

func TestCloseAfterCommit(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	f, err := atomicfile.Create(path, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.CommitVolatile(), f.Close()); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Error(err)
	}
}

func TestFailures(t *testing.T) {
	dir := t.TempDir()
	if err := atomicfile.Write(filepath.Join(dir, "missing", "f"), nil, 0o600); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("write into a directory that is not there: %v", err)
	}
	occupied := filepath.Join(dir, "d")
	if err := os.MkdirAll(filepath.Join(occupied, "sub"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := atomicfile.Write(occupied, nil, 0o600); err == nil {
		t.Error("a directory was replaced")
	}
	if n := names(t, dir); len(n) != 1 {
		t.Errorf("a failed write leaves %q", n)
	}
}
