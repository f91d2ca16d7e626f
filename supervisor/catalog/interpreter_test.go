package catalog

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestWhyNotStarted starts what cannot be started: the sentence names what the kernel meant.
func TestWhyNotStarted(t *testing.T) {
	dir := plugins(t)
	in := func(name string) string { return filepath.Join(dir, name) }
	file(t, in("foreign"), foreign(), 0o755)
	file(t, in("plain"), "#!/bin/sh\n", 0o644)
	file(t, in("broken"), "#!/nowhere/sh\n", 0o755)
	file(t, in("windows"), "#!/bin/sh\r\n", 0o755)
	for name, tt := range map[string]struct {
		content, dir, want string
	}{
		"carriage return":               {"#!/bin/sh\r\necho x\r\n", "", `its first line ends with a carriage return, as in files of Windows, so it names "/bin/sh\r", which does not exist: save the file with the line ends of Unix (sed -i 's/\r$//')`},
		"carriage return, last line":    {"#!/bin/sh\r", "", `its first line ends with a carriage return, as in files of Windows, so it names "/bin/sh\r", which does not exist: save the file with the line ends of Unix (sed -i 's/\r$//')`},
		"missing interpreter":           {"#!/usr/bin/python9 -u\n", "", "its first line names the interpreter /usr/bin/python9, which does not exist: install it, or correct the line"},
		"spaces before the interpreter": {"#! \t/usr/bin/python9\n", "", "its first line names the interpreter /usr/bin/python9, which does not exist: install it, or correct the line"},
		"interpreter without a path":    {"#!python3\n", "", "its first line names the interpreter python3, which is not the whole path of a program: write the path, or #!/usr/bin/env python3"},
		"directory as interpreter":      {"#!/usr\n", "", "its first line names the interpreter /usr, which is not a file: correct the line"},
		"file as directory":             {"#!" + in("plain") + "/sh\n", "", "its first line names the interpreter " + in("plain") + "/sh, which cannot be used: not a directory"},
		"interpreter is not executable": {"#!" + in("plain") + "\n", "", "its first line names the interpreter " + in("plain") + ", which is not executable: chmod 0755 it, or correct the line"},
		"interpreter of a script":       {"#!" + in("broken") + "\n", "", "its first line names the interpreter " + in("broken") + ", which cannot be run: the first line of " + in("broken") + " names the interpreter /nowhere/sh, which does not exist: install it, or correct the line"},
		"carriage return in a script":   {"#!" + in("windows") + "\n", "", "its first line names the interpreter " + in("windows") + ", which cannot be run: the first line of " + in("windows") + " ends with a carriage return"},
		"another machine's interpreter": {"#!" + in("foreign") + "\n", "", "its first line names the interpreter " + in("foreign") + ", which cannot be run: it is a program for IBM Z, and this machine is"},
		"nothing behind #!":             {"#!\necho\n", "", "its first line names no interpreter behind #!"},
		"only spaces behind #!":         {"#!   \necho\n", "", "its first line names no interpreter behind #!"},
		"too long a line":               {"#!/" + strings.Repeat("x", 400) + "\n", "", "its first line is longer than the 256 bytes that the kernel reads of it"},
		"no working directory":          {"#!/bin/sh\n", "/nowhere/dir", "its working directory /nowhere/dir cannot be used: no such file or directory"},
		"a file as working directory":   {"#!/bin/sh\n", in("plain"), "its working directory " + in("plain") + " is not a directory"},
		"loader":                        {withLoader(t, "/lib/ld-nowhere.so.1"), "", "it needs the loader /lib/ld-nowhere.so.1, which does not exist on this machine: build it for the C library that is here, or without one (CGO_ENABLED=0)"},
	} {
		t.Run(name, func(t *testing.T) {
			if tt.content == "" {
				t.Skip("machine: there is no dynamically linked program")
			}
			path := in("handler")
			file(t, path, tt.content, 0o755)
			cmd := exec.Command(path)
			cmd.Dir = tt.dir
			var errno syscall.Errno
			if err := cmd.Run(); !errors.As(err, &errno) {
				t.Fatalf("it ended with %v", err)
			}
			if got := (Start{Path: path, Dir: tt.dir}).WhyNotStarted(errno); !strings.HasPrefix(got, tt.want) {
				t.Errorf("%v: got %q\nwant %q", errno, got, tt.want)
			}
		})
	}
}

// withLoader returns a program of this machine with another loader, "" if there is none.
func withLoader(t *testing.T, loader string) string {
	t.Helper()
	b, err := os.ReadFile("/bin/true")
	if err != nil {
		return ""
	}
	for _, old := range []string{"/lib64/ld-linux-x86-64.so.2", "/lib/ld-linux-aarch64.so.1", "/lib/ld-musl-x86_64.so.1"} {
		if text := string(b); strings.Contains(text, old+"\x00") {
			return strings.Replace(text, old, loader+strings.Repeat("\x00", len(old)-len(loader)), 1)
		}
	}
	return ""
}

// Where the interpreter is all right, the handler may not be allowed to open it.
func TestWhyNotStartedOfGuarded(t *testing.T) {
	dir := plugins(t)
	path, tool := filepath.Join(dir, "handler"), filepath.Join(dir, "tool")
	file(t, tool, elf(""), 0o755)
	file(t, path, "#!"+tool+" -x\n", 0o755)
	want := "its first line names the interpreter " + tool + ", which is outside its read_paths: add " + dir + " to them"
	if got := (Start{Path: path, Guarded: true}).WhyNotStarted(syscall.EACCES); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	for _, errno := range []syscall.Errno{syscall.EACCES, syscall.EAGAIN, syscall.ENOMEM} {
		if got := (Start{Path: path}).WhyNotStarted(errno); got != "" {
			t.Errorf("%v: %q", errno, got)
		}
	}
	closed := filepath.Join(dir, "closed")
	if err := os.Mkdir(closed, 0o700); err != nil {
		t.Fatal(err)
	}
	file(t, filepath.Join(closed, "tool"), elf(""), 0o755)
	if err := os.Symlink(filepath.Join(closed, "tool"), filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	file(t, path, "#!"+filepath.Join(dir, "link")+"\n", 0o755)
	want = "its first line names the interpreter " + filepath.Join(dir, "link") + ", which the user of the handler may not execute: let others pass " + closed + ", or name another one"
	if got := (Start{Path: path}).WhyNotStarted(syscall.EACCES); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := (Start{Path: "/nowhere", Guarded: true}).WhyNotStarted(syscall.ENOENT); got != "" {
		t.Errorf("of nothing: %q", got)
	}
}

// A file system from which nothing may be executed.
func TestWhyNotStartedNoexec(t *testing.T) {
	dir, err := os.MkdirTemp("/dev/shm", "noexec")
	if err != nil || !noexec(dir) {
		t.Skip("machine: /dev/shm is not mounted noexec")
	}
	defer os.RemoveAll(dir)
	tool, path := filepath.Join(dir, "tool"), filepath.Join(plugins(t), "handler")
	file(t, tool, "#!/bin/sh\n", 0o755)
	if got := (Start{Path: tool}).WhyNotStarted(syscall.EACCES); got != tool+" is on a file system that is mounted noexec: move it to another one" {
		t.Error(got)
	}
	file(t, path, "#!"+tool+"\n", 0o755)
	if got := (Start{Path: path}).WhyNotStarted(syscall.EACCES); got != "its first line names the interpreter "+tool+", which is on a file system that is mounted noexec: name another one" {
		t.Error(got)
	}
}

// What env does not find is seen only when it ends.
func TestWhyEnded(t *testing.T) {
	dir := plugins(t)
	path, closed := filepath.Join(dir, "handler"), filepath.Join(dir, "closed")
	if err := os.Mkdir(closed, 0o755); err != nil {
		t.Fatal(err)
	}
	file(t, filepath.Join(closed, "python9c"), "#!/bin/sh\n", 0o755)
	if err := os.Chmod(closed, 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", os.Getenv("PATH")+":"+closed)
	for _, tt := range []struct {
		content string
		code    int
		guarded bool
		want    string
	}{
		{"#!/usr/bin/env python9\n", 127, false, "its first line has /usr/bin/env look for python9, which is not in its PATH: install it, or write its path into the line"},
		{"#!/usr/bin/env -S A=b python9 -u\n", 127, false, "its first line has /usr/bin/env look for python9, which is not in its PATH: install it, or write its path into the line"},
		{"#!/usr/bin/env sh\r\n", 127, false, `its first line ends with a carriage return, as in files of Windows, so it names "sh\r", which does not exist: save the file`},
		{"#!/usr/bin/env sh\n", 126, true, "its first line has /usr/bin/env look for sh, which may be outside its read_paths: add its directory to them"},
		{"#!/usr/bin/env python9\n", 126, false, "its first line has /usr/bin/env look for python9, which is not in its PATH: install it"}, // a directory there is closed to the handler
		{"#!/usr/bin/env python9c\n", 126, false, "its first line has /usr/bin/env look for python9c, which the user of the handler may not execute: let others pass " + closed},
		{"#!/usr/bin/env -i python9\n", 125, false, `its first line gives /usr/bin/env all of "-i python9" as one word: begin that with -S, which splits it`},
		{"#!/usr/bin/env python9 -u\n", 127, false, `its first line gives /usr/bin/env all of "python9 -u" as one word: begin that with -S`},
		{"#!/usr/bin/env -S -Z python9\n", 125, false, ""},
		{"#!/usr/bin/env sh\n", 1, false, ""},
		{"#!/bin/sh\n", 127, false, ""},
		{"#!/usr/bin/env\n", 127, false, ""},
		{elf(""), 127, false, ""},
	} {
		file(t, path, tt.content, 0o755)
		got := (Start{Path: path, Guarded: tt.guarded}).WhyEnded(tt.code)
		if !strings.HasPrefix(got, tt.want) || tt.want == "" && got != "" {
			t.Errorf("%q ends with %d: got %q, want %q", tt.content, tt.code, got, tt.want)
		}
	}
}

// What runs the files of a project may lead nowhere in many ways: an environment that was moved, a script that stands for it.
func TestWhyInterpreterFails(t *testing.T) {
	dir := plugins(t)
	own := Start{Path: filepath.Join(dir, ".venv/bin/python"), Dir: dir, Interpreter: true}
	other := Start{Path: "/shims/python3", Dir: dir, Interpreter: true}
	for got, want := range map[string]string{
		own.WhyEnded(127):                     "its interpreter " + own.Path + " leads to a program that is not there, or that handlers may not read: make the environment again, or remove it",
		own.WhyNotStarted(syscall.ENOEXEC):    "its interpreter " + own.Path + " cannot be run (exec format error): make the environment again, or remove it",
		other.WhyEnded(126):                   "its interpreter /shims/python3 leads to a program that is not there, or that handlers may not read: install it where handlers may read it, or let PATH name another one first",
		other.WhyEnded(1) + "of another code": "of another code",
	} {
		if got != want {
			t.Errorf("got  %q\nwant %q", got, want)
		}
	}
}

func FuzzInterpreterLine(f *testing.F) {
	for _, seed := range []string{"#!/bin/sh\n", "#!", "#! \t\r\n", "#!/usr/bin/env -S x=y z\n", "\xef\xbb\xbf#!/bin/sh"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, head []byte) {
		if line, ok := interpreterLine(head); ok && line.program == "" && line.broken() == "" {
			t.Fatal("no interpreter, and nothing is wrong")
		}
	})
}
