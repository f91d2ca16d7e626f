// Package python tests handlers in Python: the package pluginsdk/python by its own tests, its examples and Blocks' own
// projects with the real daemon.
package python

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"go.uber.org/goleak"

	"github.com/blocksd/blocksd/e2e/internal/system"
	"github.com/blocksd/blocksd/internal/sources"
)

const root = "../.."

var bin system.Binaries

// TestSources makes the results of this package depend on what its programs are built from.
func TestSources(t *testing.T) {
	if err := sources.Track(); err != nil {
		t.Fatal(err)
	}
}

func TestMain(m *testing.M) {
	var err error
	if bin, err = system.Build(root); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		os.RemoveAll(bin.Dir)
		os.Exit(code)
	}))
}

// interpreter is a Python that has what the package needs, as `make test` installs it. Without it the test skips.
func interpreter(t *testing.T) string {
	t.Helper()
	path, err := filepath.Abs(filepath.Join(root, "e2e", "interop", ".cache", "python-sdk", "bin", "python"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Skip("what pluginsdk/python needs is not installed: run make test")
	}
	return path
}

// sdk is the directory of the package.
func sdk(t *testing.T) string {
	t.Helper()
	path, err := filepath.Abs(filepath.Join(root, "pluginsdk", "python"))
	if err != nil {
		t.Fatal(err)
	}
	return path
}
