package catalog

import (
	"bytes"
	debugelf "debug/elf"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// Start is a program that could not be started.
type Start struct {
	Path string
	// Dir is its working directory, "" for the root directory.
	Dir string
	// Guarded: it may open only the files in its read_paths and write_paths, and those of the system.
	Guarded bool
	// Interpreter: it is what runs the files of the project in Dir, and not the handler itself.
	Interpreter bool
}

// startErrors are those by which the kernel may mean something else than the program itself.
var startErrors = []syscall.Errno{syscall.ENOENT, syscall.EACCES, syscall.ENOEXEC, syscall.ENOTDIR, syscall.ELOOP}

// maxInterpreters is how many scripts the kernel follows from interpreter to interpreter.
const maxInterpreters = 5

// WhyNotStarted says what the kernel meant when it refused to execute a program: its interpreter, its loader, its working
// directory. It is the end of a sentence, "" when the error says it all.
func (s Start) WhyNotStarted(errno syscall.Errno) string {
	if !slices.Contains(startErrors, errno) {
		return ""
	}
	if s.Dir != "" {
		if info, err := os.Stat(s.Dir); err != nil {
			return fmt.Sprintf("its working directory %s cannot be used: %v", s.Dir, plain(err))
		} else if !info.IsDir() {
			return fmt.Sprintf("its working directory %s is not a directory", s.Dir)
		}
	}
	if s.Interpreter {
		return s.interpreter(fmt.Sprintf("cannot be run (%v)", errno))
	}
	return s.why(s.Path, errno, maxInterpreters)
}

// interpreter says what to do about an interpreter that does not get to the handler.
func (s Start) interpreter(how string) string {
	todo := "install it where handlers may read it, or let PATH name another one first"
	if in, err := filepath.Rel(s.Dir, s.Path); err == nil && filepath.IsLocal(in) {
		todo = "make the environment again, or remove it"
	}
	return fmt.Sprintf("its interpreter %s %s: %s", s.Path, how, todo)
}

// why looks at a program, and at what runs it.
func (s Start) why(path string, errno syscall.Errno, depth int) string {
	if errno == syscall.EACCES && noexec(path) {
		return fmt.Sprintf("%s is on a file system that is mounted noexec: move it to another one", path)
	}
	head, err := firstBytes(path)
	if err != nil {
		return ""
	}
	if bytes.HasPrefix(head, []byte("\x7fELF")) {
		return s.loader(path, errno)
	}
	line, ok := interpreterLine(head)
	if !ok {
		return ""
	}
	first := "its first line"
	if path != s.Path {
		first = "the first line of " + path
	}
	if reason := line.broken(); reason != "" {
		return first + " " + reason
	}
	what := fmt.Sprintf("%s names the interpreter %s", first, line.program)
	info, err := os.Stat(line.program)
	switch {
	case errors.Is(err, fs.ErrNotExist) && !filepath.IsAbs(line.program):
		return what + ", which is not the whole path of a program: write the path, or #!/usr/bin/env " + filepath.Base(line.program)
	case errors.Is(err, fs.ErrNotExist):
		return what + ", which does not exist: install it, or correct the line"
	case err != nil:
		return fmt.Sprintf("%s, which cannot be used: %v", what, plain(err))
	case !info.Mode().IsRegular():
		return what + ", which is not a file: correct the line"
	case info.Mode().Perm()&0o111 == 0:
		return what + ", which is not executable: chmod 0755 it, or correct the line"
	}
	if errno == syscall.EACCES && noexec(line.program) {
		return what + ", which is on a file system that is mounted noexec: name another one"
	}
	if _, reason := kindOf(line.program); reason != "" {
		return what + ", which cannot be run: " + reason
	}
	if depth == 0 {
		return what + ", which is a script of a script of a script: name a program"
	}
	if reason := s.why(line.program, errno, depth-1); reason != "" {
		return what + ", which cannot be run: " + reason
	}
	if errno == syscall.EACCES && s.Guarded {
		return fmt.Sprintf("%s, which is outside its read_paths: add %s to them", what, filepath.Dir(line.program))
	}
	if closed := closedToOthers(line.program); closed != "" && errno == syscall.EACCES {
		return fmt.Sprintf("%s, which the user of the handler may not execute: let others pass %s, or name another one", what, closed)
	}
	return ""
}

// closedToOthers is what on the way to a program, links followed, only some users may pass; "" when all may.
func closedToOthers(path string) string {
	path, err := filepath.EvalSymlinks(path)
	if err != nil {
		return ""
	}
	for at := path; ; at = filepath.Dir(at) {
		if info, err := os.Stat(at); err != nil || info.Mode().Perm()&0o001 == 0 {
			return at
		}
		if at == filepath.Dir(at) {
			return ""
		}
	}
}

// loader looks at the program that loads a dynamically linked one.
func (s Start) loader(path string, errno syscall.Errno) string {
	f, err := debugelf.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	for _, p := range f.Progs {
		if p.Type != debugelf.PT_INTERP {
			continue
		}
		b, err := io.ReadAll(io.LimitReader(p.Open(), maxPath))
		if err != nil {
			return ""
		}
		name := string(bytes.TrimRight(b, "\x00"))
		it := "it"
		if path != s.Path {
			it = path
		}
		if _, err := os.Stat(name); errors.Is(err, fs.ErrNotExist) {
			return fmt.Sprintf("%s needs the loader %s, which does not exist on this machine: build it for the C library that is here, or without one (CGO_ENABLED=0)", it, name)
		}
		if errno == syscall.EACCES && s.Guarded && path == s.Path {
			return fmt.Sprintf("%s needs the loader %s, which may be outside its read_paths: add %s to them", it, name, filepath.Dir(name))
		}
	}
	return ""
}

// What env, a shell and the loader of programs end with when they cannot run one.
const (
	envNotFound = 127
	envNotRun   = 126
	envFailed   = 125
)

// WhyEnded says why a script ended with an exit code at once when its interpreter is env, which looks for the program in
// PATH, and why an interpreter did that is itself a script, or was moved. It is the end of a sentence, "" when nothing is known.
func (s Start) WhyEnded(code int) string {
	if code != envNotFound && code != envNotRun && code != envFailed {
		return ""
	}
	if s.Interpreter {
		return s.interpreter("leads to a program that is not there, or that handlers may not read")
	}
	head, err := firstBytes(s.Path)
	if err != nil {
		return ""
	}
	line, ok := interpreterLine(head)
	if !ok || filepath.Base(line.program) != "env" {
		return ""
	}
	if strings.ContainsAny(line.argument, " \t") && !strings.HasPrefix(line.argument, "-S") && !strings.HasPrefix(line.argument, "-vS") && !strings.HasPrefix(line.argument, "--split-string") {
		return fmt.Sprintf("its first line gives %s all of %q as one word: begin that with -S, which splits it", line.program, line.argument)
	}
	program := ""
	for _, word := range strings.FieldsFunc(line.argument, func(r rune) bool { return r == ' ' || r == '\t' }) {
		if !strings.HasPrefix(word, "-") && !strings.Contains(word, "=") {
			program = word
			break
		}
	}
	found, _ := exec.LookPath(program) // handlers get the daemon's PATH
	switch {
	case program == "" || code == envFailed:
		return ""
	case strings.HasSuffix(program, "\r"):
		return "its first line " + carriageReturn(program)
	case code == envNotFound || found == "" && !s.Guarded:
		return fmt.Sprintf("its first line has %s look for %s, which is not in its PATH: install it, or write its path into the line", line.program, program)
	case s.Guarded:
		return fmt.Sprintf("its first line has %s look for %s, which may be outside its read_paths: add its directory to them", line.program, program)
	}
	what := fmt.Sprintf("its first line has %s look for %s, which", line.program, program)
	if closed := closedToOthers(found); closed != "" {
		return fmt.Sprintf("%s the user of the handler may not execute: let others pass %s, or name another one", what, closed)
	}
	return what + " cannot be run"
}

// interpreter is what the first line of a script says.
type interpreter struct {
	program, argument string
	whole             bool // the line ends within what the kernel reads
}

// interpreterLine reads the first line as the kernel does.
func interpreterLine(head []byte) (interpreter, bool) {
	rest, ok := bytes.CutPrefix(head, []byte("#!"))
	if !ok {
		return interpreter{}, false
	}
	line, _, whole := bytes.Cut(rest, []byte("\n"))
	text := strings.Trim(string(line), " \t")
	program, argument := text, ""
	if i := strings.IndexAny(text, " \t"); i >= 0 {
		program, argument = text[:i], strings.TrimLeft(text[i:], " \t")
	}
	return interpreter{program, argument, whole || len(head) < maxInterpreterLine}, true
}

// broken says what is wrong with the line itself, "" for nothing.
func (l interpreter) broken() string {
	switch {
	case l.program == "" || l.program == "\r":
		return "names no interpreter behind #!"
	case strings.HasSuffix(l.program, "\r"):
		return carriageReturn(l.program)
	case !l.whole && l.argument == "":
		return fmt.Sprintf("is longer than the %d bytes that the kernel reads of it", maxInterpreterLine)
	}
	return ""
}

func carriageReturn(program string) string {
	return fmt.Sprintf("ends with a carriage return, as in files of Windows, so it names %q, which does not exist: save the file with the line ends of Unix (sed -i 's/\\r$//')", program)
}

func firstBytes(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	head := make([]byte, maxInterpreterLine)
	n, err := io.ReadFull(f, head)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = nil
	}
	return head[:n], err
}
