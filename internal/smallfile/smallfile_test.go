//go:build unix

package smallfile_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"go.uber.org/goleak"

	"github.com/blocksd/blocksd/internal/smallfile"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestRead: whatever a path names, it is read or refused, at once.
func TestRead(t *testing.T) {
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	for name, text := range map[string]string{"empty": "", "fits": "0123456789", "long": "0123456789a"} {
		if err := os.WriteFile(path(name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(syscall.Mkfifo(path("pipe"), 0o600), os.Symlink("gone", path("link"))); err != nil {
		t.Fatal(err)
	}
	for file, want := range map[string]string{
		path("empty"): "", path("fits"): "", path("long"): "it has more than 10 bytes", path("gone"): "no such file or directory", path("link"): "no such file or directory",
		path("pipe"): "it is not a regular file", dir: "it is not a regular file", "/dev/zero": "it is not a regular file", "/dev/null": "it is not a regular file",
		path("fits/below"): "not a directory",
	} {
		b, err := smallfile.Read(file, 10)
		if (err == nil) != (want == "") || err != nil && err.Error() != want {
			t.Errorf("%s: %q, %v; want %q", file, b, err, want)
		}
		if file == path("pipe") {
			continue
		}
		again, err := smallfile.ReadOrWait(file, 10)
		if string(again) != string(b) || (err == nil) != (want == "") || err != nil && !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s, or a pipe: %q, %v; want %q", file, again, err, want)
		}
	}
	if _, err := smallfile.Read(path("gone"), 10); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}

// TestReadOrWait: a pipe is read to its end; its writer may come later, and be one that never ends.
func TestReadOrWait(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]string{"0123456789": "", "0123456789a": "it has more than 10 bytes"} {
		written := make(chan error, 1)
		go func() { written <- os.WriteFile(path, []byte(text), 0o600) }() // opens when somebody reads
		b, err := smallfile.ReadOrWait(path, 10)
		if want == "" && (string(b) != text || err != nil) || want != "" && (err == nil || err.Error() != want) {
			t.Errorf("%s: %q, %v", text, b, err)
		}
		if err := <-written; err != nil {
			t.Error(err)
		}
	}
	for _, writer := range []string{"none", "silent"} {
		if writer == "silent" {
			f, err := os.OpenFile(path, os.O_RDWR, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
		}
		if b, err := smallfile.ReadOrWait(path, 10); !errors.Is(err, smallfile.ErrNoWriter) {
			t.Errorf("writer %s: %q, %v", writer, b, err)
		}
	}
}
