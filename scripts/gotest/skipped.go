package main

import (
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
)

// notRoot is how a reason says that a test needs root. Nothing that runs as root skips for it.
const notRoot = "the tests do not run as root"

// aTest is a test of a package; its name has slashes where it is a part of another one.
type aTest struct{ Package, Name string }

// write notes the tests that skipped, one a line, for another run to do.
func (r *report) write(path string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	var text strings.Builder
	for _, t := range r.skippedTests {
		fmt.Fprintln(&text, t.Package, t.Name)
	}
	if err := os.WriteFile(path, []byte(text.String()), 0o644); err != nil {
		return fmt.Errorf("note the tests that skipped: %w", err)
	}
	return nil
}

// readTests reads what write has noted.
func readTests(path string) ([]aTest, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read which tests to run: %w", err)
	}
	var all []aTest
	for line := range strings.Lines(string(data)) {
		pkg, name, found := strings.Cut(strings.TrimSpace(line), " ")
		if !found {
			return nil, fmt.Errorf("read which tests to run: %s has the line %q, which is no package and test", path, line)
		}
		all = append(all, aTest{pkg, name})
	}
	return all, nil
}

// packages of tests, each once.
func packages(tests []aTest) []string {
	all := map[string]bool{}
	for _, t := range tests {
		all[t.Package] = true
	}
	return slices.Sorted(maps.Keys(all))
}

// pattern is what go test -run takes to run these tests, and those of the same names in the same packages.
func pattern(tests []aTest) string {
	var all []string
	for _, t := range tests {
		var levels []string
		for level := range strings.SplitSeq(t.Name, "/") {
			levels = append(levels, "^"+regexp.QuoteMeta(level)+"$")
		}
		all = append(all, strings.Join(levels, "/"))
	}
	slices.Sort(all)
	return strings.Join(slices.Compact(all), "|")
}

// missing are those of the tests that have not been run.
func (r *report) missing(tests []aTest) []aTest {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(tests), func(t aTest) bool { return r.ended[t] })
}
