package catalog

import (
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
	run, sum, err = s.Accept(name, path, fileSum)
	if err != nil {
		t.Fatal(err)
	}
	return run, sum
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
	if _, _, err := s.Accept("h", path, strings.Repeat("0", 64)); err == nil || !strings.HasSuffix(err.Error(), "cannot be copied to the store: it changed meanwhile") {
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
	if _, err := s.Rollback("h", one, one); err == nil || err.Error() != "handler h cannot be rolled back: it has not run with another content yet" {
		t.Errorf("nothing to go back to: %v", err)
	}
	two := use("two")
	if got, err := s.Rollback("h", two, two); err != nil || got != one {
		t.Fatalf("rolled back to %s: %v", got, err)
	}
	s = openStore(t, dir) // also after a restart
	if run, sum, err := s.Accept("h", path, two); err != nil || sum != one || run != filepath.Join(dir, one) || s.Held("h") != one {
		t.Errorf("accepted %s %s: %v", run, sum, err)
	}
	if err := s.Used("h", one); err != nil {
		t.Fatal(err)
	}
	// the same once more goes forth again
	if got, err := s.Rollback("h", two, one); err != nil || got != two || s.Held("h") != "" {
		t.Errorf("rolled forth to %s: %v", got, err)
	}
	// a new file ends it
	if _, err := s.Rollback("h", two, two); err != nil {
		t.Fatal(err)
	}
	if three := use("three"); s.Held("h") != "" || three == one {
		t.Errorf("held %s", s.Held("h"))
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
		if _, err := s.Rollback("h", "", ""); err == nil {
			t.Error("rolled back to nothing")
		}
		put(t, s, "h", filepath.Join(dir, "h"), "x")
	}
}

func TestPins(t *testing.T) {
	path := filepath.Join(plugins(t), PinsFile)
	if pins, problems := ReadPins(path); len(pins) != 0 || len(problems) != 0 {
		t.Errorf("no file: %v %v", pins, problems)
	}
	sum := strings.Repeat("a", 64)
	for _, name := range []string{"echo", "adder", "echo"} {
		if err := Pin(path, name, sum); err != nil {
			t.Fatal(err)
		}
	}
	pins, problems := ReadPins(path)
	if d := cmp.Diff(Pins{"echo": sum, "adder": sum}, pins); d != "" || len(problems) > 0 {
		t.Error(d, problems)
	}
	pins, problems = parsePins("FILE", []byte("# comment\n\nnonsense\n"+strings.ToUpper(sum)+" *echo\n"+sum+"  ../x\n"))
	if d := cmp.Diff(Pins{"echo": sum}, pins); d != "" {
		t.Error(d)
	}
	want := []string{
		"line 3 of FILE is not used because it is not a SHA-256 and the name of a handler: pin the handler again",
		"line 5 of FILE is not used because it is not a SHA-256 and the name of a handler: pin the handler again",
	}
	if d := cmp.Diff(want, problems); d != "" {
		t.Error(d)
	}
}

func FuzzPins(f *testing.F) {
	f.Add([]byte("# x\n" + strings.Repeat("a", 64) + "  echo\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		pins, _ := parsePins("FILE", b)
		for name, sum := range pins {
			if !IsChecksum(sum) || name == "" || strings.Contains(name, "/") {
				t.Fatalf("pin %q %q", name, sum)
			}
		}
	})
}
