package daemon

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

func TestStateLock(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	first, err := lockState(dir)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("mode of the state directory %v, %v", info.Mode(), err)
	}
	_, err = lockState(dir)
	want := fmt.Sprintf("use state directory %s: the daemon with pid %d holds it: stop that one or choose another with --state-dir", dir, os.Getpid())
	if err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
	if err := first.release(); err != nil {
		t.Fatal(err)
	}
	second, err := lockState(dir)
	if err != nil {
		t.Fatalf("a released state directory is not free: %v", err)
	}
	if err := second.release(); err != nil {
		t.Fatal(err)
	}
}

func TestStateLockOnWhatIsNoDirectory(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := lockState(file)
	if want := "use state directory " + file + ": make it: not a directory: choose another with --state-dir"; err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
}
