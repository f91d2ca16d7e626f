// Package testplugin builds the real handler binaries for the tests of the supervisor.
package testplugin

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

const module = "github.com/blocksd/blocksd/"

// Build compiles the named handlers into a new directory; call remove at the end.
func Build(names ...string) (dir string, remove func(), err error) {
	if dir, err = os.MkdirTemp("", "testplugin"); err != nil {
		return "", nil, fmt.Errorf("build test plugins: %w", err)
	}
	remove = func() { os.RemoveAll(dir) }
	packages := map[string]string{"echo": "handlers/echo", "adder": "handlers/adder", "sleeper": "handlers/internal/sleeper", "badhandler": "handlers/internal/badhandler"}
	for _, name := range names {
		cmd := exec.Command("go", "build", "-o", filepath.Join(dir, name), module+packages[name])
		cmd.Stderr = os.Stderr
		if err := cmd.Run(); err != nil {
			remove()
			return "", nil, fmt.Errorf("build test plugin %s: %w", name, err)
		}
	}
	return dir, remove, nil
}

// Alias makes the binary called name known under another name, by a link: a copy might still be open for writing in a
// process that is being forked, and could not be run.
func Alias(dir, name, alias string) (string, error) {
	path := filepath.Join(dir, alias)
	if err := os.Link(filepath.Join(dir, name), path); err != nil && !os.IsExist(err) {
		return "", fmt.Errorf("alias test plugin %s: %w", name, err)
	}
	return path, nil
}
