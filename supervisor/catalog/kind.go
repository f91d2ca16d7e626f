package catalog

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
)

// Kind of program that a file holds.
type Kind int

// The kinds. Elf and Zipapp are complete in one file and run from a copy; a Script runs in place, because the files next
// to it matter.
const (
	Elf    Kind = iota + 1
	Zipapp      // a zip archive behind an interpreter line
	Script      // begins with an interpreter line
)

// Copied reports whether programs of this kind run from a copy.
func (k Kind) Copied() bool { return k == Elf || k == Zipapp }

// maxInterpreterLine is what the kernel reads of one.
const maxInterpreterLine = 256

// kindOf looks at the beginning of a file. reason is the end of a sentence that begins with what was tried, and says why it
// cannot run on this machine.
func kindOf(path string) (kind Kind, reason string) {
	f, err := openFile(path)
	if err != nil {
		return 0, fmt.Sprintf("it cannot be read: %v", plain(err))
	}
	defer f.Close()
	head := make([]byte, maxInterpreterLine+4)
	n, err := io.ReadFull(f, head)
	if err != nil && err != io.ErrUnexpectedEOF && err != io.EOF {
		return 0, fmt.Sprintf("it cannot be read: %v", plain(err))
	}
	return classify(head[:n])
}

func classify(head []byte) (Kind, string) {
	switch {
	case len(head) == 0:
		return 0, "it is empty"
	case bytes.HasPrefix(head, []byte("\xef\xbb\xbf#!")):
		return 0, "it begins with a byte order mark, so the kernel does not see its #!: save it without one"
	case bytes.HasPrefix(head, []byte("\xff\xfe")), bytes.HasPrefix(head, []byte("\xfe\xff")):
		return 0, "it is encoded in UTF-16, so the kernel does not see its #!: save it as UTF-8"
	case bytes.HasPrefix(head, []byte("\x7fELF")):
		return Elf, wrongMachine(head)
	case bytes.HasPrefix(head, []byte("#!")):
		_, rest, _ := bytes.Cut(head, []byte("\n"))
		if bytes.HasPrefix(rest, []byte("PK\x03\x04")) {
			return Zipapp, endless(head)
		}
		return Script, endless(head)
	}
	return 0, "it is not a program: it begins neither like an ELF file nor with #!"
}

// endless says why a script never gets further than its first line: env without a program runs the script itself, again and again.
func endless(head []byte) string {
	line, _ := interpreterLine(head)
	argument := strings.TrimRight(line.argument, " \t\r")
	if filepath.Base(line.program) != "env" || !slices.Contains([]string{"", "-", "-i", "-S", "-v", "-vS"}, argument) {
		return ""
	}
	return fmt.Sprintf("its first line has %s run no program, and so the file itself without an end: name the program behind it, such as #!/usr/bin/env python3", line.program)
}

// machine is an architecture in the words of ELF and of Go.
type machine struct {
	number uint16
	bits   byte // 1: 32, 2: 64
	name   string
}

var machines = map[string]machine{ // by GOARCH
	"386": {3, 1, "x86"}, "amd64": {62, 2, "x86-64"}, "arm": {40, 1, "ARM"}, "arm64": {183, 2, "AArch64"},
	"ppc64": {21, 2, "PowerPC"}, "ppc64le": {21, 2, "PowerPC"}, "s390x": {22, 2, "IBM Z"}, "riscv64": {243, 2, "RISC-V"},
	"loong64": {258, 2, "LoongArch"}, "mips64": {8, 2, "MIPS"}, "mips64le": {8, 2, "MIPS"},
}

// wrongMachine says why the kernel will not run an ELF file, "" when it may.
func wrongMachine(head []byte) string {
	if len(head) < 20 {
		return "it is only the beginning of a program: copy the whole file"
	}
	var order binary.ByteOrder = binary.LittleEndian
	if head[5] == 2 {
		order = binary.BigEndian
	}
	if kind := order.Uint16(head[16:]); kind != 2 && kind != 3 {
		return "it is a part of a program or a memory dump, not a program"
	}
	ours, ok := machines[runtime.GOARCH]
	if !ok {
		return ""
	}
	number := order.Uint16(head[18:])
	if number == ours.number && head[4] == ours.bits {
		return ""
	}
	// Kernels of these can run the 32-bit programs of the same family.
	if runtime.GOARCH == "amd64" && number == machines["386"].number || runtime.GOARCH == "arm64" && number == machines["arm"].number {
		return ""
	}
	theirs := fmt.Sprintf("machine type %d of ELF", number)
	for _, m := range machines {
		if m.number == number {
			theirs = m.name
		}
	}
	return fmt.Sprintf("it is a program for %s, and this machine is %s: build it for this machine (GOOS=linux GOARCH=%s)", theirs, ours.name, runtime.GOARCH)
}

// Runnable says why a file cannot be run here as a handler; "" when it can. It is the end of a sentence that begins with
// what was tried.
func Runnable(path string) string {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return fmt.Sprintf("it cannot be read: %v", plain(err))
	case !info.Mode().IsRegular():
		return "it is not a file"
	case info.Mode().Perm()&0o111 == 0:
		return "it is not executable: chmod 0755 it"
	}
	_, reason := kindOf(path)
	return reason
}
