package main

import (
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

var (
	docLink = regexp.MustCompile(`\]\(([^)#\s]+)`)
	docPath = regexp.MustCompile("`([A-Za-z0-9_.-]+/[A-Za-z0-9_./-]*)`")
	// docTest is the name of a test; one that ends with … stands for all tests that begin so.
	docTest  = regexp.MustCompile("`((?:Test|Fuzz|Benchmark)[A-Z][A-Za-z0-9_]*)(…?)`")
	testFunc = regexp.MustCompile(`(?m)^func ((?:Test|Fuzz|Benchmark)[A-Za-z0-9_]+)\(`)
)

// madeDirs hold what a build or a test makes; they need not exist.
var madeDirs = []string{"bin", "e2e/interop/.cache", "e2e/systemd/.cache"}

// TestDocsNameWhatExists: files, packages and tests are renamed, and documents that name them are forgotten.
func TestDocsNameWhatExists(t *testing.T) {
	docs, tests := readDocs(t)
	for doc, text := range docs {
		for _, m := range docLink.FindAllStringSubmatch(text, -1) {
			if !strings.Contains(m[1], ":") && !exists(path.Join(path.Dir(doc), m[1])) {
				t.Errorf("%s links to %s, which does not exist", doc, m[1])
			}
		}
		for _, m := range docPath.FindAllStringSubmatch(text, -1) {
			name := m[1]
			if script, ok := strings.CutPrefix(name, "script/"); ok { // of provider-weaknesses.md
				name = "runtime/task/testdata/" + script + ".txt"
				if script == "X" {
					continue
				}
			}
			// What does not begin with a directory of the repository is a path on another machine, an import or a call.
			// NAME stands for a name.
			if top, _, _ := strings.Cut(name, "/"); exists(top) && !strings.Contains(name, "NAME") && !below(name, madeDirs) && !exists(name) {
				t.Errorf("%s names %s, which does not exist", doc, name)
			}
		}
		for _, m := range docTest.FindAllStringSubmatch(text, -1) {
			if !slices.ContainsFunc(tests, func(name string) bool {
				return name == m[1] || m[2] != "" && strings.HasPrefix(name, m[1])
			}) {
				t.Errorf("%s names the test %s, which does not exist", doc, m[1]+m[2])
			}
		}
	}
}

// readDocs returns the text of each document, and the names of all tests.
func readDocs(t *testing.T) (docs map[string]string, tests []string) {
	t.Helper()
	docs = map[string]string{}
	err := filepath.WalkDir(".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && name != "." && (strings.HasPrefix(d.Name(), ".") || d.Name() == "bin" || d.Name() == "node_modules"):
			return fs.SkipDir
		case path.Ext(name) != ".md" && path.Ext(name) != ".go":
			return nil
		}
		b, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		if path.Ext(name) == ".md" {
			docs[name] = string(b)
			return nil
		}
		for _, m := range testFunc.FindAllSubmatch(b, -1) {
			tests = append(tests, string(m[1]))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(docs) == 0 || len(tests) == 0 {
		t.Fatalf("found %d documents and %d tests", len(docs), len(tests))
	}
	return docs, tests
}

func exists(name string) bool {
	_, err := os.Stat(name)
	return err == nil
}

// TestScreensFit: the screens in the README have the width of a terminal, as they are from one.
func TestScreensFit(t *testing.T) {
	b, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	screens := 0
	for i, block := range strings.Split(string(b), "\n```") {
		first, screen, _ := strings.Cut(block, "\n")
		if i%2 == 0 || first != "" || !regexp.MustCompile(`^(\$ bin/blocksd |blocksd \d|network +http|ok +configuration)`).MatchString(screen) {
			continue
		}
		screens++
		for line := range strings.Lines(screen) {
			if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > 80 {
				t.Errorf("%d characters: %s", n, line)
			}
		}
	}
	if screens < 3 {
		t.Errorf("there are %d screens", screens)
	}
}
