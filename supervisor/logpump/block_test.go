package logpump

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestBlocks: E marks the lines that are errors, because they belong to a panic or an exception.
func TestBlocks(t *testing.T) {
	for name, text := range map[string]string{
		"Go": `
. starting
E panic: boom
E goroutine 1 [running]:
E main.main()
E 	/main.go:3 +0x1b
E exit status 2
`,
		"Go, recovered": `
E panic: boom
E goroutine 1 [running]:
. time=2026-01-01T00:00:00Z level=INFO msg="next task"
. plain
`,
		"Rust": `
. listening
E thread 'main' panicked at src/main.rs:4:5:
E index out of bounds: the len is 3 but the index is 7
E note: run with ` + "`RUST_BACKTRACE=1`" + ` environment variable to display a backtrace
. next task
`,
		"Rust, with a backtrace": `
E thread 'tokio-runtime-worker' (4711) panicked at src/task.rs:10:9:
E called ` + "`Result::unwrap()`" + ` on an ` + "`Err`" + ` value: "no"
E stack backtrace:
E    0: rust_begin_unwind
E              at /rustc/1/library/std/src/panicking.rs:665:5
E note: Some details are omitted, run with ` + "`RUST_BACKTRACE=full`" + ` for a verbose backtrace.
. next task
`,
		"Rust before 1.73": `
E thread 'main' panicked at 'boom', src/main.rs:2:5
E note: run with ` + "`RUST_BACKTRACE=1`" + `
. next task
`,
		"Python": `
. starting
E Traceback (most recent call last):
E   File "x.py", line 1, in <module>
E     f()
E KeyError: 'a'
E During handling of the above exception, another exception occurred:
E Traceback (most recent call last):
E   File "x.py", line 3, in <module>
E ValueError: no
. next task
`,
		"Python, a group": `
E   + Exception Group Traceback (most recent call last):
E   |   File "x.py", line 1, in <module>
E   | ExceptionGroup: two (2 sub-exceptions)
E   +-+---------------- 1 ----------------
E     | ValueError: no
`,
		"Python, the interpreter": `
E Fatal Python error: Segmentation fault
E Current thread 0x00007f (most recent call first):
E   File "x.py", line 3 in f
. next task
`,
		"Java": `
E Exception in thread "main" java.lang.IllegalStateException: no
E 	at Main.main(Main.java:3)
E Caused by: java.io.IOException: not either
E 	at Main.read(Main.java:9)
E 	... 1 more
. next task
`,
		"Java, printed": `
E java.lang.IllegalStateException: no
E 	at Main.main(Main.java:3)
E Caused by: java.io.IOException: not either
E 	at Main.read(Main.java:9)
. next task
E org.example.words.CountError
E 	at Main.main(Main.java:3)
. see java.io.IOException: it is not here
. b.Exception for you: no
. a.b.Exceptional: no
`,
		"C++": `
E terminate called after throwing an instance of 'std::runtime_error'
E   what():  no
. next task
`,
		"a word in a sentence": `
. the thread 'main' did not panic
. a Traceback (most recent call last) is not here
`,
	} {
		p, out := pump(t)
		var in strings.Builder
		var want []string
		for line := range strings.Lines(strings.TrimPrefix(text, "\n")) {
			in.WriteString(line[2:])
			want = append(want, line[:1])
		}
		p.Copy(strings.NewReader(in.String()))
		var got []string
		for line := range strings.Lines(out.String()) {
			mark := "."
			if strings.Contains(line, "level=ERROR") {
				mark = "E"
			}
			got = append(got, mark)
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s: %s\n%s", name, d, out)
		}
	}
}

// The record of a crash has the whole chain of exceptions, from the first one on.
func TestChainOfExceptions(t *testing.T) {
	p, _ := pump(t)
	lines := []string{
		"Traceback (most recent call last):", `  File "x.py", line 1`, "KeyError: 'a'", "During handling of the above exception, another exception occurred:",
		"Traceback (most recent call last):", `  File "x.py", line 3`, "ValueError: no",
	}
	p.Copy(strings.NewReader("Traceback (most recent call last):\nOSError: earlier\nstarted again\n" + strings.Join(lines, "\n") + "\n"))
	if d := cmp.Diff(lines, p.Panic()); d != "" {
		t.Error(d)
	}
}
