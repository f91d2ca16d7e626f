package e2e

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/blocksd/blocksd/e2e/internal/system"
)

// nodeStreams are what a card declares for the handlers of these tests.
func nodeStreams(card map[string]any) {
	card["capabilities"] = map[string]any{"taskKinds": []string{"request", "pipe"}}
	object := map[string]any{"type": "object"}
	card["streams"] = map[string]any{
		"upload": map[string]any{"direction": "inbound", "format": "bytes", "contentType": "text/plain", "description": "What to count."},
		"orders": map[string]any{"direction": "inbound", "format": "events", "description": "What to add."},
		"talk":   map[string]any{"direction": "bidirectional", "format": "events", "description": "Both write.", "outboundSchema": object, "inboundSchema": object},
	}
}

// The two ways to write a handler in Node.js do the same with what a consumer writes.
var nodeReaders = map[string]string{
	"project": `
import { createHash } from 'node:crypto';
import { writeFileSync } from 'node:fs';

const digest = (bytes) => bytes.length + ' ' + createHash('sha256').update(bytes).digest('hex');

export default async function handler(task, ctx) {
  const [what, mark] = task.requestParts[0].text.split(' ');
  if (what === 'leave') {
    const stream = await ctx.createStream({ declaredStream: 'talk', direction: 'bidirectional', format: 'events' });
    const timer = setInterval(() => {
      stream.write({ beat: true });
      ctx.reportStatus('still here');
    }, 50);
    ctx.cancelSignal.addEventListener('abort', () => {
      clearInterval(timer);
      writeFileSync(mark, String(ctx.isCancelled));
    });
    return undefined;
  }
  const stream = await ctx.createStream({ declaredStream: what, direction: what === 'talk' ? 'bidirectional' : 'inbound', format: what === 'upload' ? 'bytes' : 'events' });
  if (what === 'upload') {
    const all = [];
    for await (const bytes of stream.bytes()) all.push(bytes);
    await ctx.publishArtifact(digest(Buffer.concat(all)), { mimeType: 'text/plain' });
  } else if (what === 'orders') {
    let sum = 0;
    for await (const order of stream.events()) sum += order.n;
    await ctx.publishArtifact(String(sum), { mimeType: 'text/plain' });
  } else {
    for await (const said of stream.events()) {
      if (typeof said.ask !== 'number') continue;
      await stream.write({ answer: said.ask * 2 });
      if (said.last) break;
    }
    await ctx.publishArtifact('talked', { mimeType: 'text/plain' });
    await stream.end();
  }
}
`,
	"handler": `
import { createHash } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { serve } from '@blocksd/handler';

const digest = (bytes) => bytes.length + ' ' + createHash('sha256').update(bytes).digest('hex');

serve({
  name: 'reader',
  async run(task) {
    const [what, mark] = task.text('request').split(' ');
    if (what === 'leave') {
      const stream = await task.createStream({ name: 'talk' });
      const timer = setInterval(() => {
        stream.write({ beat: true }).catch(() => {}); // the task is over
        task.status('still here');
      }, 50);
      task.signal.addEventListener('abort', () => {
        clearInterval(timer);
        writeFileSync(mark, String(task.signal.aborted));
      });
      return undefined;
    }
    const stream = await task.createStream({ name: what });
    task.complete();
    if (what === 'upload') {
      const all = [];
      for await (const bytes of stream) all.push(bytes);
      return digest(Buffer.concat(all));
    }
    let sum = 0;
    for await (const said of stream) {
      if (what === 'orders') sum += said.n;
      if (typeof said.ask !== 'number') continue;
      await stream.write({ answer: said.ask * 2 });
      if (said.last) break;
    }
    await stream.end();
    return what === 'orders' ? String(sum) : 'talked';
  },
});
`,
}

// Streams that the consumer writes, and those that both write, through the daemon.
func TestNodeInboundStreams(t *testing.T) {
	t.Parallel()
	for style, source := range nodeReaders {
		t.Run(style, func(t *testing.T) {
			n := devOn(t, system.NodeProject(t, map[string]string{
				"agent-card.json": system.Card(t, "reader", "./handler.mjs", nodeStreams), "handler.mjs": source,
			}))
			c := consumer(t, n.Env)

			bytes := c.submit("reader", "upload", 5)
			s := c.stream(bytes, "upload")
			long := strings.Repeat("0123456789", 1500)
			for seq := range 20 {
				c.write(s, map[string]any{"type": "stream_data", "seq": seq, "chunks": []string{long, "."}})
			}
			c.write(s, map[string]any{"type": "stream_end", "seq": 20, "reason": "complete"})
			all := strings.Repeat(long+".", 20)
			c.wantArtifact(t, bytes, fmt.Sprintf("%d %x", len(all), sha256.Sum256([]byte(all))))

			orders := c.submit("reader", "orders", 5)
			s = c.stream(orders, "orders")
			for seq := range 10 {
				c.write(s, map[string]any{"type": "stream_events", "seq": seq + 1, "events": []any{map[string]any{"n": seq}, map[string]any{"n": 100}}})
			}
			c.write(s, map[string]any{"type": "stream_end", "seq": 11, "reason": "complete"})
			c.wantArtifact(t, orders, "1045")

			talk := c.submit("reader", "talk", 5)
			s = c.stream(talk, "talk")
			for seq := range 3 {
				c.write(s, map[string]any{"type": "stream_events", "seq": seq + 1, "events": []any{map[string]any{"ask": 10 + seq, "last": seq == 2}}})
			}
			all, _ = c.read(s, func(all string) bool { return strings.Contains(all, `{"answer":24}`) })
			for _, want := range []string{`{"answer":20}`, `{"answer":22}`, `{"answer":24}`} {
				if !strings.Contains(all, want) {
					t.Errorf("%s is not in %s", want, all)
				}
			}
			c.wantArtifact(t, talk, "talked")

			// What goes on after the function has returned may still say a status, and learns of the end.
			mark := filepath.Join(t.TempDir(), "mark")
			left := c.submit("reader", "leave "+mark, 5)
			s = c.stream(left, "talk")
			c.read(s, func(all string) bool { return strings.Count(all, "beat") > 3 })
			system.Eventually(t, system.CallDeadline, "a status comes after the function has returned", func() bool {
				events, err := c.History(c.ctx, left)
				return err == nil && slices.ContainsFunc(events, func(e system.Event) bool { return e.Message == "still here" })
			})
			c.cancel(left)
			if end := c.end(left); end != "canceled" {
				t.Errorf("it ends %s", end)
			}
			system.Eventually(t, system.CallDeadline, "the rest of the handler is told", func() bool {
				b, _ := os.ReadFile(mark)
				return string(b) == "true"
			})

			// What the function of a project returns from does not end its pipe task; complete does.
			for _, task := range []system.Submitted{bytes, orders, talk} {
				if style == "project" {
					c.cancel(task)
				}
				want := map[string]string{"project": "canceled", "handler": "completed"}[style]
				if end := c.end(task); end != want {
					t.Errorf("it ends %s, want %s", end, want)
				}
			}

			// A cancel wakes a handler that waits for its stream: it is not cut off.
			waiting := c.submit("reader", "upload", 5)
			c.stream(waiting, "upload")
			c.cancel(waiting)
			if end := c.end(waiting); end != "canceled" {
				t.Errorf("it ends %s", end)
			}
			if said := n.Output(); strings.Contains(said, "within its grace") {
				t.Errorf("the handler was cut off: %s", said)
			}
			system.Eventually(t, system.CallDeadline, "nothing is left of the tasks", func() bool {
				r := n.Run(t, n.Env, "tasks", "--json")
				return r.Code == 0 && strings.TrimSpace(r.Stdout) == "[]"
			})
			if h := n.Status(t).Handler(t, "reader"); len(h.Processes) != 1 || h.Restarts != 0 {
				t.Errorf("the handler is %+v", h)
			}
		})
	}
}

// write publishes a message into a stream, as a consumer that nobody here wrote.
func (c *streaming) write(s system.Stream, message map[string]any) {
	c.t.Helper()
	for key, value := range map[string]any{"protocolVersion": "2026-05-01", "streamId": s.ID, "ts": 1, "encoding": "utf8"} {
		message[key] = value
	}
	if err := c.WriteStream(c.ctx, s, message); err != nil {
		c.t.Fatal(err)
	}
}

// wantArtifact waits for the one artifact of a task, which may go on.
func (c *streaming) wantArtifact(t *testing.T, task system.Submitted, want string) {
	t.Helper()
	var got string
	system.Eventually(t, system.CallDeadline, "the task has an artifact", func() bool {
		events, err := c.History(c.ctx, task)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range events {
			if e.Type == "artifact" {
				got = artifactText(t, e)
				return true
			}
		}
		return false
	})
	if got != want {
		t.Errorf("the artifact is %.200q, want %.200q", got, want)
	}
}

const nodeCaller = `import { writeFileSync } from 'node:fs';
import { textPart } from '@blocks-network/sdk';

const results = {
  // Several at once, each followed in a way of its own; one of them gets a file and answers with one.
  async many(ctx, seen) {
    const client = ctx.taskClient;
    const one = await client.sendMessage({ agentName: 'node_compress', requestParts: [{ partId: 'file', file: Buffer.alloc(3 << 20, 'x'), fileName: 'x.bin' }] });
    const others = await Promise.all([1, 2, 3].map((i) => client.sendMessage({ agentName: 'node_echo', requestParts: [textPart('number ' + i, 'request')] })));
    await Promise.all(others.map((session) => new Promise((resolve, reject) => {
      session.onArtifact(async (event) => { seen.push(Buffer.from((await session.downloadArtifact(event.artifactRef)).data).toString()); });
      session.onTerminal((event) => (event.state === 'completed' ? resolve() : reject(new Error(event.error))));
    })));
    const end = await one.waitForTerminal(60_000);
    const [ref] = one.listArtifacts();
    const file = await one.downloadArtifact(ref);
    return [end.state, file.mimeType, file.fileName, (await import('node:zlib')).gunzipSync(file.data).length, seen.sort()];
  },
  async fails(ctx) {
    const session = await ctx.taskClient.sendMessage({ agentName: 'node_adder', requestParts: [textPart('no numbers', 'request')] });
    const end = await session.waitForTerminal(60_000);
    session.close();
    return [end.state, end.error];
  },
  async nobody(ctx) {
    return ctx.taskClient.sendMessage({ agentName: 'nobody', requestParts: [textPart('x', 'request')] }).then(() => 'sent', (err) => err.message.split(':')[0]);
  },
  async cancels(ctx) {
    const session = await ctx.taskClient.sendMessage({ agentName: 'sleeper', requestParts: [textPart('10m', 'request')] });
    await new Promise((resolve) => session.onProgress((event) => event.message && resolve()));
    await session.cancel();
    return (await session.waitForTerminal(60_000)).state;
  },
  // The task that it has sent goes on when its own is canceled, as with Blocks' own client.
  async leaves(ctx) {
    await ctx.taskClient.sendMessage({ agentName: 'sleeper', requestParts: [textPart('10m', 'request')] });
    ctx.reportStatus('left');
    await new Promise((resolve) => ctx.cancelSignal.addEventListener('abort', resolve, { once: true }));
    writeFileSync(process.env.MARK, 'told');
  },
};

export default async function handler(task, ctx) {
  const value = await results[task.requestParts[0].text](ctx, []);
  return { artifacts: [{ data: JSON.stringify(value ?? null), mimeType: 'application/json' }] };
}
`

// A handler in Node.js calls other agents through the daemon, with files both ways.
func TestNodeCalls(t *testing.T) {
	mark := filepath.Join(t.TempDir(), "mark")
	plugins := system.PluginDir(t, map[string]string{"sleeper": filepath.Join(bin.TestPlugins(), "sleeper")}, func(_ string, card map[string]any) {
		for _, input := range card["io"].(map[string]any)["inputs"].([]any) {
			delete(input.(map[string]any), "example") // dev would send it while the tasks are counted
		}
	})
	args := []string{"--project", system.NodeProject(t, map[string]string{
		"agent-card.json": system.Card(t, "caller", "./handler.mjs", nil), "handler.mjs": nodeCaller, ".env": "MARK=" + mark + "\n",
	})}
	for _, name := range []string{"echo", "adder", "compress"} {
		dir := system.NodeProject(t, nil)
		if err := os.CopyFS(dir, os.DirFS(filepath.Join("..", "examples", "node", name))); err != nil {
			t.Fatal(err)
		}
		args = append(args, "--project", dir)
	}
	n := bin.Dev(t, plugins, args...)
	for what, want := range map[string]string{
		"many":    fmt.Sprintf(`["completed","application/gzip","compressed.gz",%d,["Echoed request: number 1","Echoed request: number 2","Echoed request: number 3"]]`, 3<<20),
		"fails":   `["failed","the request needs the numbers a and b"]`,
		"nobody":  `"call the agent nobody"`,
		"cancels": `"canceled"`,
	} {
		if got := answer(t, n, "caller", what); got != want {
			t.Errorf("%s: answered %s, want %s", what, got, want)
		}
	}
	call := n.StartCall(t, "caller", "--text", "leaves")
	call.AwaitStatus(t)
	call.Interrupt()
	if r := call.Result(t); r.Code != 5 {
		t.Errorf("exit %d: %s", r.Code, r.Stderr)
	}
	if _, err := os.Stat(mark); err != nil {
		t.Errorf("the handler was not told: %v", err)
	}
	const want = `["running","canceled"]`
	system.Eventually(t, system.CallDeadline, "the tasks of the sleeper are "+want, func() bool { return jsonText(t, listed(t, n, "sleeper")) == want })
}

func jsonText(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
