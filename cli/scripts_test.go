package cli

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestEveryCommandHasAScript: there is a script in testdata in which each command fails as it should, with its exit code.
func TestEveryCommandHasAScript(t *testing.T) {
	files, err := filepath.Glob("testdata/scripts/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	var scripts strings.Builder
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		scripts.Write(b)
	}
	for _, cmd := range newRoot(&app{Invocation: Invocation{Stdout: &bytes.Buffer{}}}).Commands() {
		if !cmd.Hidden && !regexp.MustCompile(`(?m)^exits [1-9]\d* blocksd `+cmd.Name()+`( |$)`).MatchString(scripts.String()) {
			t.Errorf("no script shows how %s fails", cmd.CommandPath())
		}
	}
}
