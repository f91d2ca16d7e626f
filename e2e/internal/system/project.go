package system

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Card is a card of a project for tests: one text input "request", and what change does to it.
func Card(t testing.TB, agent, handler string, change func(card map[string]any)) string {
	t.Helper()
	card := map[string]any{
		"identity": map[string]any{
			"agentName": agent, "displayName": agent, "description": "For tests.", "version": "1.0.0", "provider": map[string]any{"organization": "Tests"},
		},
		"capabilities": map[string]any{"taskKinds": []string{"request"}},
		"io": map[string]any{
			"inputs":  []any{map[string]any{"id": "request", "description": "A text.", "contentType": "text/plain", "required": true, "example": "hello"}},
			"outputs": []any{map[string]any{"id": "result", "contentType": "text/plain", "guaranteed": true}},
		},
		"tags":    []any{map[string]any{"id": "test", "name": "Test"}},
		"runtime": map[string]any{"handler": handler, "concurrency": 8, "maxRunningTimeSec": 60},
	}
	if change != nil {
		change(card)
	}
	b, err := json.MarshalIndent(card, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// Project makes a project of files, by their paths in it. A file that begins with #! is executable.
func Project(t testing.TB, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	WriteProject(t, dir, files)
	return dir
}

// WriteProject writes files into a project, as an editor does: complete beside its place, then renamed.
func WriteProject(t testing.TB, dir string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		mode := os.FileMode(0o644)
		if strings.HasPrefix(text, "#!") {
			mode = 0o755
		}
		if err := os.WriteFile(path+".tmp", []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(path+".tmp", path); err != nil {
			t.Fatal(err)
		}
	}
}

// NodeModules is what the SDK for Node.js needs, as `make test` installs it. Without it the test skips.
func NodeModules(t testing.TB) string {
	t.Helper()
	if _, err := exec.LookPath("node"); err != nil {
		t.Skip("node is not installed")
	}
	dir, err := filepath.Abs(filepath.Join(root(t), "pluginsdk", "node", "node_modules"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, ".package-lock.json")); err != nil {
		t.Skip("what pluginsdk/node needs is not installed: run make test")
	}
	return dir
}

// NodeProject is Project with what the SDK for Node.js needs, as if it had been installed there.
func NodeProject(t testing.TB, files map[string]string) string {
	t.Helper()
	modules := NodeModules(t)
	dir := Project(t, files)
	if err := os.Symlink(modules, filepath.Join(dir, "node_modules")); err != nil {
		t.Fatal(err)
	}
	return dir
}

// root is the root of the repository, above the directory of the test.
func root(t testing.TB) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		if dir == filepath.Dir(dir) {
			t.Fatal("there is no go.mod above the test")
		}
		dir = filepath.Dir(dir)
	}
}

// BarePython is a Python that is new enough. Without one the test skips.
func BarePython(t testing.TB) string {
	t.Helper()
	python, err := exec.LookPath("python3")
	if err == nil {
		err = exec.Command(python, "-c", "import sys; sys.exit(sys.version_info < (3, 10))").Run()
	}
	if err != nil {
		t.Skip("there is no python3 of version 3.10 or newer")
	}
	return python
}

// PythonEnvironment is an environment with what the SDK for Python needs, as `make test` installs it. Without it the test
// skips.
func PythonEnvironment(t testing.TB) string {
	t.Helper()
	venv := filepath.Join(root(t), "pluginsdk", "python", ".venv")
	if _, err := os.Stat(filepath.Join(venv, "bin", "python")); err != nil {
		t.Skip("what pluginsdk/python needs is not installed: run make test")
	}
	return venv
}

// PythonProject is Project with an environment that has what the SDK for Python needs.
func PythonProject(t testing.TB, files map[string]string) string {
	t.Helper()
	venv := PythonEnvironment(t)
	dir := Project(t, files)
	if err := os.Symlink(venv, filepath.Join(dir, ".venv")); err != nil {
		t.Fatal(err)
	}
	return dir
}
