package catalog

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func openStore(t *testing.T, dir string) *Store {
	t.Helper()
	s, err := OpenStore(dir)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// put makes content the file of a handler and accepts it.
func put(t *testing.T, s *Store, name, path, content string) (run, sum string) {
	t.Helper()
	file(t, path, content, 0o755)
	fileSum, err := Hash(path)
	if err != nil {
		t.Fatal(err)
	}
	run, sum, err = s.Accept(name, path, fileSum, "")
	if err != nil {
		t.Fatal(err)
	}
	return run, sum
}

// roll rolls h back.
func (s *Store) roll(file, running string) (string, error) {
	previous, _, err := s.Rollback(Rollback{Handler: "h", File: file, Running: running})
	return previous, err
}

func TestStoreKeepsWhatRuns(t *testing.T) {
	dir := filepath.Join(plugins(t), "store")
	s := openStore(t, dir)
	path := filepath.Join(filepath.Dir(dir), "h")
	run, sum := put(t, s, "h", path, "one")
	if run != filepath.Join(dir, sum) {
		t.Errorf("run %s", run)
	}
	info, err := os.Stat(run)
	if err != nil || info.Mode().Perm() != 0o555 {
		t.Errorf("copy: %v %v", info, err)
	}
	file(t, path, "two", 0o755) // not accepted
	if b, err := os.ReadFile(run); err != nil || string(b) != "one" {
		t.Errorf("the copy holds %q: %v", b, err)
	}
	if _, _, err := s.Accept("h", path, strings.Repeat("0", 64), ""); err == nil || !strings.HasSuffix(err.Error(), "cannot be copied to the store: it changed meanwhile") {
		t.Errorf("a file that changed between check and copy: %v", err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
		t.Errorf("the store holds %v, %v", left, err)
	}
}

func TestRollback(t *testing.T) {
	dir := filepath.Join(plugins(t), "store")
	s := openStore(t, dir)
	path := filepath.Join(filepath.Dir(dir), "h")
	use := func(content string) string {
		t.Helper()
		_, sum := put(t, s, "h", path, content)
		if err := s.Used("h", sum); err != nil {
			t.Fatal(err)
		}
		return sum
	}
	one := use("one")
	if _, err := s.roll(one, one); err == nil || err.Error() != "handler h cannot be rolled back: it has not run with another content yet" {
		t.Errorf("nothing to go back to: %v", err)
	}
	two := use("two")
	if got, err := s.roll(two, two); err != nil || got != one {
		t.Fatalf("rolled back to %s: %v", got, err)
	}
	s = openStore(t, dir) // also after a restart
	if run, sum, err := s.Accept("h", path, two, ""); err != nil || sum != one || run != filepath.Join(dir, one) || s.Held("h") != one {
		t.Errorf("accepted %s %s: %v", run, sum, err)
	}
	if err := s.Used("h", one); err != nil {
		t.Fatal(err)
	}
	// the same once more goes forth again
	if got, err := s.roll(two, one); err != nil || got != two || s.Held("h") != "" {
		t.Errorf("rolled forth to %s: %v", got, err)
	}
	// a new file ends it
	if _, err := s.roll(two, two); err != nil {
		t.Fatal(err)
	}
	if three := use("three"); s.Held("h") != "" || three == one {
		t.Errorf("held %s", s.Held("h"))
	}
}

// A pin decides what a handler may be rolled back to, and ends a rollback to something else. A refusal changes nothing.
func TestRollbackOfPinned(t *testing.T) {
	dir := filepath.Join(plugins(t), "store")
	s := openStore(t, dir)
	path := filepath.Join(filepath.Dir(dir), "h")
	var sums []string
	for _, content := range []string{"one", "two", "three"} {
		_, sum := put(t, s, "h", path, content)
		if err := s.Used("h", sum); err != nil {
			t.Fatal(err)
		}
		sums = append(sums, sum)
	}
	one, two, three := sums[0], sums[1], sums[2]
	records := func() string {
		b, err := os.ReadFile(filepath.Join(dir, recordsFile))
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	before := records()
	if previous, _, err := s.Rollback(Rollback{"h", three, three, three}); !errors.Is(err, ErrPinned) || previous != two {
		t.Errorf("pinned to what runs: %s, %v", previous, err)
	}
	if after := records(); after != before || s.Held("h") != "" {
		t.Errorf("a refusal has written %s", after)
	}
	previous, undo, err := s.Rollback(Rollback{"h", three, three, one})
	if err != nil || previous != one || s.HeldFor("h", three) != one || s.HeldFor("h", two) != "" {
		t.Errorf("pinned to the first: %s, %v", previous, err)
	}
	if _, sum, err := s.Accept("h", path, three, one); err != nil || sum != one {
		t.Errorf("accepted %s: %v", sum, err)
	}
	if err := undo(); err != nil || records() != before {
		t.Errorf("taken back: %v, %s", err, records())
	}
	// Pinned to its file after a rollback.
	if _, err := s.roll(three, three); err != nil {
		t.Fatal(err)
	}
	if _, sum, err := s.Accept("h", path, three, three); err != nil || sum != three || s.Held("h") != "" {
		t.Errorf("accepted %s: %v", sum, err)
	}
	// What cannot be written down has not happened.
	if err := errors.Join(os.Remove(filepath.Join(dir, recordsFile)), os.Mkdir(filepath.Join(dir, recordsFile), 0o700)); err != nil {
		t.Fatal(err)
	}
	if _, err := s.roll(three, ""); err == nil || s.Held("h") != "" {
		t.Errorf("rolled back to %s: %v", s.Held("h"), err)
	}
}

// The last three contents of a handler are kept, and what another handler runs.
func TestStoreForgetsOldContents(t *testing.T) {
	dir := filepath.Join(plugins(t), "store")
	s := openStore(t, dir)
	path := filepath.Join(filepath.Dir(dir), "h")
	var sums []string
	for _, content := range []string{"1", "2", "3", "4", "5"} {
		_, sum := put(t, s, "h", path, content)
		if content == "1" {
			if _, shared := put(t, s, "other", path, content); shared != sum {
				t.Fatal("not shared")
			}
		}
		if err := s.Used("h", sum); err != nil {
			t.Fatal(err)
		}
		sums = append(sums, sum)
	}
	_, never := put(t, s, "h", path, "never ready")
	left := func() map[string]bool {
		out := map[string]bool{}
		entries, _ := os.ReadDir(dir)
		for _, e := range entries {
			if IsChecksum(e.Name()) {
				out[e.Name()] = true
			}
		}
		return out
	}
	if d := cmp.Diff(map[string]bool{sums[0]: true, sums[2]: true, sums[3]: true, sums[4]: true, never: true}, left()); d != "" {
		t.Error(d)
	}
	s.Forget("other")
	_, six := put(t, s, "h", path, "6")
	if err := s.Used("h", six); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(map[string]bool{sums[3]: true, sums[4]: true, six: true}, left()); d != "" {
		t.Error(d)
	}
}

func TestStoreSurvivesBadRecords(t *testing.T) {
	dir := plugins(t)
	for _, content := range []string{"{", "null", `{"h":null}`, `[]`, ""} {
		file(t, filepath.Join(dir, recordsFile), content, 0o600)
		s := openStore(t, dir)
		if _, err := s.roll("", ""); err == nil {
			t.Error("rolled back to nothing")
		}
		put(t, s, "h", filepath.Join(dir, "h"), "x")
	}
}
