package e2e

import (
	"encoding/base64"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/blocksd/blocksd/e2e/internal/system"
)

// devOn starts a network with projects alone.
func devOn(t *testing.T, projects ...string) *system.Network {
	t.Helper()
	return bin.Dev(t, t.TempDir(), projectFlags(projects)...)
}

func projectFlags(projects []string) (args []string) {
	for _, p := range projects {
		args = append(args, "--project", p)
	}
	return args
}

// texts are the inline artifacts of a task.
func texts(t *testing.T, task system.Task) (out []string) {
	t.Helper()
	for _, e := range task.Events {
		if e.Type != "artifact" {
			continue
		}
		b, err := base64.StdEncoding.DecodeString(e.Artifact.Data)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, string(b))
	}
	return out
}

// answer calls an agent and returns its one artifact.
func answer(t *testing.T, n *system.Network, agent, text string) string {
	t.Helper()
	task := n.Call(t, agent, "--text", text)
	got := texts(t, task)
	if task.Code != 0 || len(got) != 1 {
		t.Fatalf("call %s: code %d, artifacts %q, %s", agent, task.Code, got, task.Stdout)
	}
	return got[0]
}

const blocksHandler = `import type { HandlerResult, StartTaskMessage, TaskContext } from '@blocks-network/sdk';
import { shout } from './lib/shout.js';

enum End { Mark = '!' }

export default async function handler(task: StartTaskMessage, ctx?: TaskContext): Promise<HandlerResult> {
  const part = task.requestParts?.[0] as { text?: string } | undefined;
  ctx?.reportStatus('working');
  console.warn('careful');
  const keys = [process.env.GREETING, process.env.BLOCKS_API_KEY ?? 'no key'].join(' ');
  return { artifacts: [{ data: shout(part?.text ?? '') + End.Mark + ' ' + keys, mimeType: 'text/plain', outputId: 'result' }, { data: null }] } as HandlerResult;
}
`

// A project as Blocks' own tool makes it is served as it is, and a change of its sources rolls.
func TestNodeProject(t *testing.T) {
	dir := system.NodeProject(t, map[string]string{
		"agent-card.json": system.Card(t, "shouter", "./handler.ts", nil),
		"handler.ts":      blocksHandler,
		"lib/shout.ts":    "export function shout(text: string): string { return text.toUpperCase(); }\n",
		".env":            "# keys\nBLOCKS_API_KEY=bk_secret\nexport GREETING=\"good day\"\n",
	})
	n := devOn(t, dir)
	if got := answer(t, n, "shouter", "hello"); got != "HELLO! good day no key" {
		t.Errorf("answered %q", got)
	}
	h := n.Status(t).Handler(t, "shouter")
	if h.Path != filepath.Join(dir, "handler.ts") || h.State != "ready" {
		t.Errorf("status has the handler %+v", h)
	}
	awaitLog(t, n, "shouter", "careful", "WARN")

	system.WriteProject(t, dir, map[string]string{"lib/shout.ts": "export function shout(text: string): string { return text.toLowerCase(); }\n"})
	system.Eventually(t, system.CallDeadline, "the change has rolled", func() bool { return answer(t, n, "shouter", "HELLO") == "hello! good day no key" })

	// A version that cannot be loaded does not replace the one that works, and says why.
	system.WriteProject(t, dir, map[string]string{"handler.ts": "export default async function ( {\n"})
	awaitReason(t, n, "handler.ts", "Unexpected token")
	if got := answer(t, n, "shouter", "HELLO"); got != "hello! good day no key" {
		t.Errorf("with a broken file beside it it answers %q", got)
	}
}

// awaitReason waits until a reason in the status has all texts, and returns it.
func awaitReason(t *testing.T, n *system.Network, parts ...string) (found string) {
	t.Helper()
	var last []string
	t.Cleanup(func() {
		if found == "" {
			t.Logf("the reasons were %q", last)
		}
	})
	system.Eventually(t, system.CallDeadline, "status says "+strings.Join(parts, " … "), func() bool {
		last = n.Status(t).Reasons
		i := slices.IndexFunc(last, func(r string) bool {
			return !slices.ContainsFunc(parts, func(part string) bool { return !strings.Contains(r, part) })
		})
		if i >= 0 {
			found = last[i]
		}
		return i >= 0
	})
	return found
}

// Each project that cannot be served says what to do, and the others go on.
func TestBrokenProjects(t *testing.T) {
	modules := system.NodeModules(t)
	good := system.NodeProject(t, map[string]string{
		"agent-card.json": system.Card(t, "good", "./handler.mjs", nil),
		"handler.mjs":     "export default async () => ({ artifacts: [{ data: 'fine', mimeType: 'text/plain' }] });\n",
	})
	named := func(export string) func(map[string]any) {
		return func(card map[string]any) { card["runtime"].(map[string]any)["handlerExport"] = export }
	}
	broken := []struct {
		files map[string]string
		says  []string
	}{
		{map[string]string{"readme": ""}, []string{"is not loaded because it has no agent-card.json"}},
		{map[string]string{"agent-card.json": "{"}, []string{"is not loaded because", "is not JSON"}},
		{map[string]string{"agent-card.json": system.Card(t, "gone", "./handler.mjs", nil)}, []string{"its card names the handler ./handler.mjs", "correct runtime.handler"}},
		{map[string]string{"agent-card.json": system.Card(t, "plain", "./handler.txt", nil), "handler.txt": "x"}, []string{"handler.txt", "chmod 0755", ".mjs"}},
		{
			map[string]string{"agent-card.json": system.Card(t, "good", "./handler.mjs", nil), "handler.mjs": "export default () => {}"},
			[]string{"serves the agent good already", "another agentName"},
		},
		{
			map[string]string{"agent-card.json": system.Card(t, "syntax", "./handler.mjs", nil), "handler.mjs": "export default function (\n{ return 1 }\n"},
			[]string{"handler syntax is not started because handler.mjs, line 2 cannot be loaded"},
		},
		{
			map[string]string{"agent-card.json": system.Card(t, "export", "./handler.mjs", named("work")), "handler.mjs": "export default () => {}; export const other = () => {};"},
			[]string{"handler export is not started because handler.mjs exports no function work, but default, other", "runtime.handlerExport"},
		},
		{
			map[string]string{"agent-card.json": system.Card(t, "needs", "./handler.mjs", nil), "handler.mjs": "import 'left-pad'; export default () => {}"},
			[]string{"handler needs is not started because handler.mjs needs the package left-pad, which is not installed: npm install --prefix"},
		},
		{
			map[string]string{"agent-card.json": system.Card(t, "sibling", "./handler.mjs", nil), "handler.mjs": "import './other.mjs'; export default () => {}"},
			[]string{"handler sibling is not started because handler.mjs cannot be loaded: there is no file other.mjs"},
		},
	}
	projects := []string{good}
	for _, b := range broken {
		dir := system.Project(t, b.files)
		if err := os.Symlink(modules, filepath.Join(dir, "node_modules")); err != nil {
			t.Fatal(err)
		}
		projects = append(projects, dir)
	}
	n := devOn(t, projects...)
	if got := answer(t, n, "good", "x"); got != "fine" {
		t.Errorf("the good one answers %q", got)
	}
	for _, b := range broken {
		awaitReason(t, n, b.says...)
	}
}

// JavaScript needs nothing but Node.js. Where what translates TypeScript is not installed, the status has the command that
// installs it; once that is done the handler starts.
func TestNodeProjectWithoutPackages(t *testing.T) {
	modules := system.NodeModules(t)
	lonely := system.Project(t, map[string]string{
		"agent-card.json": system.Card(t, "lonely", "./handler.cjs", nil),
		"handler.cjs":     "module.exports = async (task) => ({ artifacts: [{ data: 'got ' + task.requestParts[0].text, mimeType: 'text/plain' }] });\n",
	})
	typed := system.Project(t, map[string]string{
		"agent-card.json": system.Card(t, "typed", "./handler.ts", nil),
		"handler.ts":      "export default async (task: any): Promise<object> => ({ artifacts: [{ data: 'got ' + task.requestParts[0].text }] });\n",
	})
	compiled := system.Project(t, map[string]string{
		"agent-card.json": system.Card(t, "compiled", "./handler.ts", nil),
		"handler.ts":      "export default async (task: any): Promise<object> => ({ artifacts: [{ data: 'got ' + task.requestParts[0].text }] });\n",
	})
	if err := os.Mkdir(filepath.Join(compiled, "node_modules"), 0o755); err != nil {
		t.Fatal(err)
	}
	link(t, filepath.Join(modules, "typescript"), filepath.Join(compiled, "node_modules", "typescript"))
	n := devOn(t, lonely, typed, compiled)
	if got := answer(t, n, "compiled", "it"); got != "got it" { // by the compiler that the project has
		t.Errorf("answered %q", got)
	}
	if got := answer(t, n, "lonely", "it"); got != "got it" {
		t.Errorf("answered %q", got)
	}
	sdk := filepath.Join(n.StateDir, "sdk", "node")
	awaitReason(t, n, "handler typed is not started because what translates TypeScript is not installed: npm ci --omit=dev --prefix "+sdk)
	if err := os.Symlink(modules, filepath.Join(sdk, "node_modules")); err != nil {
		t.Fatal(err)
	}
	n.WaitReady(t)
	if got := answer(t, n, "typed", "it"); got != "got it" {
		t.Errorf("answered %q", got)
	}
}

// replaceOnce replaces a text that must be there.
func replaceOnce(t *testing.T, text, old, by string) string {
	t.Helper()
	if !strings.Contains(text, old) {
		t.Fatalf("there is no %q in\n%s", old, text)
	}
	return strings.Replace(text, old, by, 1)
}
