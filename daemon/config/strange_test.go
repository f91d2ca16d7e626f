package config

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestStrangeFiles: where a pipe, a device or a directory is in a file's place, the configuration is refused and nothing
// hangs; a pipe that is written to is read.
func TestStrangeFiles(t *testing.T) {
	dir := t.TempDir()
	base, fragment := filepath.Join(dir, "blocksd.yaml"), filepath.Join(dir, "conf.d", "x.yaml")
	if err := os.Mkdir(filepath.Dir(fragment), 0o755); err != nil {
		t.Fatal(err)
	}
	fifo := func(path string) error { return syscall.Mkfifo(path, 0o600) }
	written := make(chan error, 1)
	for name, c := range map[string]struct {
		make func(path string) error
		want string
	}{
		"a pipe without a writer": {fifo, "it is a pipe, and nothing was written to it within 5s"},
		"a pipe": {func(path string) error {
			err := fifo(path)
			go func() { written <- os.WriteFile(path, []byte("drain: 7s\n"), 0o600) }() // opens when somebody reads
			return err
		}, ""},
		"a device":    {func(path string) error { return os.Symlink("/dev/zero", path) }, "it is not a regular file"},
		"a directory": {func(path string) error { return os.Mkdir(path, 0o755) }, "it is not a regular file"},
	} {
		for _, path := range []string{base, fragment} {
			if err := os.WriteFile(base, []byte("drain: 5s\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			os.Remove(path)
			if err := c.make(path); err != nil {
				t.Fatal(err)
			}
			got, _, err := Load(Sources{File: base, Fragments: FragmentsOf(base)})
			if c.want == "" && (err != nil || got.Drain.Seconds() != 7) || c.want != "" && (err == nil || !strings.Contains(err.Error(), path+": "+c.want)) {
				t.Errorf("%s at %s: drain %s, %v", name, path, got.Drain, err)
			}
			if c.want == "" {
				if err := <-written; err != nil {
					t.Error(err)
				}
			}
			os.RemoveAll(path)
		}
	}
}
