package e2e

import (
	"testing"

	"github.com/blocksd/blocksd/e2e/internal/system"
)

// talker has a stream that it writes and one that it reads.
const talker = `def handler(task, ctx):
    if task.request_parts[0].text == "listen":
        return {"artifacts": [{"data": b"".join(ctx.create_stream(declared_stream="ears").bytes()), "mimeType": "text/plain"}]}
    stream = ctx.create_stream(declared_stream="mouth")
    for word in ("one", "two", "drei"):
        stream.write({"word": word})
    stream.end()
    return {"artifacts": [{"data": "said", "mimeType": "text/plain"}]}
`

func talkerStreams(card map[string]any) {
	card["capabilities"] = map[string]any{"taskKinds": []string{"request", "pipe"}}
	card["streams"] = map[string]any{
		"mouth": map[string]any{"direction": "outbound", "format": "events", "description": "Words.", "schema": map[string]any{"type": "object"}},
		"ears":  map[string]any{"direction": "inbound", "format": "bytes", "contentType": "text/plain", "description": "What to hear."},
	}
}

// callers give tasks to the talker, read what it writes, and write what it reads: in the two ways of each language.
var callers = map[string]string{
	"project.py": `from blocks_network import SendMessageRequestPart

def part(text):
    return [SendMessageRequestPart(part_id="request", text=text)]

def handler(task, ctx):
    with ctx.task_client.send_message(agent_name="talker", request_parts=part("talk"), stream=True) as session:
        heard = [event["word"] for event in session.wait_for_stream("mouth", timeout=120).open().events()]
        session.wait_for_terminal()
    with ctx.task_client.send_message(agent_name="talker", request_parts=part("listen"), task_kind="pipe", duration=1) as session:
        ears = session.wait_for_stream(timeout=120).open()
        for word in heard:
            ears.write(word + " ")
        ears.end()
        artifact = []
        session.on_artifact(lambda event: artifact.append(session.download_artifact(event.artifact_ref).data))
        while not artifact and not ctx.cancel_event.wait(0.01):
            pass
        session.cancel()
    return {"artifacts": [{"data": artifact[0], "mimeType": "text/plain"}]}
`,
	"handler.py": `import blocksd

def handler(task):
    with task.call("talker", "talk", stream=True) as call:
        heard = [event["word"] for event in call.stream("mouth", timeout=120)]
        call.result()
    with task.call("talker", "listen", minutes=1) as call:
        with call.stream() as ears:
            ears.write(*(word + " " for word in heard))
        next(event for event in call.events() if event["type"] == "artifact")
        return call.download().data.decode()

blocksd.serve(handler)
`,
	"project.mjs": `import { textPart } from '@blocks-network/sdk';

export default async function handler(task, ctx) {
  const talking = await ctx.taskClient.sendMessage({ agentName: 'talker', requestParts: [textPart('talk', 'request')], stream: true });
  const heard = [];
  for await (const event of (await talking.waitForStream('mouth', 30000)).open().events()) heard.push(event.word);
  await talking.waitForTerminal();
  const listening = await ctx.taskClient.sendMessage({ agentName: 'talker', requestParts: [textPart('listen', 'request')], taskKind: 'pipe', duration: 1 });
  const ears = (await listening.waitForStream(undefined, 30000)).open();
  for (const word of heard) ears.write(word + ' ');
  await ears.end();
  const { artifactRef } = await new Promise((resolve) => listening.onArtifact(resolve));
  const { data } = await listening.downloadArtifact(artifactRef);
  await listening.cancel();
  await listening.asyncClose();
  return { artifacts: [{ data, mimeType: 'text/plain' }] };
}
`,
	"handler.mjs": `import { serve } from '@blocksd/handler';

serve(async (task) => {
  const talking = await task.call('talker', 'talk', { stream: true });
  const heard = [];
  for await (const event of await talking.stream('mouth')) heard.push(event.word);
  await talking.result();
  const listening = await task.call('talker', 'listen', { durationMinutes: 1 });
  const ears = await listening.stream();
  for (const word of heard) await ears.write(word + ' ');
  await ears.end();
  for await (const event of listening) if (event.type === 'artifact') break;
  const { data } = await listening.download(0);
  listening.close();
  return data.toString();
});
`,
}

// Handlers in Python and Node.js, and projects, read and write the streams of tasks that they have given to others.
func TestStreamsOfCalledTasksByLanguage(t *testing.T) {
	dirs := []string{system.PythonProject(t, map[string]string{"agent-card.json": system.Card(t, "talker", "./handler.py", talkerStreams), "handler.py": talker})}
	agents := map[string]string{"project.py": "project_py", "handler.py": "handler_py", "project.mjs": "project_mjs", "handler.mjs": "handler_mjs"}
	for file, source := range callers {
		project := system.PythonProject
		if file == "project.mjs" || file == "handler.mjs" {
			project = system.NodeProject
		}
		dirs = append(dirs, project(t, map[string]string{"agent-card.json": system.Card(t, agents[file], "./"+file, nil), file: source}))
	}
	n := devOn(t, dirs...)
	for file, agent := range agents {
		t.Run(file, func(t *testing.T) {
			if got := answer(t, n, agent, "x"); got != "one two drei " {
				t.Errorf("the answer is %q", got)
			}
		})
	}
	n.Stop(t)
}
