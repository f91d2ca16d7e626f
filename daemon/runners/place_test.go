package runners

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

func TestWhereTheyAre(t *testing.T) {
	for cache, want := range map[string]string{"": "/state/sdk", "/cache": "/cache/sdk", "/cache:/other": "/cache/sdk"} {
		if got := For("/state", cache).Dir; got != want {
			t.Errorf("with the cache %q they are in %s, want %s", cache, got, want)
		}
	}
}

// A handler may have another user than the daemon, and must read what runs it.
func TestEverybodyMayReadThem(t *testing.T) {
	defer unix.Umask(unix.Umask(0o077))
	r := Runners{Dir: filepath.Join(t.TempDir(), "sdk")}
	for range 2 { // the second time everything is there
		if err := r.Unpack(); err != nil {
			t.Fatal(err)
		}
	}
	files := 0
	err := filepath.WalkDir(r.Dir, func(path string, e os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		need := os.FileMode(0o044)
		if e.IsDir() {
			need = 0o055
		} else {
			files++
		}
		if info.Mode().Perm()&need != need || info.Mode().Perm()&0o022 != 0 {
			t.Errorf("%s has the mode %v", path, info.Mode())
		}
		return nil
	})
	if err != nil || files == 0 {
		t.Errorf("%d files, %v", files, err)
	}
}
