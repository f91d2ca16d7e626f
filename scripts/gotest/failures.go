package main

import (
	"fmt"
	"regexp"
	"strings"
)

// maxSaid bounds what is repeated of one failed test, in lines and in characters of a line.
const (
	maxSaid     = 3
	maxSaidLine = 600
)

// said matches what a test says of its failure: a line with its place, a panic, or a data race.
var said = regexp.MustCompile(`^\s*(\w+\.go:\d+: |panic: |WARNING: DATA RACE)`)

// failure is what a failed test said first.
type failure struct {
	aTest
	lines []string
}

// failureOf finds what a failed test said: its output may be followed by the logs of whole daemons.
func failureOf(test aTest, output []string) failure {
	f := failure{aTest: test}
	for _, line := range output {
		if len(f.lines) == maxSaid {
			break
		}
		if said.MatchString(line) {
			line = strings.TrimSpace(line)
			f.lines = append(f.lines, line[:min(len(line), maxSaidLine)])
		}
	}
	return f
}

// sayFailuresLocked repeats, last of all, which tests failed and why. A test that only failed because of its parts has
// nothing to say of its own.
func (r *report) sayFailuresLocked() {
	for _, f := range r.failures {
		if len(f.lines) == 0 && r.partFailedLocked(f.aTest) {
			continue
		}
		r.sayLocked(fmt.Sprintf("failed: %s of %s\n", f.Name, strings.TrimPrefix(f.Package, module+"/")))
		for _, line := range f.lines {
			r.sayLocked("  " + line + "\n")
		}
	}
}

func (r *report) partFailedLocked(test aTest) bool {
	for _, f := range r.failures {
		if f.Package == test.Package && strings.HasPrefix(f.Name, test.Name+"/") {
			return true
		}
	}
	return false
}
