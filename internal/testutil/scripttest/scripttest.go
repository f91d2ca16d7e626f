// Package scripttest runs the scripts of a state machine: text files with what happens, as lines without indentation, and
// with what the machine does then, as indented lines.
package scripttest

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write what the machine does now into the scripts")

// Run runs each script that matches pattern. play returns the script with the indented lines replaced by what the machine
// does. With -update that is written to the file, else it must be what is there.
func Run(t *testing.T, pattern string, play func(t *testing.T, script string) string) {
	t.Helper()
	paths, err := filepath.Glob(pattern)
	if err != nil || len(paths) == 0 {
		t.Fatalf("there are no scripts %s: %v", pattern, err)
	}
	for _, path := range paths {
		t.Run(strings.TrimSuffix(filepath.Base(path), filepath.Ext(path)), func(t *testing.T) {
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			got := play(t, string(want))
			if *update {
				if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Errorf("%s (-script +machine):\n%s", path, diff)
			}
		})
	}
}
