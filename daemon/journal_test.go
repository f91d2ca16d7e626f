package daemon

import (
	"bytes"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/blocksd/blocksd/daemon/config"
	"github.com/blocksd/blocksd/runtime/journal"
)

// TestBadJournal: a journal that cannot be used keeps the daemon from starting, with one sentence, and stays as it is.
func TestBadJournal(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	cfg := Config{
		Settings: config.Config{StateDir: dir, Socket: filepath.Join(dir, "s")},
		Key:      func(string) (string, error) { return "key", nil }, Log: slog.New(slog.DiscardHandler),
	}
	d, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	file, key := filepath.Join(dir, journal.FileName), filepath.Join(dir, journal.KeyFileName)
	for _, path := range []string{file, key} {
		info, err := os.Stat(path)
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", path, info, err)
		}
	}
	whole, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := os.ReadFile(key)
	if err != nil {
		t.Fatal(err)
	}
	damaged := bytes.Clone(whole)
	clear(damaged[:64<<10])
	for _, c := range []struct {
		name      string
		file, key []byte
		says      string
	}{
		{"damaged journal", damaged, secret, file},
		{"no journal at all", []byte("hello, this is something else"), secret, file},
		{"another key", whole, bytes.Repeat([]byte("x"), 64), "another key"},
		{"short key", whole, []byte("x"), key},
		{"no key", whole, nil, key},
	} {
		t.Run(c.name, func(t *testing.T) {
			write(t, file, c.file)
			if c.key == nil {
				if err := os.Remove(key); err != nil {
					t.Fatal(err)
				}
			} else {
				write(t, key, c.key)
			}
			d, err := New(cfg)
			if err == nil {
				t.Fatal("the daemon starts", d.Close())
			}
			if !errors.Is(err, ErrUnusable) {
				t.Error("the daemon is started again and again")
			}
			if s := err.Error(); !strings.Contains(s, c.says) || strings.Contains(s, "\n") {
				t.Errorf("says %q", s)
			}
			if now, err := os.ReadFile(file); err != nil || !bytes.Equal(now, c.file) {
				t.Errorf("the journal was changed, %v", err)
			}
		})
	}
	write(t, file, whole)
	write(t, key, secret)
	if d, err = New(cfg); err != nil {
		t.Fatal(err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
}

func write(t *testing.T, path string, content []byte) {
	t.Helper()
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestStateDirectoryIsDocumented: operators look up what lies in the state directory.
func TestStateDirectoryIsDocumented(t *testing.T) {
	page, err := os.ReadFile(filepath.Join("..", "docs", "operations.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(page), "\n## The state directory\n")
	table, _, _ = strings.Cut(table, "\n## ")
	network := startNetwork(t)
	c := settingsFor(t, network, handlers(t, "echo"))
	d := start(t, c)
	d.ready(t)
	entries, err := os.ReadDir(c.Settings.StateDir)
	if err != nil || len(entries) < 5 {
		t.Fatalf("%v, %v", entries, err)
	}
	for _, e := range entries {
		name := e.Name()
		if name == filepath.Base(c.Settings.Socket) { // of this test
			continue
		}
		if e.IsDir() {
			name += "/"
		}
		if !strings.Contains(table, "\n| `"+name+"` |") {
			t.Errorf("docs/operations.md does not say what %s is", name)
		}
	}
}
