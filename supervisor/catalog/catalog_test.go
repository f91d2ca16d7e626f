package catalog

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"slices"
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

// elf is the beginning of a program for this machine.
func elf(rest string) string {
	m := machines[runtime.GOARCH]
	head := make([]byte, 20)
	copy(head, "\x7fELF")
	head[4], head[5] = m.bits, 1
	binary.LittleEndian.PutUint16(head[16:], 2)
	binary.LittleEndian.PutUint16(head[18:], m.number)
	return string(head) + rest
}

// foreign is the beginning of a program for a machine that this one is not.
func foreign() string {
	head := []byte(elf(""))
	binary.LittleEndian.PutUint16(head[18:], machines["s390x"].number)
	return string(head)
}

// etc makes accounts of the contents of two files.
func etc(t *testing.T, passwd, group string) accounts {
	t.Helper()
	dir := t.TempDir()
	a := accounts{passwd: filepath.Join(dir, "passwd"), group: filepath.Join(dir, "group")}
	file(t, a.passwd, passwd, 0o644)
	file(t, a.group, group, 0o644)
	return a
}

func TestScan(t *testing.T) {
	dir := plugins(t)
	in := func(name string) string { return filepath.Join(dir, name) }
	file(t, in("echo"), elf(""), 0o755)
	file(t, in("echo.agent-card.json"), "{}", 0o644)
	file(t, in("bare"), "#!/bin/sh\n", 0o700)
	file(t, in(".hidden"), "#!", 0o755)
	file(t, in("new.tmp"), "#!", 0o755)
	file(t, in("README"), "text", 0o644)
	file(t, in("forgotten"), "\x7fELF", 0o644)
	file(t, in("open"), "#!", 0o775)
	file(t, in("text"), "just text\n", 0o755)
	file(t, in("empty"), "", 0o755)
	file(t, in("marked"), "\xef\xbb\xbf#!/bin/sh\n", 0o755)
	file(t, in("endless"), "#!/usr/bin/env -S \r\necho\n", 0o755)
	file(t, in("wide"), "\xff\xfe#\x00!\x00", 0o755)
	file(t, in("half"), "\x7fELF\x02", 0o755)
	file(t, in("foreign"), foreign(), 0o755)
	file(t, in("zipapp"), "#!/usr/bin/python3\nPK\x03\x04", 0o755)
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

	found, skipped := (&Scanner{accounts: etc(t, "root:x:0:0::/:\nann:x:12345:12345::/:", "root:x:0:ann\nann:x:12345:")}).Scan([]string{dir, second})
	for i := range found {
		sum := sha256.Sum256([]byte(map[string]string{"echo": elf(""), "bare": "#!/bin/sh\n", "odd": "#!", "zipapp": "#!/usr/bin/python3\nPK\x03\x04"}[found[i].Name]))
		if found[i].SHA256 != hex.EncodeToString(sum[:]) {
			t.Errorf("%s has checksum %s", found[i].Name, found[i].SHA256)
		}
		if found[i].Dir != dir || found[i].Root != dir {
			t.Errorf("%s was found in %s, %s", found[i].Name, found[i].Root, found[i].Dir)
		}
		found[i].SHA256, found[i].Root, found[i].Dir = "", "", ""
	}
	want := []Found{
		{Name: "bare", Path: in("bare"), Kind: Script},
		{Name: "echo", Path: in("echo"), Kind: Elf, CardPath: in("echo.agent-card.json")},
		{Name: "odd", Path: in("odd"), Kind: Script},
		{Name: "zipapp", Path: in("zipapp"), Kind: Zipapp},
	}
	if d := cmp.Diff(want, found); d != "" {
		t.Errorf("found (-want +got):\n%s", d)
	}
	reasons := map[string]string{
		"dangling":  "handler DIR/dangling is not loaded because the link leads nowhere",
		"forgotten": "handler DIR/forgotten is not loaded because it is not executable: chmod 0755 it, or remove it",
		"odd.agent-card.json": "card DIR/odd.agent-card.json is not used because DIR/odd.agent-card.json may be written by its group or by others (mode 0666): " +
			"chmod go-w it",
		"text":     "handler DIR/text is not loaded because it is not a program: it begins neither like an ELF file nor with #!",
		"marked":   "handler DIR/marked is not loaded because it begins with a byte order mark, so the kernel does not see its #!: save it without one",
		"endless":  "handler DIR/endless is not loaded because its first line has /usr/bin/env run no program, and so the file itself without an end: name the program behind it, such as #!/usr/bin/env python3",
		"wide":     "handler DIR/wide is not loaded because it is encoded in UTF-16, so the kernel does not see its #!: save it as UTF-8",
		"empty":    "handler DIR/empty is not loaded because it is empty",
		"half":     "handler DIR/half is not loaded because it is only the beginning of a program: copy the whole file",
		"foreign":  "handler DIR/foreign is not loaded because it is a program for IBM Z, and this machine is MACHINE: build it for this machine (GOOS=linux GOARCH=" + runtime.GOARCH + ")",
		"open":     "handler DIR/open is not loaded because DIR/open may be written by its group or by others (mode 0775): chmod go-w it",
		"worse":    "handler DIR/worse is not loaded because DIR/worse may be written by its group or by others (mode 0707): chmod go-w it",
		"sub/echo": "handler DIR/sub/echo is not loaded because DIR/echo has the same name and comes first",
	}
	got := map[string]string{}
	for _, s := range skipped {
		got[strings.TrimPrefix(s.Path, dir+"/")] = strings.ReplaceAll(strings.ReplaceAll(s.Reason, dir, "DIR"), machines[runtime.GOARCH].name, "MACHINE")
		if want := filepath.Base(s.Path); s.Name != want && s.Name != "" {
			t.Errorf("%s is skipped as handler %q", s.Path, s.Name)
		}
	}
	if d := cmp.Diff(reasons, got); d != "" {
		t.Errorf("skipped (-want +got):\n%s", d)
	}
}

// A script whose interpreter line is env without a program is refused before it starts, whatever options env has.
func TestEndlessScripts(t *testing.T) {
	for line, want := range map[string]bool{
		"/usr/bin/env": true, "/usr/bin/env ": true, " /usr/bin/env -S": true, "/usr/bin/env -i\r": true, "env -": true,
		"/usr/bin/env python3": false, "/usr/bin/env -S python3 -u": false, "/usr/bin/env -Spython3": false, "/usr/bin/environment": false, "/bin/sh": false,
	} {
		kind, reason := classify([]byte("#!" + line + "\n"))
		if kind != Script || strings.Contains(reason, "without an end") != want {
			t.Errorf("%q: %q", line, reason)
		}
	}
}

// What was left beside a program is no handler, and is not reported either.
func TestLeftovers(t *testing.T) {
	dir := plugins(t)
	for _, name := range []string{
		"echo.old", "echo.bak", "echo.BAK", "echo~", "echo.orig", "echo.dpkg-old", "echo.dpkg-dist", "echo.dpkg-tmp", "echo.ucf-old", "echo.rpmsave", "echo.rpmnew",
		"echo.rpmorig", "echo.pacsave", "libecho.so", "libecho.so.1", "libecho.so.1.2", ".echo.swp", "#echo#", "echo.tmp", "echo.new", "echo.~1~", "echo.save", "echo.prev",
		"echo.disabled", "echo.old2", "echo.bak.1", "echo.save.12", "echo.orig-2", "echo.crdownload", "echo (copy)", "echo (another copy)",
		"4913", "5036", "echo___jb_tmp___", "~$echo",
	} {
		file(t, filepath.Join(dir, name), elf(name), 0o755)
	}
	names := []string{"echo", "echo-1.0", "echo.v2", "echo2", "old", "old2", "new.sh", "so", "model.a1", "echo.py", "sol", "bakery", "4912", "4914", "12345"}
	for _, name := range names {
		file(t, filepath.Join(dir, name), "#!/bin/sh\n", 0o755)
	}
	found, skipped := new(Scanner).Scan([]string{dir})
	var got []string
	for _, f := range found {
		got = append(got, f.Name)
	}
	slices.Sort(names)
	if d := cmp.Diff(names, got); d != "" || len(skipped) > 0 {
		t.Errorf("found (-want +got):\n%sskipped %v", d, skipped)
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
		found, skipped := new(Scanner).Scan([]string{d})
		if len(found) != 0 || len(skipped) != 1 || !strings.Contains(skipped[0].Reason, open+" may be written") {
			t.Errorf("%s: %v %v", d, found, skipped)
		}
	}
	t.Run("of root", func(t *testing.T) {
		if os.Geteuid() != 0 {
			t.Skip("machine: the tests do not run as root, so no other user can be had")
		}
		// a sticky directory that belongs to root may be above, but may not be the directory itself
		if err := os.Chmod(open, 0o777|os.ModeSticky); err != nil {
			t.Fatal(err)
		}
		if found, skipped := new(Scanner).Scan([]string{deep}); len(found) != 1 || len(skipped) != 0 {
			t.Errorf("below sticky: %v %v", found, skipped)
		}
		if found, _ := new(Scanner).Scan([]string{open}); len(found) != 0 {
			t.Errorf("sticky itself: %v", found)
		}
		if err := os.Chown(filepath.Join(deep, "echo"), 12345, -1); err != nil {
			t.Fatal(err)
		}
		if found, skipped := new(Scanner).Scan([]string{deep}); len(found) != 0 || len(skipped) != 1 || !strings.Contains(skipped[0].Reason, "belongs to user 12345") {
			t.Errorf("foreign owner: %v %v", found, skipped)
		}
	})
}

// A directory that is a link keeps its name, wherever it leads, and also when it leads nowhere.
func TestLinkedDirectory(t *testing.T) {
	dir := plugins(t)
	root, to := filepath.Join(dir, "link"), filepath.Join(dir, "to")
	if err := errors.Join(os.Mkdir(to, 0o755), os.Symlink("to", root)); err != nil {
		t.Fatal(err)
	}
	file(t, filepath.Join(to, "echo"), elf(""), 0o755)
	found, skipped := new(Scanner).Scan([]string{root})
	if len(found) != 1 || found[0].Root != root || found[0].Dir != to || len(skipped) != 0 {
		t.Errorf("found %v, skipped %v", found, skipped)
	}
	if err := os.Chmod(to, 0o777); err != nil {
		t.Fatal(err)
	}
	if _, skipped := new(Scanner).Scan([]string{root}); len(skipped) != 1 || skipped[0].Path != root {
		t.Errorf("writable by all: %v", skipped)
	}
	if err := os.RemoveAll(to); err != nil {
		t.Fatal(err)
	}
	if _, skipped := new(Scanner).Scan([]string{root}); len(skipped) != 1 || skipped[0].Path != root {
		t.Errorf("leads nowhere: %v", skipped)
	}
}

func TestMissingDirectory(t *testing.T) {
	_, skipped := new(Scanner).Scan([]string{"/nowhere/plugins"})
	want := []Skip{{Path: "/nowhere/plugins", Reason: "plugins directory /nowhere/plugins is not used because it cannot be read: no such file or directory; create it, or remove it from the configuration"}}
	if d := cmp.Diff(want, skipped); d != "" {
		t.Error(d)
	}
}

// A file that was changed is read again, also when it has kept its size.
func TestScannerSeesChanges(t *testing.T) {
	dir := plugins(t)
	path := filepath.Join(dir, "h")
	var sc Scanner
	for _, content := range []string{elf("1"), elf("2"), elf("3")} {
		file(t, path, content, 0o755)
		for range 2 {
			found, _ := sc.Scan([]string{dir})
			if sum := sha256.Sum256([]byte(content)); len(found) != 1 || found[0].SHA256 != hex.EncodeToString(sum[:]) {
				t.Fatalf("found %v", found)
			}
		}
	}
}

func FuzzClassify(f *testing.F) {
	for _, seed := range []string{elf(""), foreign(), "\x7fELF", "#!/bin/sh\n", "#!python\nPK\x03\x04", "", "text"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, head []byte) {
		kind, reason := classify(head)
		if kind == 0 && reason == "" {
			t.Fatal("neither a kind nor a reason")
		}
	})
}
