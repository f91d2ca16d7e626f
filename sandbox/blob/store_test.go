package blob

import (
	"errors"
	"io"
	"os"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestStore(t *testing.T) {
	parent := t.TempDir()
	s := New(parent)
	if _, err := s.Write("a", strings.NewReader("12345"), 4); !errors.Is(err, ErrTooLarge) {
		t.Errorf("too large: %v", err)
	}
	if _, err := s.Open("a"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("what was refused is there: %v", err)
	}
	if n, err := s.Write("a", strings.NewReader("1234"), 4); n != 4 || err != nil {
		t.Errorf("Write: %d %v", n, err)
	}
	f, err := s.Open("a")
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(f)
	f.Close()
	if string(got) != "1234" || err != nil {
		t.Errorf("read %q %v", got, err)
	}
	if _, err := s.Write("../../b", strings.NewReader("x"), 4); err != nil {
		t.Error(err)
	}
	entries, _ := os.ReadDir(parent)
	if len(entries) != 1 {
		t.Errorf("a blob left the directory: %v", entries)
	}
	for range 2 {
		if err := s.Remove("a"); err != nil {
			t.Error(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if entries, _ = os.ReadDir(parent); len(entries) != 0 {
		t.Errorf("left behind: %v", entries)
	}
}

func TestOpenTakesNoDirectory(t *testing.T) {
	s := New(t.TempDir())
	defer s.Close()
	if _, err := s.Write("a", strings.NewReader("x"), 4); err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"", ".", "..", "/"} {
		if f, err := s.Open(id); err == nil {
			f.Close()
			t.Errorf("opened %q", id)
		}
	}
}
