package catalog

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// TestPrivateGroup: what the group of its owner may write is trusted when nobody else is in that group. The owner is who
// runs the test; "me" and "mine" stand for the name and the number of the group.
func TestPrivateGroup(t *testing.T) {
	me := fmt.Sprintf("me:x:%d:%d::/home/me:/bin/sh\n", os.Getuid(), os.Getgid())
	mine := fmt.Sprintf("mine:x:%d:", os.Getgid())
	const eve = "eve:x:54321:54321::/:\n"
	for name, tt := range map[string]struct {
		passwd, group string
		trusted       bool
	}{
		"nobody is named":               {me + eve, mine, true},
		"the owner is named":            {me + eve, mine + "me", true},
		"the owner has two names":       {me + strings.Replace(me, "me", "too", 1), mine + "me,too", true},
		"somebody else is in it":        {me + eve, mine + "eve", false},
		"somebody else, too":            {me + eve, mine + "me,eve", false},
		"somebody that is not known":    {me, mine + "mallory", false},
		"it is the group of another":    {me + fmt.Sprintf("eve:x:54321:%d::/:\n", os.Getgid()), mine, false},
		"it has a second line":          {me + eve, mine + "\n" + mine + "eve", false},
		"nobody is in it":               {fmt.Sprintf("me:x:%d:54321::/:\n", os.Getuid()), mine, false},
		"the owner is only named":       {fmt.Sprintf("me:x:%d:54321::/:\n", os.Getuid()), mine + "me", true},
		"the group is not known":        {me, "other:x:54321:", false},
		"the owner is not known":        {eve, mine, false},
		"there are no files":            {"", "", false},
		"the files hold something else": {"me\n:::\n\x00", "::::\nmine", false},
	} {
		t.Run(name, func(t *testing.T) {
			dir := plugins(t)
			file(t, filepath.Join(dir, "echo"), elf(""), 0o775)
			file(t, filepath.Join(dir, "echo.agent-card.json"), "{}", 0o664)
			if err := os.Chmod(dir, 0o775); err != nil {
				t.Fatal(err)
			}
			found, skipped := (&Scanner{accounts: etc(t, tt.passwd, tt.group)}).Scan([]string{dir})
			if tt.trusted && (len(found) != 1 || found[0].CardPath == "" || len(skipped) != 0) || !tt.trusted && (len(found) != 0 || len(skipped) != 1) {
				t.Errorf("found %v, skipped %v", found, skipped)
			}
			if err := os.Chmod(dir, 0o777); err != nil {
				t.Fatal(err)
			}
			if found, _ := (&Scanner{accounts: etc(t, tt.passwd, tt.group)}).Scan([]string{dir}); len(found) != 0 {
				t.Error("a directory that everybody may write is trusted")
			}
		})
	}
}

// With an access control list the permission of the group may be that of somebody else.
func TestPrivateGroupWithAccessList(t *testing.T) {
	dir := plugins(t)
	file(t, filepath.Join(dir, "echo"), elf(""), 0o755)
	var b []byte
	entry := func(tag, perm uint16, id uint32) {
		b = append(b, byte(tag), byte(tag>>8), byte(perm), 0, byte(id), byte(id>>8), byte(id>>16), byte(id>>24))
	}
	b = append(b, 2, 0, 0, 0)
	const none = ^uint32(0)
	entry(0x01, 7, none)  // the owner
	entry(0x02, 7, 54321) // eve
	entry(0x04, 5, none)  // the group
	entry(0x10, 7, none)  // the mask, which is what the mode shows
	entry(0x20, 5, none)  // others
	if err := unix.Setxattr(dir, "system.posix_acl_access", b, 0); err != nil {
		t.Skip("machine: the file system knows no access control lists")
	}
	me := fmt.Sprintf("me:x:%d:%d::/home/me:/bin/sh\neve:x:54321:54321::/:\n", os.Getuid(), os.Getgid())
	found, skipped := (&Scanner{accounts: etc(t, me, fmt.Sprintf("mine:x:%d:", os.Getgid()))}).Scan([]string{dir})
	if len(found) != 0 || len(skipped) != 1 || !strings.Contains(skipped[0].Reason, "may be written") {
		t.Errorf("found %v, skipped %v", found, skipped)
	}
}

// A scanner that only warns takes what others may change, and says so once for each directory.
func TestWarnOnly(t *testing.T) {
	dir := plugins(t)
	file(t, filepath.Join(dir, "echo"), elf(""), 0o777)
	file(t, filepath.Join(dir, "fine"), elf(""), 0o755)
	file(t, filepath.Join(dir, "echo.agent-card.json"), "{}", 0o666)
	file(t, filepath.Join(dir, "text"), "no program", 0o755)
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	found, skipped := (&Scanner{WarnOnly: true}).Scan([]string{dir})
	if len(found) != 2 || found[0].CardPath == "" {
		t.Errorf("found %v", found)
	}
	want := []string{
		"true: blocksd run does not use DIR because DIR may be written by its group or by others (mode 0777): chmod go-w it",
		"true: blocksd run does not use DIR/echo because DIR/echo may be written by its group or by others (mode 0777): chmod go-w it",
		"true: blocksd run does not use DIR/echo.agent-card.json because DIR/echo.agent-card.json may be written by its group or by others (mode 0666): chmod go-w it",
		"false: handler DIR/text is not loaded because it is not a program: it begins neither like an ELF file nor with #!",
	}
	var got []string
	for _, s := range skipped {
		got = append(got, strings.ReplaceAll(fmt.Sprintf("%v: %s", s.Used, s.Reason), dir, "DIR"))
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s", strings.Join(got, "\n"))
	}
}

// A program that the configuration names is held to the same rule as one in a plugins directory.
func TestConfiguredPrograms(t *testing.T) {
	base := t.TempDir()
	program, open, fifo := filepath.Join(base, "p"), filepath.Join(base, "open"), filepath.Join(base, "fifo")
	for _, err := range []error{
		os.WriteFile(program, []byte("#!/bin/sh\n"), 0o755), os.WriteFile(open, []byte("#!/bin/sh\n"), 0o755), os.Chmod(open, 0o757),
		syscall.Mkfifo(fifo, 0o755), os.Symlink(open, filepath.Join(base, "link")), os.Mkdir(filepath.Join(base, "d"), 0o777), os.Chmod(filepath.Join(base, "d"), 0o777),
		os.WriteFile(filepath.Join(base, "d", "p"), []byte("#!/bin/sh\n"), 0o755),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for path, want := range map[string]string{
		program: "", filepath.Join(base, "nothing"): "", open: "may be written by its group or by others", filepath.Join(base, "link"): "may be written by its group or by others",
		filepath.Join(base, "d", "p"): "may be written by its group or by others", fifo: "is not a file",
	} {
		skip, found := new(Scanner).Check("h", path)
		if found != (want != "") || !strings.Contains(skip.Reason, want) || found && (skip.Used || skip.Name != "h" || skip.Path != path) {
			t.Errorf("%s: %+v", path, skip)
		}
	}
	if skip, found := (&Scanner{WarnOnly: true}).Check("h", open); !found || !skip.Used {
		t.Errorf("only a warning: %+v", skip)
	}
}

// What is no ordinary file, or claims to be endless, is not read.
func TestHashRefuses(t *testing.T) {
	base := t.TempDir()
	fifo, giant := filepath.Join(base, "fifo"), filepath.Join(base, "giant")
	f, err := os.Create(giant)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := errors.Join(syscall.Mkfifo(fifo, 0o644), f.Truncate(1<<40)); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{fifo: "it is not a file", "/dev/zero": "it is not a file", base: "it is not a file", giant: "a program may have 4294967296"} {
		if _, err := Hash(path); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", path, err)
		}
	}
}
