package e2e

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/blocksd/blocksd/e2e/internal/system"
)

const pythonHandler = `from blocks_network import StartTaskMessage, TaskContext
from helper.words import shout


def handler(task: StartTaskMessage, ctx: TaskContext):
    ctx.report_status("working")
    return {"artifacts": [{"data": shout(task.request_parts[0].text), "mimeType": "text/plain"}]}
`

// A project in Python is served as it is, by its own environment, and a change in a package of its own rolls.
func TestPythonProject(t *testing.T) {
	dir := system.PythonProject(t, map[string]string{
		"agent-card.json":    system.Card(t, "shouter", "./handler.py", func(card map[string]any) { card["runtime"].(map[string]any)["handlerExport"] = "handler" }),
		"handler.py":         pythonHandler,
		"helper/__init__.py": "",
		"helper/words.py":    "def shout(text):\n    return text.upper()\n",
	})
	n := devOn(t, dir)
	if got := answer(t, n, "shouter", "hello"); got != "HELLO" {
		t.Errorf("answered %q", got)
	}
	system.WriteProject(t, dir, map[string]string{"helper/words.py": "def shout(text):\n    return text + '!'\n"})
	system.Eventually(t, system.CallDeadline, "the change has rolled", func() bool { return answer(t, n, "shouter", "hello") == "hello!" })
	system.WriteProject(t, dir, map[string]string{"handler.py": "def handler(task, ctx)\n    return None\n"})
	awaitReason(t, n, "handler.py", "line 1")
	if got := answer(t, n, "shouter", "hello"); got != "hello!" {
		t.Errorf("with a broken file beside it it answers %q", got)
	}
}

// Without what the package needs the status has the command that installs it.
func TestPythonProjectWithoutPackages(t *testing.T) {
	python := system.BarePython(t)
	dir := system.Project(t, map[string]string{
		"agent-card.json": system.Card(t, "lonely", "./handler.py", nil), "handler.py": "def handler(task, ctx):\n    return None\n",
	})
	if err := os.MkdirAll(filepath.Join(dir, ".venv", "bin"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, ".venv", "bin", "python"), []byte("#!/bin/sh\nexec "+python+" -S -E \"$@\"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	n := devOn(t, dir)
	awaitReason(t, n, "handler lonely is not started because", "-m pip install", "protobuf")
}
