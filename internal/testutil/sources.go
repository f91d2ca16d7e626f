package testutil

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// DependOnSources makes the result of a test depend on all Go sources of the repository at root, for tests that build
// programs: go test caches a result together with the files that the test has looked at, and cannot see what a compiler
// that the test starts looks at. It must be called by a test, not by TestMain, where go test does not look on yet.
func DependOnSources(root string) error {
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := d.Name()
		if d.IsDir() && path != root && (strings.HasPrefix(name, ".") || name == "bin" || name == "node_modules" || name == "testdata") {
			return filepath.SkipDir
		}
		if !d.IsDir() && strings.HasSuffix(name, ".go") && !strings.HasSuffix(name, "_test.go") {
			_, err = os.Stat(path)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("look at the sources in %s: %w", root, err)
	}
	return nil
}
