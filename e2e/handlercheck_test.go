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

// Where the configuration asks for an encrypted connection, handlers in every language have one.
func TestMTLSOfProjects(t *testing.T) {
	t.Parallel()
	node := system.NodeProject(t, map[string]string{
		"agent-card.json": system.Card(t, "in_node", "./handler.mjs", nil),
		"handler.mjs":     "export default (task) => ({ artifacts: [{ data: task.requestParts[0].text.repeat(100_000) }] });\n",
	})
	python := system.PythonProject(t, map[string]string{
		"agent-card.json": system.Card(t, "in_python", "./handler.py", nil),
		"handler.py":      "def handler(task, ctx):\n    return {'artifacts': [{'data': task.request_parts[0].text * 100_000}]}\n",
	})
	yaml := execProject(t, "in_yaml", "command: [cat]\n", nil)
	plugins := system.PluginDir(t, map[string]string{"echo": filepath.Join(bin.Plugins(), "echo")}, nil)
	agents := t.TempDir()
	for name, dir := range map[string]string{"in_node": node, "in_python": python, "in_yaml": yaml} {
		card, err := os.ReadFile(filepath.Join(dir, "agent-card.json"))
		if err != nil {
			t.Fatal(err)
		}
		writeFile(t, filepath.Join(agents, name+".json"), string(card))
	}
	if err := os.CopyFS(agents, os.DirFS(plugins)); err != nil {
		t.Fatal(err)
	}
	_, env := bin.Sandbox(t, agents)
	file := filepath.Join(t.TempDir(), "blocksd.yaml")
	writeFile(t, file, "handlers:\n  - {name: echo, mtls: true}\n  - {name: in_node, mtls: true}\n  - {name: in_python, mtls: true}\n  - {name: in_yaml, mtls: true}\n")
	state := t.TempDir()
	socket := filepath.Join(state, "s")
	n := &system.Network{Binaries: bin, StateDir: state, Env: env.With("BLOCKSD_SOCKET", socket)}
	n.Process = bin.Start(t, env, "run", "--plugins", plugins, "--state-dir", state, "--socket", socket, "--config", file, "--project", node, "--project", python, "--project", yaml)
	system.Eventually(t, system.StartDeadline, "the daemon answers", func() bool { return strings.HasPrefix(bin.Run(t, n.Env, "status", "--json").Stdout, "{") })
	system.Eventually(t, system.StartDeadline, "all agents are online", func() bool {
		status := n.Status(t)
		return status.Ready && len(status.Agents) == 4
	})
	if got := answer(t, n, "echo", "hello"); got != "Echoed request: hello" {
		t.Errorf("echo answers %q", got)
	}
	for _, agent := range []string{"in_node", "in_python"} {
		dir := t.TempDir()
		task := n.Call(t, agent, "--text", "0123456789", "--save", dir)
		files, _ := filepath.Glob(filepath.Join(dir, "*"))
		if len(files) != 1 {
			t.Fatalf("%s: %+v, files %q", agent, task, files)
		}
		if b, err := os.ReadFile(files[0]); len(b) != 1_000_000 {
			t.Errorf("%s: %d bytes, %v", agent, len(b), err)
		}
	}
	for _, project := range []string{node, python} {
		r := bin.Run(t, nil, "handler", "check", project, "--config", file, "--state-dir", t.TempDir())
		if r.Code != 0 {
			t.Errorf("handler check %s: %+v", project, r)
		}
	}
}
