package e2e

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/blocksd/blocksd/e2e/internal/system"
)

// oddProject is a project that does what few do, and that works, or fails its own tasks only.
type oddProject struct {
	handler string
	files   map[string]string
	want    string // the artifact
	fails   string // or the error of the task
}

// py and mjs are the sources of handlers: what is above the function, its lines, and what it returns.
func py(above, lines, result string) map[string]string {
	body := "    " + strings.ReplaceAll(lines, "\n", "\n    ") + "\n"
	return map[string]string{"handler.py": above + "\ndef handler(task, ctx):\n" + body + "    return {'artifacts': [{'data': " + result + ", 'mimeType': 'text/plain'}]}\n"}
}

func mjs(above, lines, result string) map[string]string {
	return map[string]string{"handler.mjs": above + "\nexport default async function handler(task, ctx) {\n" + lines + "\nreturn { artifacts: [{ data: " + result + ", mimeType: 'text/plain' }] };\n}\n"}
}

// with adds files.
func with(files map[string]string, more ...string) map[string]string {
	for i := 0; i < len(more); i += 2 {
		files[more[i]] = more[i+1]
	}
	return files
}

const crashed = "The handler crashed while it worked on the task."

var oddProjects = map[string]oddProject{
	"py_package": {"src/agent/handler.py", map[string]string{
		"src/agent/__init__.py": "", "src/agent/words.py": "def shout(text): return text.upper()\n",
		"src/agent/handler.py": "from .words import shout\nfrom . import words\ndef handler(task, ctx):\n    return {'artifacts': [{'data': shout(task.request_parts[0].text)}]}\n",
	}, "HELLO", ""},
	"py_object":    {"handler.py", map[string]string{"handler.py": "class H:\n    def __call__(self, task, ctx):\n        return {'artifacts': [{'data': 'an object'}]}\nhandler = H()\n"}, "an object", ""},
	"py_main":      {"handler.py", map[string]string{"handler.py": "def handler(task, ctx):\n    return {'artifacts': [{'data': 'x'}]}\n\nif __name__ == '__main__':\n    raise SystemExit('never')\n"}, "x", ""},
	"py_exit":      {"handler.py", py("import sys", "sys.exit('enough')", "''"), "", "enough"},
	"py_exit_hard": {"handler.py", py("import os", "os._exit(3)", "''"), "", crashed},
	"py_fork":      {"handler.py", py("import os, sys", "pid = os.fork()\nif pid == 0: sys.exit(7)", "str(os.waitpid(pid, 0)[1] >> 8)"), "7", ""},
	"py_pool":      {"handler.py", py("import multiprocessing\ndef square(n): return n * n", "with multiprocessing.get_context('fork').Pool(2) as pool: out = pool.map(square, [1, 2, 3])", "str(out)"), "[1, 4, 9]", ""},
	"py_stdin":     {"handler.py", py("import sys", "pass", "repr(sys.stdin.read())"), "''", ""},
	"py_chdir":     {"handler.py", py("import os", "os.chdir('/')", "os.getcwd()"), "/", ""},
	"py_signal":    {"handler.py", py("import signal\nsignal.signal(signal.SIGTERM, lambda *_: None)", "pass", "'x'"), "x", ""},
	"py_bytes":     {"handler.py", py("import sys", `print("\udc80 \0"); sys.stdout.buffer.write(b"\xff\n"); sys.stdout.close()`, "'x'"), "x", ""},
	"py_thread":    {"handler.py", py("import threading", "threading.Thread(target=lambda: 1 / 0).start()", "'x'"), "x", ""},
	"py_names":     {"handler.py", with(py("import random", "pass", "random.WORD"), "random.py", "WORD = 'of the project'\n", "queue.py", "raise RuntimeError('not this one')\n"), "of the project", ""},
	"py_removed":   {"handler.py", py("import os\nos.remove(__file__)", "pass", "'x'"), "x", ""},
	"py_deep":      {"handler.py", py("def f(): return f()", "f()", "''"), "", "maximum recursion depth exceeded"},
	"js_awaits":    {"handler.mjs", mjs("const word = await new Promise((resolve) => { setTimeout(() => resolve('late'), 100); });", "", "word"), "late", ""},
	"js_common":    {"handler.js", map[string]string{"handler.js": "const { up } = require('./lib/up');\nmodule.exports.handler = async (task) => ({ artifacts: [{ data: up(task.requestParts[0].text) }] });\n", "lib/up.js": "exports.up = (text) => text.toUpperCase();\n", "package.json": "{}"}, "HELLO", ""},
	"js_untyped":   {"handler.js", map[string]string{"handler.js": "export default async () => ({ artifacts: [{ data: 'a module' }] });\n"}, "a module", ""},
	"js_rejects":   {"handler.mjs", mjs("", "Promise.reject(new Error('lost'));", "'x'"), "x", ""},
	"js_throws":    {"handler.mjs", mjs("", "setTimeout(() => { throw new Error('later'); }, 10); await new Promise((resolve) => { setTimeout(resolve, 5000); });", "''"), "", crashed},
	"js_exit":      {"handler.mjs", mjs("", "process.exit(0);", "''"), "", crashed},
	"js_text":      {"handler.mjs", mjs("", "throw 'a bare text';", "''"), "", "a bare text"},
	"js_stdin":     {"handler.mjs", mjs("", "let all = ''; for await (const some of process.stdin) all += some;", "JSON.stringify(all)"), `""`, ""},
	"js_child":     {"handler.mjs", mjs("import { execSync } from 'node:child_process';", "process.chdir('/');", "execSync('pwd').toString()"), "/\n", ""},
	"js_worker":    {"handler.mjs", mjs("import { Worker } from 'node:worker_threads';", "const n = await new Promise((resolve) => { new Worker(`require('worker_threads').parentPort.postMessage(42)`, { eval: true }).on('message', resolve); });", "String(n)"), "42", ""},
	"ts_enum":      {"handler.ts", map[string]string{"handler.ts": "enum Color { Red = 'red' }\nexport default async (task: any): Promise<object> => ({ artifacts: [{ data: Color.Red as string }] });\n"}, "red", ""},
	"ts_alias": {"src/handler.ts", map[string]string{
		"tsconfig.json": "{\n  // where things are\n  \"compilerOptions\": { \"baseUrl\": \".\", \"paths\": { \"@lib/*\": [\"src/lib/*\"], \"words\": [\"src/words.ts\"] }, },\n}\n",
		"src/lib/up.ts": "export const up = (text: string): string => text.toUpperCase();\n", "src/words.ts": "export const end: string = '!';\n",
		"src/handler.ts": "import { up } from '@lib/up';\nimport { end } from 'words';\nexport default async (task: any) => ({ artifacts: [{ data: up(task.requestParts[0].text) + end }] });\n",
	}, "HELLO!", ""},
}

// Projects that do odd things work as far as they can; what one does to its own process no other feels.
func TestOddProjects(t *testing.T) {
	modules, venv := system.NodeModules(t), system.PythonEnvironment(t)
	var dirs []string
	for agent, odd := range oddProjects {
		// A name with a space and a letter that is none of ASCII, behind a link.
		dir := filepath.Join(t.TempDir(), "Mein Projekt ü")
		system.WriteProject(t, dir, with(odd.files, "agent-card.json", system.Card(t, agent, "./"+odd.handler, nil)))
		if filepath.Ext(odd.handler) == ".py" {
			link(t, venv, filepath.Join(dir, ".venv"))
		} else {
			link(t, modules, filepath.Join(dir, "node_modules"))
		}
		link(t, dir, filepath.Join(filepath.Dir(dir), agent))
		dirs = append(dirs, filepath.Join(filepath.Dir(dir), agent))
	}
	n := devOn(t, dirs...)
	for agent, odd := range oddProjects {
		task := n.Call(t, agent, "--text", "hello")
		want := []string{odd.want}
		if odd.fails != "" {
			want = nil
		}
		if got := texts(t, task); !slices.Equal(got, want) || failure(task) != odd.fails {
			t.Errorf("%s: exit %d, artifacts %q, %s%s", agent, task.Code, got, task.Stdout, task.Stderr)
		}
	}
	n.Stop(t)
}
