package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/blocksd/blocksd/e2e/internal/system"
)

// brokenProject is a project that cannot be served, and what the status says of it.
type brokenProject struct {
	agent, handler string
	export         string
	files          map[string]string
	says           []string
}

const notStarted = "is not started because"

var brokenProjects = []brokenProject{
	{
		"py_syntax", "handler.py", "", map[string]string{"handler.py": "def handler(task, ctx)\n    return 1\n"},
		[]string{"handler py_syntax " + notStarted, "handler.py cannot be loaded because of a syntax error in line 1: expected ':'"},
	},
	{
		"py_export", "handler.py", "work", map[string]string{"handler.py": "def other(task, ctx):\n    return 1\n"},
		[]string{"handler py_export " + notStarted, "handler.py has no function 'work': define it, or correct runtime.handlerExport"},
	},
	{
		"py_package", "handler.py", "", map[string]string{"handler.py": "import left_pad\ndef handler(task, ctx):\n    return 1\n"},
		[]string{"handler py_package " + notStarted, "the module 'left_pad' is not installed for", "/.venv/bin/python -m pip install left_pad (or with the name of another package that has it)"},
	},
	{
		"py_raises", "handler.py", "", map[string]string{"handler.py": "import os\nKEY = os.environ['OTHER_KEY']\ndef handler(task, ctx):\n    return 1\n"},
		[]string{"handler py_raises " + notStarted, "handler.py cannot be loaded because it raised KeyError: 'OTHER_KEY'", "line 2"},
	},
	{
		"py_venv", "handler.py", "", map[string]string{"handler.py": "def handler(task, ctx):\n    return 1\n", ".venv/bin/python": "->/nowhere/python"},
		[]string{"is not loaded because", "/.venv/bin/python leads to no program: make the environment again, or remove it"},
	},
	{
		"py_moved", "handler.py", "", map[string]string{"handler.py": "", ".venv/bin/python": "#!/bin/sh\nexec /nowhere/python \"$@\"\n"},
		[]string{"handler py_moved could not be started because its interpreter", "/.venv/bin/python leads to a program that is not there, or that handlers may not read: make the environment again, or remove it"},
	},
	{
		"py_file", "gone.py", "", map[string]string{"handler.py": ""},
		[]string{"is not loaded because its card names the handler ./gone.py, which cannot be read: no such file or directory; correct runtime.handler in agent-card.json"},
	},
	{
		"ts_syntax", "handler.ts", "", map[string]string{"handler.ts": "export default async function (task: string\n{ return 1 }\n"},
		[]string{"handler ts_syntax " + notStarted + " handler.ts cannot be loaded: Unexpected token, expected \",\" (2:1)"},
	},
	{
		"ts_export", "handler.ts", "", map[string]string{"handler.ts": "export const work = 1;\n"},
		[]string{"handler ts_export " + notStarted + " handler.ts exports no function default: export it, or correct runtime.handlerExport in agent-card.json"},
	},
	{
		"ts_name", "handler.ts", "", map[string]string{"handler.ts": "import { nope } from 'node:fs';\nexport default (task: any) => nope;\n"},
		[]string{"handler ts_name " + notStarted + " handler.ts, line 1 cannot be loaded", "does not provide an export named 'nope'"},
	},
	{
		"ts_package", "handler.ts", "", map[string]string{"handler.ts": "import pad from 'left-pad';\nexport default (task: any) => pad;\n"},
		[]string{"handler ts_package " + notStarted + " handler.ts needs the package left-pad, which is not installed: npm install --prefix"},
	},
	{
		"ts_decorator", "handler.ts", "", map[string]string{"handler.ts": "function d(x: any) {}\n@d\nclass A {}\nexport default (task: any) => A;\n", "node_modules/sucrase": "->modules/sucrase"},
		[]string{"handler ts_decorator " + notStarted + " handler.ts cannot be loaded: line 2 has a decorator, which TypeScript itself has to compile: npm install --prefix", "typescript@5"},
	},
	{
		"ts_raises", "handler.ts", "", map[string]string{"handler.ts": "if (!process.env.OTHER_KEY) throw new Error('OTHER_KEY is not set');\nexport default (task: any) => 1;\n"},
		[]string{"handler ts_raises could not be started because", "handler.ts cannot be loaded: OTHER_KEY is not set"},
	},
	{
		"js_require", "handler.mjs", "", map[string]string{"handler.mjs": "const fs = require('fs');\nexport default () => fs;\n"},
		[]string{"handler js_require " + notStarted + " handler.mjs, line 1 cannot be loaded: it uses require, which only CommonJS has: name the file .cjs, or import what it needs"},
	},
	{
		"js_type", "handler.js", "", map[string]string{"handler.js": "import fs from 'node:fs';\nexport default () => fs;\n", "package.json": `{"type":"commonjs"}`},
		[]string{"handler js_type " + notStarted + " handler.js cannot be loaded: it is a module", `set "type" to "module" there, or name the file .mjs`},
	},
	{
		"yaml_key", "handler.yaml", "", map[string]string{"handler.yaml": "comand: [cat]\n"},
		[]string{"handler yaml_key " + notStarted, `handler.yaml cannot be used: line 1: key "comand" is unknown, did you mean "command"?`},
	},
	{
		"yaml_gone", "handler.yaml", "", map[string]string{"handler.yaml": "command: [no-such-program-here]\n"},
		[]string{"handler yaml_gone " + notStarted, "its program no-such-program-here is not in PATH: install it, or write its whole path"},
	},
	{
		"yaml_bad", "handler.yaml", "", map[string]string{"handler.yaml": "command: [cat\n"},
		[]string{"handler yaml_bad " + notStarted, "handler.yaml cannot be used: it is not YAML: line 1"},
	},
	{
		"interpreter", "work", "", map[string]string{"work": "#!/nowhere/ruby\n"},
		[]string{"handler interpreter could not be started because its first line names the interpreter /nowhere/ruby, which does not exist: install it, or correct the line"},
	},
	{
		"crashes", "work", "", map[string]string{"work": "#!/bin/sh\necho 'The disk is full.' >&2\nexit 3\n"},
		[]string{"handler crashes could not be started because it ended with exit code 3 before its handshake", "The disk is full."},
	},
	{
		"key", "handler.yaml", "", map[string]string{"handler.yaml": "command: [cat]\n", "agent-card.json": `{"runtyme":{}}`},
		[]string{"is not loaded because agent card", `the card has the unknown key "runtyme", did you mean "runtime"?`},
	},
}

// Whatever is wrong with a project in any language is one sentence in the status that says what to do, and the others go on.
func TestBrokenProjectsByLanguage(t *testing.T) {
	t.Parallel()
	modules, venv := system.NodeModules(t), system.PythonEnvironment(t)
	projects := []string{execProject(t, "good", "command: [cat]\n", nil)}
	for _, b := range brokenProjects {
		files := map[string]string{"agent-card.json": system.Card(t, b.agent, "./"+b.handler, func(card map[string]any) {
			if b.export != "" {
				card["runtime"].(map[string]any)["handlerExport"] = b.export
			}
		})}
		links := map[string]string{}
		switch filepath.Ext(b.handler) {
		case ".py":
			links[".venv"] = venv
		case ".ts":
			links["node_modules"] = modules
		}
		for name, text := range b.files {
			own, _, _ := strings.Cut(name, "/")
			delete(links, own)
			if to, ok := strings.CutPrefix(text, "->"); ok {
				if inModules, ok := strings.CutPrefix(to, "modules/"); ok {
					to = filepath.Join(modules, inModules)
				}
				links[name] = to
				continue
			}
			files[name] = text
		}
		dir := system.Project(t, files)
		for name, to := range links {
			if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
				t.Fatal(err)
			}
			link(t, to, filepath.Join(dir, name))
		}
		projects = append(projects, dir)
	}
	n := devOn(t, projects...)
	if got := answer(t, n, "good", "x"); got != "x" {
		t.Errorf("the good one answers %q", got)
	}
	for _, b := range brokenProjects {
		reason := awaitReason(t, n, b.says...)
		if strings.Contains(reason, "\n") {
			t.Errorf("%s: it is not one sentence: %q", b.agent, reason)
		}
	}
	if got := answer(t, n, "good", "y"); got != "y" {
		t.Errorf("the good one answers %q", got)
	}
}

// Without an interpreter the status says what to install.
func TestMissingInterpreters(t *testing.T) {
	state := t.TempDir()
	args := []string{"dev", "--listen", "127.0.0.1:0", "--state-dir", state, "--plugins", t.TempDir(), "--project", execProject(t, "good", "command: [/bin/cat]\n", nil)}
	for file, text := range map[string]string{"handler.py": "def handler(task, ctx):\n    return 1\n", "handler.ts": "export default () => {};\n"} {
		agent := "in_" + strings.TrimPrefix(filepath.Ext(file), ".")
		args = append(args, "--project", system.Project(t, map[string]string{"agent-card.json": system.Card(t, agent, "./"+file, nil), file: text}))
	}
	n := &system.Network{Binaries: bin, StateDir: state, Process: bin.Start(t, []string{"PATH=/nowhere"}, args...)}
	n.Env = n.EnvFile(t, filepath.Join(state, "dev.env"))
	awaitReason(t, n, "its handler is written in Python and there is no python3 in PATH: install Python 3.10 or newer, or make an environment .venv in the project")
	awaitReason(t, n, "its handler is written in JavaScript or TypeScript and there is no node in PATH: install Node.js 20 or newer")
	if got := answer(t, n, "good", "x"); got != "x" {
		t.Errorf("the good one answers %q", got)
	}
}
