package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/blocksd/blocksd/e2e/internal/system"
)

// nodeExample is an example of the repository, with what its language needs beside it.
func nodeExample(t *testing.T, name string) string {
	t.Helper()
	files := map[string]string{}
	for _, file := range []string{"agent-card.json", "handler.mjs"} {
		b, err := os.ReadFile(filepath.Join("..", "examples", "node", name, file))
		if err != nil {
			t.Fatal(err)
		}
		files[file] = string(b)
	}
	return system.NodeProject(t, files)
}

func TestNodeExamples(t *testing.T) {
	n := devOn(t, nodeExample(t, "echo"), nodeExample(t, "adder"), nodeExample(t, "echo_stream"))
	if got := answer(t, n, "node_echo", "hello"); got != "Echoed request: hello" {
		t.Errorf("echo: %q", got)
	}
	task := n.Call(t, "node_adder", "--json-part", `{"a":2,"b":3.5}`)
	if got := texts(t, task); task.Code != 0 || len(got) != 1 || got[0] != "{\n  \"ok\": true,\n  \"a\": 2,\n  \"b\": 3.5,\n  \"sum\": 5.5\n}" {
		t.Errorf("adder: %+v", task)
	}
	if task := n.Call(t, "node_adder", "--json-part", `{"a":"2","b":3}`); task.Code != 4 || failure(task) != "the request needs the numbers a and b" {
		t.Errorf("adder: %+v", task)
	}
	r := n.Run(t, n.Env, "call", "node_echo_stream", "--text", "one two  three", "--stream")
	if r.Code != 0 || r.Stdout != "one two  three" {
		t.Errorf("echo_stream: %+v", r)
	}
	if got := answer(t, n, "node_echo_stream", "one two"); got != "one two" {
		t.Errorf("echo_stream without a stream: %q", got)
	}
}

// A handler that was written from the contract alone, in a language without a package, keeps it and is served.
func TestRustExample(t *testing.T) {
	if _, err := exec.LookPath("cargo"); err != nil {
		t.Skip("machine: cargo is not installed")
	}
	program, err := filepath.Abs("../examples/rust/target/release/wordcount")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.ReadFile(program); err != nil {
		t.Skip("the example in Rust is not built: run make test")
	}
	if r := bin.Run(t, nil, "handler", "check", program); r.Code != 0 {
		t.Errorf("handler check: %+v", r)
	}
	n := bin.Dev(t, system.PluginDir(t, map[string]string{"wordcount": program}, nil))
	if got := answer(t, n, "rust_wordcount", "one two three"); got != "3" {
		t.Errorf("answered %q", got)
	}
}
