package e2e

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/blocksd/blocksd/e2e/internal/system"
)

// reporter has two streams, one after the other, and files whose names nobody should trust.
const reporter = `import blocksd

def handler(task):
    for name, metadata in (("figures", {"kind": "table"}), ("log", {"kind": "log"})):
        with task.stream(name, metadata=metadata) as stream:
            stream.write(*[f"{name} {n}\n" for n in range(3)])
    return [
        blocksd.Artifact(b"first", "text/plain", "../../report"),
        blocksd.Artifact(b"second", "", "C:\\out\\report.txt"),
        blocksd.Artifact(b"hidden", "text/x-shellscript", ".profile"),
        blocksd.Artifact(b"option", "", "-rf"),
        blocksd.json_artifact({"a": 1}),
        blocksd.Artifact(b"large" * 500_000, "application/octet-stream", "large.bin"),
    ]

blocksd.serve(handler)
`

func reporterStreams(card map[string]any) {
	stream := map[string]any{"direction": "outbound", "format": "bytes", "contentType": "text/plain", "description": "Lines."}
	card["capabilities"] = map[string]any{"taskKinds": []string{"request", "pipe"}}
	card["streams"] = map[string]any{"figures": stream, "log": stream}
}

// savers read all that the reporter streams and save its files twice, each in the way of its package.
var savers = map[string]string{
	"handler.py": `import tempfile, threading
import blocksd

def handler(task):
    heard = {}
    def read(stream):
        heard[stream.name] = b"".join(stream).decode()
    with task.call("reporter", "go", stream=True) as call, tempfile.TemporaryDirectory() as out:
        found = call.stream_where(lambda s: s.metadata == {"kind": "log"}, timeout=120)
        readers = []
        for stream in call.open_all():
            readers.append(threading.Thread(target=read, args=[stream]))
            readers[-1].start()
        for reader in readers:
            reader.join()
        state = call.wait().state
        paths = call.save(f"{out}/deep") + call.save(f"{out}/deep")
        return {"found": found.name, "heard": heard, "state": state, "files": [[p.name, p.stat().st_size] for p in paths]}

blocksd.serve(handler)
`,
	"async.py": `import asyncio, tempfile
import blocksd

async def handler(task):
    heard = {}
    async def read(stream):
        heard[stream.name] = b"".join([piece async for piece in stream]).decode()
    with tempfile.TemporaryDirectory() as out:
        async with await task.call("reporter", "go", stream=True) as call:
            found = await call.stream_where(lambda s: s.metadata == {"kind": "log"}, timeout=120)
            await asyncio.gather(*[asyncio.ensure_future(read(stream)) async for stream in call.open_all()])
            state = (await call.wait()).state
            paths = await call.save(f"{out}/deep") + await call.save(f"{out}/deep")
            return {"found": found.name, "heard": heard, "state": state, "files": [[p.name, p.stat().st_size] for p in paths]}

blocksd.serve(handler)
`,
	"handler.mjs": `import { mkdtempSync, rmSync, statSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { serve } from '@blocksd/handler';

serve(async (task) => {
  const out = mkdtempSync(path.join(os.tmpdir(), 'out-'));
  const heard = {};
  const read = async (stream) => {
    heard[stream.name] = '';
    for await (const piece of stream) heard[stream.name] += piece.toString();
  };
  const call = await task.call('reporter', 'go', { stream: true });
  const found = await call.streamWhere((s) => s.metadata?.kind === 'log');
  const readers = [];
  for await (const stream of call.openAll()) readers.push(read(stream));
  await Promise.all(readers);
  const { state } = await call.result();
  const paths = [...await call.save(path.join(out, 'deep')), ...await call.save(path.join(out, 'deep'))];
  const files = paths.map((file) => [path.basename(file), statSync(file).size]);
  rmSync(out, { recursive: true });
  call.close();
  return { data: JSON.stringify({ found: found.name, heard, state, files }), mimeType: 'application/json' };
});
`,
}

// Handlers in Python and Node.js open all streams of a task that they have given to another agent, wait for one of them by
// what it is, and save its files.
func TestFilesAndStreamsOfCalledTasksByLanguage(t *testing.T) {
	dirs := []string{system.PythonProject(t, map[string]string{"agent-card.json": system.Card(t, "reporter", "./handler.py", reporterStreams), "handler.py": reporter})}
	agents := map[string]string{"handler.py": "saver_py", "async.py": "saver_async", "handler.mjs": "saver_mjs"}
	for file, source := range savers {
		project := system.PythonProject
		if file == "handler.mjs" {
			project = system.NodeProject
		}
		dirs = append(dirs, project(t, map[string]string{"agent-card.json": system.Card(t, agents[file], "./"+file, nil), file: source}))
	}
	n := devOn(t, dirs...)
	type seen struct {
		Found, State string
		Heard        map[string]string
		Files        [][]any
	}
	want := seen{
		Found: "log", State: "completed",
		Heard: map[string]string{"figures": "figures 0\nfigures 1\nfigures 2\n", "log": "log 0\nlog 1\nlog 2\n"},
		Files: [][]any{
			{"report.txt", 5.}, {"report (2).txt", 6.}, {"profile", 6.}, {"rf", 6.}, {"artifact-4.json", 8.}, {"large.bin", 2_500_000.},
			{"report (3).txt", 5.}, {"report (4).txt", 6.}, {"profile (2)", 6.}, {"rf (2)", 6.}, {"artifact-4 (2).json", 8.}, {"large (2).bin", 2_500_000.},
		},
	}
	for file, agent := range agents {
		t.Run(file, func(t *testing.T) {
			var got seen
			if err := json.Unmarshal([]byte(answer(t, n, agent, "x")), &got); err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(want, got); d != "" {
				t.Errorf("-want +got\n%s", d)
			}
		})
	}
	n.Stop(t)
}
