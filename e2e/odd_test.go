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
	"py_spawn":     {"handler.py", py("import multiprocessing\ndef square(n): return n * n", "with multiprocessing.get_context('spawn').Pool(2) as pool: out = pool.map(square, [1, 2, 3])", "str(out)"), "[1, 4, 9]", ""},
	"py_loop":      {"handler.py", py("import asyncio\nasync def f(): return 'ran'", "out = asyncio.run(f())", "out"), "ran", ""},
	"py_flood":     {"handler.py", py("import sys, threading, time\nsys.stdout.reconfigure(encoding='utf-8', line_buffering=True)", "threading.Thread(target=lambda: time.sleep(3600)).start()\nsys.stdout.write('y' * 5_000_000)\nfor i in range(20000): print('line', i)", "'x'"), "x", ""},
	"py_output":    {"handler.py", py("import faulthandler, io, subprocess, sys, contextlib\nfaulthandler.enable()", "subprocess.run(['echo', 'hi'], stdout=sys.stdout, check=True)\nwith contextlib.redirect_stdout(io.StringIO()) as out: print('in')", "out.getvalue() + str(sys.stdout.isatty())"), "in\nFalse", ""},
	"py_windows":   {"handler.py", map[string]string{"handler.py": "\ufeffdef handler(task, ctx):\r\n    return {'artifacts': [{'data': 'ü'}]}\r\n"}, "ü", ""},
	"py_break":     {"handler.py", py("", "raise KeyboardInterrupt", "''"), "", "The handler failed with an error without a text (KeyboardInterrupt)."},
	"js_here":      {"handler.cjs", map[string]string{"handler.cjs": "const fs = require('fs'); const path = require('path');\nmodule.exports = async () => ({ artifacts: [{ data: fs.readFileSync(path.join(__dirname, 'd.txt'), 'utf8') + process.argv.length }] });\n", "d.txt": "data"}, "data2", ""},
	"js_meta":      {"handler.mjs", with(mjs("import { readFileSync } from 'node:fs'; import c from './c.json' with { type: 'json' };", "", "readFileSync(new URL('./d.txt', import.meta.url), 'utf8') + c.a"), "c.json", "{\"a\": 1}", "d.txt", "data"), "data1", ""},
	"js_flood":     {"handler.mjs", mjs("setInterval(() => {}, 1000);", "process.stdout.write('y'.repeat(5_000_000)); for (let i = 0; i < 20000; i++) console.log('line', i); process.stdout.end?.(); console.log('after');", "'x'"), "x", ""},
	"js_catches":   {"handler.mjs", mjs("process.on('unhandledRejection', () => {}); process.on('uncaughtException', () => {}); process.on('SIGTERM', () => {});", "Promise.reject(new Error('a')); setTimeout(() => { throw new Error('b') }, 5); await new Promise((r) => setTimeout(r, 50));", "'x'"), "x", ""},
	"js_object":    {"handler.mjs", mjs("", "throw { code: 4 };", "''"), "", "{ code: 4 }"},
	"js_fork":      {"handler.cjs", map[string]string{"handler.cjs": "const { fork } = require('child_process');\nif (process.argv[2] === 'child') process.send('hi'); else\nmodule.exports = () => new Promise((resolve) => { const c = fork(__filename, ['child']); c.on('message', (m) => { c.kill(); resolve({ artifacts: [{ data: m }] }); }); });\n"}, "hi", ""},
	"js_compiled":  {"dist/handler.js", map[string]string{"dist/handler.js": "\"use strict\";\nObject.defineProperty(exports, \"__esModule\", { value: true });\nexports.default = handler;\nasync function handler(task) { return { artifacts: [{ data: 'c' }] }; }\n"}, "c", ""},
	"ts_imports": {"handler.ts", map[string]string{
		"tsconfig.json": "{ \"extends\": \"./base.json\" }", "base.json": "{ \"compilerOptions\": { \"baseUrl\": \".\", \"paths\": { \"@lib/*\": [\"lib/*\"] } } }",
		"lib/up.ts": "export const up = (t: string) => t.toUpperCase();\n", "c.json": "{\"a\": 1}", "v.tsx": "export const v = (x: number): number => x + 1;\n", "w.cts": "const w: number = 4;\nexport = { w };\n",
		"handler.ts": "import { up } from '@lib/up';\nimport c from './c.json';\nimport { v } from './v';\nimport m from './w.cjs';\nexport default async (task: any) => ({ artifacts: [{ data: up('x') + c.a + v(1) + m.w }] });\n",
	}, "X124", ""},
	"js_awaits":  {"handler.mjs", mjs("const word = await new Promise((resolve) => { setTimeout(() => resolve('late'), 100); });", "", "word"), "late", ""},
	"js_common":  {"handler.js", map[string]string{"handler.js": "const { up } = require('./lib/up');\nmodule.exports.handler = async (task) => ({ artifacts: [{ data: up(task.requestParts[0].text) }] });\n", "lib/up.js": "exports.up = (text) => text.toUpperCase();\n", "package.json": "{}"}, "HELLO", ""},
	"js_untyped": {"handler.js", map[string]string{"handler.js": "export default async () => ({ artifacts: [{ data: 'a module' }] });\n"}, "a module", ""},
	"js_rejects": {"handler.mjs", mjs("", "Promise.reject(new Error('lost'));", "'x'"), "x", ""},
	"js_throws":  {"handler.mjs", mjs("", "setTimeout(() => { throw new Error('later'); }, 10); await new Promise((resolve) => { setTimeout(resolve, 5000); });", "''"), "", crashed},
	"js_exit":    {"handler.mjs", mjs("", "process.exit(0);", "''"), "", crashed},
	"js_text":    {"handler.mjs", mjs("", "throw 'a bare text';", "''"), "", "a bare text"},
	"js_stdin":   {"handler.mjs", mjs("", "let all = ''; for await (const some of process.stdin) all += some;", "JSON.stringify(all)"), `""`, ""},
	"js_child":   {"handler.mjs", mjs("import { execSync } from 'node:child_process';", "process.chdir('/');", "execSync('pwd').toString()"), "/\n", ""},
	"js_worker":  {"handler.mjs", mjs("import { Worker } from 'node:worker_threads';", "const n = await new Promise((resolve) => { new Worker(`require('worker_threads').parentPort.postMessage(42)`, { eval: true }).on('message', resolve); });", "String(n)"), "42", ""},
	"ts_enum":    {"handler.ts", map[string]string{"handler.ts": "enum Color { Red = 'red' }\nexport default async (task: any): Promise<object> => ({ artifacts: [{ data: Color.Red as string }] });\n"}, "red", ""},
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
