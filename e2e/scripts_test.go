package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/blocksd/blocksd/internal/testutil/scriptcommand"
)

// TestScripts does what users and operators do, with the real programs; see testdata/scripts. bin is there what `make build`
// makes, so that commands can be written as the README has them.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/scripts", RequireExplicitExec: true,
		Setup: func(e *testscript.Env) error {
			e.Setenv("HOME", e.WorkDir)
			e.Setenv("PATH", bin.Dir+string(os.PathListSeparator)+os.Getenv("PATH"))
			e.Setenv("PLUGINS", bin.Plugins())
			e.Setenv("TESTPLUGINS", bin.TestPlugins())
			return os.Symlink(bin.Dir, filepath.Join(e.WorkDir, "bin"))
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": scriptcommand.Exits, "waitfile": scriptcommand.WaitFile, "until": scriptcommand.Until, "take": scriptcommand.Take,
			"screen": screen, "wholescreen": wholeScreen, "doctorscreen": doctorScreen, "sourced": sourced, "plugins": plugins,
		},
	})
}

// sourced is "sourced PATH": sets the variables of an env file.
func sourced(ts *testscript.TestScript, _ bool, args []string) {
	for line := range strings.Lines(ts.ReadFile(args[0])) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		ts.Setenv(name, strings.Trim(value, `'"`))
	}
}

// plugins is "plugins DIR NAME...": makes a plugins directory of reference handlers with their cards.
func plugins(ts *testscript.TestScript, _ bool, args []string) {
	dir := ts.MkAbs(args[0])
	ts.Check(os.MkdirAll(dir, 0o755))
	ts.Check(os.Chmod(dir, 0o755))
	for _, name := range args[1:] {
		for file, mode := range map[string]os.FileMode{name: 0o755, name + ".agent-card.json": 0o644} {
			b, err := os.ReadFile(filepath.Join(bin.Plugins(), file))
			ts.Check(err)
			ts.Check(os.WriteFile(filepath.Join(dir, file), b, mode))
		}
	}
}
