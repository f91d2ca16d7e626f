// Package sources makes go test notice changes of files that a test does not import: it runs programs that the go command
// builds from them. go test repeats a remembered result as long as what the test imports, opened and looked up is as
// before; without this a test of the real programs would pass although they have changed.
package sources

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// skipped are directories of files that were built or fetched.
var skipped = []string{"bin", "node_modules", "__pycache__"}

// Track looks at every directory of the module around the working directory, so that the result of the test depends on the
// files in them. A test must call it, not TestMain, where go test does not look on yet.
func Track() error {
	root, err := filepath.Abs(".")
	if err != nil {
		return fmt.Errorf("look for the sources: %w", err)
	}
	for dir := root; ; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return trackBelow(dir)
		}
		if dir == filepath.Dir(dir) {
			return fmt.Errorf("look for the sources: there is no go.mod in %s or above it", root)
		}
	}
}

func trackBelow(root string) error {
	// Not by os.ReadDir: the root itself holds directories whose times change with every build.
	fd, err := syscall.Open(root, syscall.O_RDONLY|syscall.O_DIRECTORY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("look for the sources below %s: %w", root, err)
	}
	dir := os.NewFile(uintptr(fd), root)
	entries, err := dir.ReadDir(-1)
	dir.Close()
	if err != nil {
		return fmt.Errorf("look for the sources below %s: %w", root, err)
	}
	for _, e := range entries {
		if skip(e) {
			continue
		}
		if err := filepath.WalkDir(filepath.Join(root, e.Name()), track); err != nil {
			return fmt.Errorf("look for the sources below %s: %w", root, err)
		}
	}
	return nil
}

func track(_ string, d fs.DirEntry, err error) error {
	if err == nil && skip(d) {
		return fs.SkipDir
	}
	return err
}

func skip(d fs.DirEntry) bool {
	return d.IsDir() && (strings.HasPrefix(d.Name(), ".") || slices.Contains(skipped, d.Name()))
}
