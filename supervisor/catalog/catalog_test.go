package catalog

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// plugins makes a directory with modes that do not depend on the umask.
func plugins(t *testing.T) string {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for at := dir; strings.Contains(at, t.Name()); at = filepath.Dir(at) {
		if err := os.Chmod(at, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func file(t *testing.T, path, content string, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
}

func TestScan(t *testing.T) {
	dir := plugins(t)
	in := func(name string) string { return filepath.Join(dir, name) }
	file(t, in("echo"), "\x7fELF", 0o755)
	file(t, in("echo.agent-card.json"), "{}", 0o644)
	file(t, in("bare"), "#!/bin/sh\n", 0o700)
	file(t, in(".hidden"), "#!", 0o755)
	file(t, in("new.tmp"), "#!", 0o755)
	file(t, in("README"), "text", 0o644)
	file(t, in("forgotten"), "\x7fELF", 0o644)
	file(t, in("open"), "#!", 0o775)
	file(t, in("worse"), "#!", 0o707)
	file(t, in("odd"), "#!", 0o755)
	file(t, in("odd.agent-card.json"), "{}", 0o666)
	if err := os.Mkdir(in("sub"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(in("nowhere"), in("dangling")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/tmp", in("linkdir")); err != nil {
		t.Fatal(err)
	}
	second := filepath.Join(dir, "sub")
	file(t, filepath.Join(second, "echo"), "#!", 0o755)

	found, skipped, err := Scan([]string{dir, second})
	if err != nil {
		t.Fatal(err)
	}
	for i := range found {
		sum := sha256.Sum256([]byte(map[string]string{"echo": "\x7fELF", "bare": "#!/bin/sh\n", "odd": "#!"}[found[i].Name]))
		if found[i].SHA256 != hex.EncodeToString(sum[:]) {
			t.Errorf("%s has checksum %s", found[i].Name, found[i].SHA256)
		}
		found[i].SHA256 = ""
	}
	want := []Found{
		{Name: "bare", Path: in("bare")},
		{Name: "echo", Path: in("echo"), CardPath: in("echo.agent-card.json")},
		{Name: "odd", Path: in("odd")},
	}
	if d := cmp.Diff(want, found); d != "" {
		t.Errorf("found (-want +got):\n%s", d)
	}
	reasons := map[string]string{
		"dangling":  "handler DIR/dangling is not loaded because the link leads nowhere",
		"forgotten": "handler DIR/forgotten is not loaded because it is not executable: chmod 0755 it, or remove it",
		"odd.agent-card.json": "card DIR/odd.agent-card.json is not used because DIR/odd.agent-card.json may be written by its group or by others (mode 0666): " +
			"chmod go-w it",
		"open":     "handler DIR/open is not loaded because DIR/open may be written by its group or by others (mode 0775): chmod go-w it",
		"worse":    "handler DIR/worse is not loaded because DIR/worse may be written by its group or by others (mode 0707): chmod go-w it",
		"sub/echo": "handler DIR/sub/echo is not loaded because DIR/echo has the same name and comes first",
	}
	got := map[string]string{}
	for _, s := range skipped {
		got[strings.TrimPrefix(s.Path, dir+"/")] = strings.ReplaceAll(s.Reason, dir, "DIR")
	}
	if d := cmp.Diff(reasons, got); d != "" {
		t.Errorf("skipped (-want +got):\n%s", d)
	}
}

func TestUntrustedDirectories(t *testing.T) {
	dir := plugins(t)
	open := filepath.Join(dir, "open")
	deep := filepath.Join(open, "deep")
	if err := os.MkdirAll(deep, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(open, 0o777); err != nil {
		t.Fatal(err)
	}
	file(t, filepath.Join(deep, "echo"), "#!", 0o755)
	for _, d := range []string{open, deep} {
		found, skipped, err := Scan([]string{d})
		if err != nil || len(found) != 0 || len(skipped) != 1 || !strings.Contains(skipped[0].Reason, open+" may be written") {
			t.Errorf("%s: %v %v %v", d, found, skipped, err)
		}
	}
	// a sticky directory that belongs to root may be above, but may not be the directory itself
	if os.Getuid() == 0 {
		if err := os.Chmod(open, 0o777|os.ModeSticky); err != nil {
			t.Fatal(err)
		}
		if found, skipped, err := Scan([]string{deep}); err != nil || len(found) != 1 || len(skipped) != 0 {
			t.Errorf("below sticky: %v %v %v", found, skipped, err)
		}
		if found, _, _ := Scan([]string{open}); len(found) != 0 {
			t.Errorf("sticky itself: %v", found)
		}
		if err := os.Chown(filepath.Join(deep, "echo"), 12345, -1); err != nil {
			t.Fatal(err)
		}
		if found, skipped, _ := Scan([]string{deep}); len(found) != 0 || len(skipped) != 1 || !strings.Contains(skipped[0].Reason, "belongs to user 12345") {
			t.Errorf("foreign owner: %v %v", found, skipped)
		}
	}
}

func TestMissingDirectory(t *testing.T) {
	_, _, err := Scan([]string{"/nowhere/plugins"})
	want := "read plugins directory /nowhere/plugins: no such file or directory; create it, or remove it from the configuration"
	if err == nil || err.Error() != want {
		t.Errorf("error %v", err)
	}
}
