package runners

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestUnpack: the SDKs are there as they are in the program, what was installed beside them stays, and what is there
// already is not written again.
func TestUnpack(t *testing.T) {
	r := Runners{Dir: filepath.Join(t.TempDir(), DirName)}
	if err := r.Unpack(); err != nil {
		t.Fatal(err)
	}
	for name, files := range sdks {
		if err := fs.WalkDir(files, ".", func(path string, e fs.DirEntry, err error) error {
			if err != nil || e.IsDir() {
				return err
			}
			want, err := fs.ReadFile(files, path)
			if err != nil {
				return err
			}
			if got, err := os.ReadFile(filepath.Join(r.Dir, name, path)); err != nil || string(got) != string(want) {
				t.Errorf("%s/%s is not as in the program: %v", name, path, err)
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	installed, changed, same := filepath.Join(r.Dir, "node", "node_modules", "x"), filepath.Join(r.Dir, "python", "run.py"), filepath.Join(r.Dir, "node", "run.mjs")
	if err := os.MkdirAll(filepath.Dir(installed), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{installed, changed} {
		if err := os.WriteFile(path, []byte("else"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	long := time.Unix(1_700_000_000, 0)
	if err := os.Chtimes(same, long, long); err != nil {
		t.Fatal(err)
	}
	if err := r.Unpack(); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(installed); err != nil || string(b) != "else" {
		t.Errorf("what was installed is %q, %v", b, err)
	}
	if b, err := os.ReadFile(changed); err != nil || string(b) == "else" {
		t.Errorf("a changed file stays: %v", err)
	}
	if info, err := os.Stat(same); err != nil || !info.ModTime().Equal(long) {
		t.Errorf("a file that is right was written again: %v", err)
	}
}

// TestUnpackRefused: the sentence says what was to be unpacked where.
func TestUnpackRefused(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	err := Runners{Dir: file}.Unpack()
	if err == nil || !strings.Contains(err.Error(), "unpack the SDK for ") || !strings.Contains(err.Error(), file) {
		t.Errorf("unpacked into a file: %v", err)
	}
}

// TestAll: each ending of a file has one runner, and what a runner starts is in the program or said to be missing.
func TestAll(t *testing.T) {
	r := Runners{Dir: t.TempDir()}
	if err := r.Unpack(); err != nil {
		t.Fatal(err)
	}
	seen := map[string]string{}
	for _, runner := range r.All() {
		if runner.Missing == "" || runner.Interpreter == "" {
			t.Errorf("%s says nothing of what is missing", runner.Language)
		}
		for _, extension := range runner.Extensions {
			if other := seen[extension]; other != "" {
				t.Errorf("%s is for %s and for %s", extension, other, runner.Language)
			}
			seen[extension] = runner.Language
		}
		for _, path := range runner.Needed {
			if _, err := os.Stat(path); err != nil {
				t.Errorf("%s needs %v", runner.Language, err)
			}
		}
		args := runner.Args("/project", "/project/handler", "serve")
		if !slices.ContainsFunc(args, func(a string) bool { return strings.HasPrefix(a, "/project") }) {
			t.Errorf("%s is not told of the project: %q", runner.Language, args)
		}
		if strings.HasPrefix(args[0], r.Dir) {
			if _, err := os.Stat(args[0]); err != nil {
				t.Errorf("%s starts %v", runner.Language, err)
			}
		}
	}
}
