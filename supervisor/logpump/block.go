package logpump

import (
	"bytes"
	"unicode"
)

// The lines of one panic, traceback or uncaught exception. They belong together, and are errors whatever each says.

// block is what kind of lines are being read.
type block int

const (
	noBlock block = iota
	// goBlock ends with the process: what follows is every goroutine.
	goBlock
	// pythonBlock: indented lines, then the exception in a line of its own, then perhaps another traceback.
	pythonBlock
	// rustBlock: the message in a line of its own, then perhaps a backtrace, which is indented, and notes.
	rustBlock
	// indentedBlock: indented lines, and those that begin with a word of nextWords.
	indentedBlock
)

// source is the state of one stream of lines. Its zero value is ready.
type source struct {
	in block
	// last: only lines that go on belong to the block, because its message was there.
	last bool
}

// starts are the beginnings of first lines.
var starts = []struct {
	prefix string
	of     block
}{
	{"panic: ", goBlock}, {"fatal error: ", goBlock}, {"SIGSEGV: ", goBlock}, {"SIGABRT: ", goBlock},
	{"Traceback (most recent call last)", pythonBlock}, {"  + Exception Group Traceback (most recent call last)", pythonBlock},
	{"Fatal Python error: ", indentedBlock}, {"Exception in thread \"", indentedBlock}, {"terminate called ", indentedBlock},
}

// nextWords begin lines of a block that are not indented.
var nextWords = map[block][]string{
	pythonBlock: {"During handling of the above exception", "The above exception was the direct cause"},
	rustBlock:   {"stack backtrace:", "note: "},
	indentedBlock: {
		"Caused by: ", "Current thread ", "Thread 0x", "Extension modules: ", "Python runtime state: ",
	},
}

// startOf is the block that a line begins, noBlock if none.
func startOf(line []byte) block {
	for _, s := range starts {
		if bytes.HasPrefix(line, []byte(s.prefix)) {
			return s.of
		}
	}
	// thread 'main' panicked at src/main.rs:2:5: — newer versions write a number behind the name.
	if rest, ok := bytes.CutPrefix(line, []byte("thread '")); ok && bytes.Contains(rest, []byte(" panicked at ")) {
		return rustBlock
	}
	if isJavaException(line) {
		return indentedBlock
	}
	return noBlock
}

// isJavaException reports whether a line is what printStackTrace begins with: the full name of a class, which says what it
// is, then perhaps a message.
func isJavaException(line []byte) bool {
	name, _, _ := bytes.Cut(bytes.TrimRight(line, "\r\n"), []byte(": "))
	if !bytes.Contains(name, []byte(".")) || !bytes.HasSuffix(name, []byte("Exception")) && !bytes.HasSuffix(name, []byte("Error")) {
		return false
	}
	return !bytes.ContainsFunc(name, func(r rune) bool {
		return r != '.' && r != '_' && r != '$' && !unicode.IsLetter(r) && !unicode.IsDigit(r)
	})
}

// take reports whether a line belongs to a block, and whether it is its first. leveled: the line has a form that only a
// logger writes, so it ends the block.
func (s *source) take(line []byte, leveled bool) (inside, first bool) {
	if of := startOf(line); of != noBlock {
		again := s.in == of && of == pythonBlock // the cause of an exception comes first
		// An older Rust has the message in the first line, which then does not end with a colon.
		*s = source{in: of, last: of == indentedBlock || of == rustBlock && !bytes.HasSuffix(line, []byte(":"))}
		return true, !again
	}
	switch {
	case s.in == noBlock:
		return false, false
	case leveled:
		*s = source{}
		return false, false
	case s.in == goBlock, goesOn(s.in, line):
		return true, false
	case s.last:
		*s = source{}
		return false, false
	}
	s.last = true // the message
	return true, false
}

// goesOn reports whether a line is visibly a part of the block.
func goesOn(of block, line []byte) bool {
	if line[0] == ' ' || line[0] == '\t' {
		return true
	}
	for _, word := range nextWords[of] {
		if bytes.HasPrefix(line, []byte(word)) {
			return true
		}
	}
	return false
}
