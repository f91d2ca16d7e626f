// Package testplugin builds the real handler binaries for the tests of the supervisor.
package testplugin

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"github.com/blocksd/blocksd/internal/sources"
)

const module = "github.com/blocksd/blocksd/"

// Plugins is a directory of handler binaries.
type Plugins struct {
	names []string
	once  sync.Once
	dir   string // set by once, like err
	err   error
}

// New names the handlers to build; nothing is built before Dir is called, so that fuzzing workers need not wait for it.
func New(names ...string) *Plugins { return &Plugins{names: names} }

// Dir builds the handlers, the first time, and returns their directory.
func (p *Plugins) Dir(t testing.TB) string {
	t.Helper()
	p.once.Do(p.build)
	if p.err != nil {
		t.Fatal(p.err)
	}
	return p.dir
}

// Path of the handler called name.
func (p *Plugins) Path(t testing.TB, name string) string {
	t.Helper()
	return filepath.Join(p.Dir(t), name)
}

// Remove deletes the directory; call it after the last test.
func (p *Plugins) Remove() {
	if p.dir != "" {
		os.RemoveAll(p.dir)
	}
}

func (p *Plugins) build() {
	if p.err = sources.Track(); p.err != nil {
		return
	}
	if p.dir, p.err = os.MkdirTemp("", "testplugin"); p.err != nil {
		return
	}
	packages := map[string]string{"echo": "handlers/echo", "adder": "handlers/adder", "sleeper": "handlers/internal/sleeper", "badhandler": "handlers/internal/badhandler", "hostile": "handlers/internal/hostile"}
	for _, name := range p.names {
		cmd := exec.Command("go", "build", "-trimpath", "-o", filepath.Join(p.dir, name), module+packages[name])
		cmd.Stderr = os.Stderr
		if err := cmd.Run(); err != nil {
			p.err = fmt.Errorf("build test plugin %s: %w", name, err)
			return
		}
	}
}

// Alias makes the binary called name known under another name, by a link: a copy might still be open for writing in a
// process that is being forked, and could not be run.
func (p *Plugins) Alias(t testing.TB, name, alias string) string {
	t.Helper()
	path := p.Path(t, alias)
	if err := os.Link(p.Path(t, name), path); err != nil && !os.IsExist(err) {
		t.Fatalf("alias test plugin %s: %v", name, err)
	}
	return path
}
