// Package container_test compares the recipe of the image with the program.
package container_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/blocksd/blocksd/daemon/config"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestRecipe: the image has the directories that the program uses by default, links the version where it is, and is built
// with the Go that go.mod asks for.
func TestRecipe(t *testing.T) {
	read := func(path string) string {
		t.Helper()
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	recipe := read("Dockerfile")
	c := config.Default()
	for _, path := range append([]string{c.StateDir, filepath.Dir(c.Socket)}, c.Plugins.Dirs...) {
		if !strings.Contains(recipe, "/out"+path) {
			t.Errorf("the image does not make %s", path)
		}
	}
	m := regexp.MustCompile(`-X \S+/cli\.(\w+)=`).FindStringSubmatch(recipe)
	if m == nil || !strings.Contains(read("../../cli/version.go"), "var "+m[1]+" = ") {
		t.Errorf("the version is linked into %v, which is no variable of the program", m)
	}
	m = regexp.MustCompile(`golang:(\d+\.\d+)`).FindStringSubmatch(recipe)
	if m == nil || !strings.Contains(read("../../go.mod"), "\ngo "+m[1]+".") {
		t.Errorf("it is built with Go %v, and go.mod asks for another one", m)
	}
	m = regexp.MustCompile(`(?s)go run -buildvcs=false (\./scripts/\w+) (\S+) .*?>(/out/\S+)\n`).FindStringSubmatch(recipe)
	if m == nil || !strings.Contains(recipe, "-o "+m[2]+" .") || !strings.Contains(recipe, "COPY --from=build "+m[3]+" /\n") || m[3] != "/out/usr/share/doc/blocksd/blocksd.cdx.json" {
		t.Errorf("the list of what is in the image is not made of its program, or cannot be had: %q", m)
	} else if _, err := os.Stat(filepath.Join("../..", m[1], "main.go")); err != nil {
		t.Error(err)
	}
	if !strings.Contains(recipe, "\nFROM scratch\n") || !strings.Contains(recipe, "\nUSER 65532:65532\n") {
		t.Error("the image is not empty, or runs as root")
	}
}
