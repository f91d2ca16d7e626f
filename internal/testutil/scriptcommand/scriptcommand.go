// Package scriptcommand has what scripts of commands (testscript) say beside testscript's own words.
package scriptcommand

import (
	"fmt"
	"os"
	"regexp"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// limit bounds the wait for what another process does.
const limit = 2 * time.Minute

// Exits is "exits CODE PROGRAM ARG...": runs the program and checks its exit code.
func Exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE PROGRAM ARG...")
	}
	code := "0"
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		code = ""
		if _, serr := fmt.Sscanf(err.Error(), "exit status %s", &code); serr != nil {
			ts.Fatalf("%v", err)
		}
	}
	if code != args[0] {
		ts.Fatalf("exit code %s, want %s", code, args[0])
	}
}

// WaitFile is "waitfile PATH": waits for a file that a background process writes.
func WaitFile(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: waitfile PATH")
	}
	wait(ts, args[0]+" is written", func() bool {
		_, err := os.Stat(ts.MkAbs(args[0]))
		return err == nil
	})
}

// Until is "until PATTERN PROGRAM ARG...": runs the program again and again until its output has the pattern.
func Until(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: until PATTERN PROGRAM ARG...")
	}
	pattern, err := regexp.Compile("(?m)" + args[0])
	ts.Check(err)
	wait(ts, args[1]+" prints "+args[0], func() bool {
		return ts.Exec(args[1], args[2:]...) == nil && pattern.MatchString(ts.ReadFile("stdout"))
	})
}

// Take is "take NAME PATTERN": sets the variable to the group of the pattern in what the last command printed.
func Take(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: take NAME PATTERN")
	}
	pattern, err := regexp.Compile("(?m)" + args[1])
	ts.Check(err)
	found := pattern.FindStringSubmatch(ts.ReadFile("stdout"))
	if len(found) != 2 {
		ts.Fatalf("standard output does not have %s with one group", args[1])
	}
	ts.Setenv(args[0], found[1])
}

func wait(ts *testscript.TestScript, what string, done func() bool) {
	for end := time.Now().Add(limit); !done(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			ts.Fatalf("it did not come within %v that %s", limit, what)
		}
	}
}
