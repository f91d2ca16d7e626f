package python

import (
	"encoding/base64"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/blocksd/blocksd/e2e/internal/system"
)

// pack makes a plugins directory of the examples, each a zipapp with the package in it, as its README says but for the
// package, which is not installed into the Python of the tests.
func pack(t *testing.T, names ...string) string {
	t.Helper()
	python, plugins := interpreter(t), t.TempDir()
	for _, name := range names {
		dir := t.TempDir()
		if err := os.CopyFS(dir, os.DirFS(filepath.Join(root, "examples", "python", name))); err != nil {
			t.Fatal(err)
		}
		if err := os.CopyFS(filepath.Join(dir, "blocksd"), os.DirFS(filepath.Join(sdk(t), "blocksd"))); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(python, "-m", "zipapp", dir, "-p", python, "-o", filepath.Join(plugins, name+"_python"))
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("pack %s: %v\n%s", name, err, out)
		}
	}
	return plugins
}

// shape is a task's events in short.
func shape(t *testing.T, events []system.Event) string {
	t.Helper()
	var out []string
	for _, e := range events {
		switch {
		case e.Type == "progress" && e.Message != "":
			out = append(out, "status "+e.Message)
		case e.Type == "artifact":
			b, err := base64.StdEncoding.DecodeString(e.Artifact.Data)
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, "artifact "+e.Artifact.MIMEType+" "+string(b))
		case e.Type == "terminal":
			out = append(out, strings.TrimSpace("terminal "+e.State+" "+e.Error))
		}
	}
	return strings.Join(out, "\n")
}

func TestExamples(t *testing.T) {
	t.Parallel()
	names := []string{"echo", "adder", "echo_stream"}
	plugins := pack(t, names...)
	for _, name := range names {
		if r := bin.Run(t, nil, "handler", "check", filepath.Join(plugins, name+"_python")); r.Code != 0 {
			t.Errorf("handler check of %s ends with %d:\n%s%s", name, r.Code, r.Stdout, r.Stderr)
		}
	}
	n := bin.Dev(t, plugins)
	for _, c := range []struct {
		agent string
		args  []string
		code  int
		want  string
	}{
		{"echo_python", []string{"--text", "hello <&> ü 😀"}, 0, "status echoing\nartifact text/plain hello <&> ü 😀\nterminal completed"},
		{"adder_python", []string{"--json-part", `{"a": 2, "b": 3.5}`}, 0, `artifact application/json {"a": 2, "b": 3.5, "sum": 5.5}` + "\nterminal completed"},
		{"adder_python", []string{"--json-part", `{"a": 2, "b": true}`}, 4, "terminal failed The request needs a number b."},
		{"echo_stream_python", []string{"--text", "one two"}, 0, "artifact text/plain one two\nterminal completed"},
	} {
		task := n.Call(t, c.agent, c.args...)
		if got := shape(t, task.Events); got != c.want || task.Code != c.code {
			t.Errorf("%s %q: exit %d, events\n%s\nwant exit %d, events\n%s\n%s", c.agent, c.args, task.Code, got, c.code, c.want, task.Stderr)
		}
	}
	if log := n.Run(t, n.Env, "logs", "adder_python").Stdout; !strings.Contains(log, "adding") || !strings.Contains(log, "b=3.5") {
		t.Errorf("the log of the adder is\n%s", log)
	}
}
