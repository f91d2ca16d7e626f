package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/blocksd/blocksd/e2e/internal/system"
)

// checkReport is what handler check --json prints.
type checkReport struct {
	Isolation string
	Problems  []string
	Checks    []struct{ Check, State, Detail string }
}

// A handler is checked behind the walls of a daemon, and what these keep from it is said as such.
func TestHandlerCheckWalls(t *testing.T) {
	t.Parallel()
	state := t.TempDir()
	secret := filepath.Join(state, "secret")
	writeFile(t, secret, "what no handler may read\n")
	check := func(path string, more ...string) (system.Result, checkReport) {
		t.Helper()
		r := bin.Run(t, nil, append([]string{"handler", "check", path, "--json", "--state-dir", state}, more...)...)
		var report checkReport
		if r.Stdout != "" {
			if err := json.Unmarshal([]byte(r.Stdout), &report); err != nil {
				t.Fatalf("%v: %+v", err, r)
			}
		}
		return r, report
	}
	echo := filepath.Join(bin.Plugins(), "echo")
	r, report := check(echo)
	if r.Code != 0 || report.Isolation == "" {
		t.Fatalf("echo: %+v", r)
	}
	if report.Isolation == "none" {
		t.Skip("machine: nothing here can close files to a handler")
	}

	dir := t.TempDir()
	peeping := filepath.Join(dir, "peeping")
	writeFile(t, peeping, fmt.Sprintf("#!/bin/sh\n[ -r '%s' ] || { echo 'The secret cannot be read.' >&2; exit 78; }\nexec '%s'\n", secret, echo))
	if err := os.Chmod(peeping, 0o755); err != nil {
		t.Fatal(err)
	}
	r, _ = check(peeping)
	if r.Code != 1 || !strings.Contains(r.Stderr, "The secret cannot be read") || !strings.Contains(r.Stderr, "without the walls that the daemon puts around it, it starts: ") {
		t.Errorf("a handler that needs a closed file: %+v", r)
	}
	if !strings.Contains(r.Stderr, "\n") || strings.Count(strings.TrimSpace(r.Stderr), "\n") != 0 {
		t.Errorf("it is not one sentence: %q", r.Stderr)
	}

	project := execProject(t, "peeps", fmt.Sprintf("command: cat '%s'\n", secret), nil)
	r, report = check(project)
	if r.Code != 1 || !slices.ContainsFunc(report.Problems, func(p string) bool {
		return strings.HasPrefix(p, "without the walls that the daemon puts around it ("+report.Isolation+") it passes example")
	}) {
		t.Errorf("a task that needs a closed file: %+v", r)
	}

	// What the configuration says of a handler counts.
	config := filepath.Join(t.TempDir(), "blocksd.yaml")
	writeFile(t, config, fmt.Sprintf("state_dir: %s\nhandlers:\n  - {name: peeps, level: none}\n", state))
	if r, report = check(project, "--config", config); r.Code != 0 || report.Isolation != "none" {
		t.Errorf("without walls: %+v", r)
	}
}

// A handler whose package has no encrypted connections says so, where the configuration asks for one; one in Go has them.
func TestMTLSOfProjects(t *testing.T) {
	t.Parallel()
	node := system.NodeProject(t, map[string]string{
		"agent-card.json": system.Card(t, "in_node", "./handler.mjs", nil), "handler.mjs": "export default () => {};\n",
	})
	python := system.PythonProject(t, map[string]string{
		"agent-card.json": system.Card(t, "in_python", "./handler.py", nil), "handler.py": "def handler(task, ctx):\n    return None\n",
	})
	yaml := execProject(t, "in_yaml", "command: [cat]\n", nil)
	plugins := system.PluginDir(t, map[string]string{"echo": filepath.Join(bin.Plugins(), "echo")}, nil)
	_, env := bin.Sandbox(t, plugins)
	file := filepath.Join(t.TempDir(), "blocksd.yaml")
	writeFile(t, file, "handlers:\n  - {name: echo, mtls: true}\n  - {name: in_node, mtls: true}\n  - {name: in_python, mtls: true}\n  - {name: in_yaml, mtls: true}\n")
	state := t.TempDir()
	socket := filepath.Join(state, "s")
	n := &system.Network{Binaries: bin, StateDir: state, Env: env.With("BLOCKSD_SOCKET", socket)}
	n.Process = bin.Start(t, env, "run", "--plugins", plugins, "--state-dir", state, "--socket", socket, "--config", file, "--project", node, "--project", python, "--project", yaml)
	system.Eventually(t, system.StartDeadline, "the daemon answers", func() bool { return strings.HasPrefix(bin.Run(t, n.Env, "status", "--json").Stdout, "{") })
	awaitReason(t, n, "handler in_node is not started because the package for Node.js has no encrypted connections: remove mtls from this handler in the configuration")
	awaitReason(t, n, "handler in_python is not started because the package for Python has no encrypted connections: remove mtls from this handler in the configuration")
	if h := n.Status(t).Handler(t, "in_yaml"); h.State != "ready" {
		system.Eventually(t, system.StartDeadline, "the handler in YAML is ready", func() bool { return n.Status(t).Handler(t, "in_yaml").State == "ready" })
	}
	if got := answer(t, n, "echo", "hello"); got != "Echoed request: hello" {
		t.Errorf("echo answers %q", got)
	}
	for _, project := range []string{node, python} {
		r := bin.Run(t, nil, "handler", "check", project, "--config", file, "--state-dir", t.TempDir())
		if r.Code != 1 || !strings.Contains(r.Stderr, "has no encrypted connections") || strings.Contains(r.Stderr, "walls") {
			t.Errorf("handler check %s: %+v", project, r)
		}
	}
}
