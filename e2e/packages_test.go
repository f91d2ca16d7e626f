package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/blocksd/blocksd/e2e/internal/system"
)

// A package that is installed as its README says has all that a handler needs, and a program with it is dropped in.

func TestPythonPackageInstalls(t *testing.T) {
	t.Parallel()
	tested := filepath.Join(system.PythonEnvironment(t), "bin", "python")
	source, venv := filepath.Join(t.TempDir(), "python"), filepath.Join(t.TempDir(), "venv")
	copyTree(t, source, filepath.Join("..", "pluginsdk", "python"), "blocksd", "pyproject.toml", "README.md") // pip builds in it
	run(t, "", tested, "-m", "venv", "--without-pip", venv)
	python := filepath.Join(venv, "bin", "python")
	site := strings.TrimSpace(run(t, "", python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"))
	run(t, "", tested, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-index", "--no-deps", "--no-build-isolation", "--target", site, source)
	// What it needs of others, without fetching it again.
	others := strings.TrimSpace(run(t, "", tested, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"))
	writeFile(t, filepath.Join(site, "others.pth"), others+"\n")

	plugins := t.TempDir()
	dropIn(t, plugins, "shout", "#!"+python+"\nimport blocksd\n\ndef handler(task):\n    task.status('shouting')\n    return task.text('request').upper()\n\nblocksd.serve(handler)\n")
	if got := answer(t, bin.Dev(t, plugins), "shout", "hello"); got != "HELLO" {
		t.Errorf("answered %q", got)
	}
}

func TestNodePackageInstalls(t *testing.T) {
	t.Parallel()
	system.NodeModules(t) // npm has made them
	node, err := exec.LookPath("node")
	if err != nil {
		t.Fatal(err)
	}
	packed, plugins := t.TempDir(), t.TempDir()
	source, err := filepath.Abs("../pluginsdk/node")
	if err != nil {
		t.Fatal(err)
	}
	run(t, packed, "npm", "pack", "--silent", "--offline", "--ignore-scripts", source)
	archives, err := filepath.Glob(filepath.Join(packed, "*.tgz"))
	if err != nil || len(archives) != 1 {
		t.Fatalf("npm pack made %q, %v", archives, err)
	}
	into := filepath.Join(plugins, "node_modules", "@blocksd", "handler")
	if err := os.MkdirAll(into, 0o755); err != nil {
		t.Fatal(err)
	}
	run(t, into, "tar", "xzf", archives[0], "--strip-components", "1")
	dropIn(t, plugins, "shout", "#!"+node+"\nimport { serve } from '@blocksd/handler';\n\nserve({ name: 'shout', run: (task) => task.text('request').toUpperCase() });\n")
	writeFile(t, filepath.Join(plugins, "package.json"), `{"type":"module"}`)
	if got := answer(t, bin.Dev(t, plugins), "shout", "hello"); got != "HELLO" {
		t.Errorf("answered %q", got)
	}
}

// dropIn puts a script and its card into a plugins directory.
func dropIn(t *testing.T, plugins, name, script string) {
	t.Helper()
	writeFile(t, filepath.Join(plugins, name+".agent-card.json"), system.Card(t, name, "./"+name, nil))
	path := filepath.Join(plugins, name)
	writeFile(t, path, script)
	if err := os.Chmod(path, 0o755); err != nil {
		t.Fatal(err)
	}
}

// copyTree copies some of a directory.
func copyTree(t *testing.T, to, from string, names ...string) {
	t.Helper()
	for _, name := range names {
		info, err := os.Stat(filepath.Join(from, name))
		if err != nil {
			t.Fatal(err)
		}
		if info.IsDir() {
			err = os.CopyFS(filepath.Join(to, name), os.DirFS(filepath.Join(from, name)))
		} else if err = os.MkdirAll(to, 0o755); err == nil {
			var b []byte
			if b, err = os.ReadFile(filepath.Join(from, name)); err == nil {
				err = os.WriteFile(filepath.Join(to, name), b, 0o644)
			}
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// run runs a program in a directory, and returns its output.
func run(t *testing.T, dir, program string, args ...string) string {
	t.Helper()
	cmd := exec.Command(program, args...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %q: %v\n%s", program, args, err, out)
	}
	return string(out)
}
