package node

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestNode runs the tests of the package, with Node's own runner.
func TestNode(t *testing.T) {
	if _, err := exec.LookPath("node"); err != nil {
		t.Skip("node is not installed")
	}
	if _, err := os.Stat("node_modules/.package-lock.json"); err != nil {
		t.Skip("what pluginsdk/node needs is not installed: run make test")
	}
	// The go command remembers the result until one of the files changes that the test has read.
	for _, dir := range []string{"lib", "test", "run.mjs", "package-lock.json", "../../internal/savedir/testdata"} {
		err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
			if err == nil && !e.IsDir() {
				_, err = os.ReadFile(path)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	tests, err := filepath.Glob("test/*.test.mjs")
	if err != nil || len(tests) == 0 {
		t.Fatalf("there are no tests: %v", err)
	}
	if out, err := exec.CommandContext(t.Context(), "node", append([]string{"--test"}, tests...)...).CombinedOutput(); err != nil {
		t.Errorf("node --test: %v\n%s", err, out)
	}
}

// TestFiles: what is unpacked is what is published.
func TestFiles(t *testing.T) {
	want := []string{"package.json", "run.mjs", "lib/index.mjs", "lib/hooks.mjs", "lib/savedir.mjs", "lib/handler.binpb", "lib/index.d.ts", "package-lock.json"}
	for _, name := range want {
		if _, err := fs.Stat(Files, name); err != nil {
			t.Error(err)
		}
	}
	for _, name := range []string{"test", "node_modules", "embed.go"} {
		if _, err := fs.Stat(Files, name); err == nil {
			t.Errorf("%s is carried for nothing", name)
		}
	}
}
