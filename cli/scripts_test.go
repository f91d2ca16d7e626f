package cli

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// TestEveryCommandHasAScript: there is a script, here or in e2e, in which each command does what it is for, and one here in
// which each command at the top fails as it should, with its exit code.
func TestEveryCommandHasAScript(t *testing.T) {
	fail, do := scripts(t, "testdata/scripts/*.txtar"), scripts(t, "testdata/scripts/*.txtar", "../e2e/testdata/scripts/*.txtar")
	root := newRoot(&app{Invocation: Invocation{Stdout: &bytes.Buffer{}}})
	for _, cmd := range root.Commands() {
		if !cmd.Hidden && !regexp.MustCompile(`(?m)^exits [1-9]\d* blocksd `+cmd.Name()+`( |$)`).MatchString(fail) {
			t.Errorf("no script shows how %s fails", cmd.CommandPath())
		}
	}
	var visit func(cmd *cobra.Command)
	visit = func(cmd *cobra.Command) {
		for _, sub := range cmd.Commands() {
			visit(sub)
		}
		if cmd.Runnable() && !cmd.Hidden && !regexp.MustCompile(`(?m)^(exec |wholescreen .*'bin/)`+cmd.CommandPath()+`( |'|$)`).MatchString(do) {
			t.Errorf("no script shows what %s does", cmd.CommandPath())
		}
	}
	visit(root)
}

// scripts are the texts of all files that match.
func scripts(t *testing.T, patterns ...string) string {
	t.Helper()
	var all strings.Builder
	for _, pattern := range patterns {
		files, err := filepath.Glob(pattern)
		if err != nil || len(files) == 0 {
			t.Fatal(pattern, files, err)
		}
		for _, file := range files {
			b, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			all.Write(b)
		}
	}
	return all.String()
}
