package journal

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
)

func TestInspect(t *testing.T) {
	dir := t.TempDir()
	look := func(want Condition, damaged bool) {
		t.Helper()
		got, err := Inspect(dir)
		got.Size = 0
		if got != want || (err != nil) != damaged || damaged && !errors.Is(err, errBroken) {
			t.Errorf("got %+v, %v", got, err)
		}
	}
	look(Condition{Missing: true}, false)
	secret, err := Secret(dir, "")
	if err != nil {
		t.Fatal(err)
	}
	j, err := Open(Config{Dir: dir, Secret: secret, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	look(Condition{InUse: true}, false)
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, FileName)
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	look(Condition{}, false)
	if after, err := os.ReadFile(path); err != nil || string(after) != string(before) {
		t.Errorf("looking has changed the journal: %v", err)
	}
	if err := os.Remove(filepath.Join(dir, KeyFileName)); err != nil {
		t.Fatal(err)
	}
	look(Condition{NoKey: true}, false)
	if err := os.WriteFile(path, []byte("no journal"), 0o600); err != nil {
		t.Fatal(err)
	}
	look(Condition{NoKey: true}, true)
}
