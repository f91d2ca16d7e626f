// Written against the types of the package; what is marked must be refused.
import { PublicError, serve, type Call, type SaveError, type Stream, type Task } from '../lib/index.mjs';
import { textPart, type HandlerResult, type StartTaskMessage, type TaskContext } from '../lib/blocks.mjs';

export async function run(task: Task) {
  const form = task.json<{ a: number }>('form');
  task.status(`${form.a.toFixed(1)} of ${task.parts.length}`);
  if (task.signal.aborted) throw new PublicError('It was canceled.', task.signal.reason);
  for await (const piece of task.file('picture')) await task.publish({ data: piece, mimeType: 'image/png' });
  const stream: Stream = await task.createStream({ name: 'words', format: 'bytes' });
  await stream.write('word');
  await stream.end();
  const call: Call = await task.call('echo', 'text', { stream: true });
  const result = await call.result();
  const saved: string[] = await call.save('out', { signal: task.signal }).catch((err: SaveError) => err.paths);
  for await (const other of call.openAll<Uint8Array>()) for await (const piece of other) task.status(`${saved.length} ${piece.length}`);
  const found: Stream<number> = await call.streamWhere<number>((s) => s.shared && s.format === 'events', { signal: task.signal });
  await found.end();
  // @ts-expect-error a stream is looked for by true or false
  await call.streamWhere((s) => s.name);
  // @ts-expect-error a status is a text
  task.status(result);
  // @ts-expect-error there is no such format
  await task.createStream({ format: 'lines' });
  return { data: 'x', outputId: 'result' };
}

export async function handler(task: StartTaskMessage, ctx: TaskContext): Promise<HandlerResult> {
  ctx.reportStatus(task.requestParts[0]?.text ?? '');
  const s = await ctx.createStream({ declaredStream: 'words' });
  s.write('x');
  const session = await ctx.taskClient.sendMessage({ agentName: 'echo', requestParts: [textPart('request', 'x')] });
  await session.waitForTerminal();
  // @ts-expect-error an artifact has data
  return { artifacts: [{ mimeType: 'text/plain' }] };
}

void serve({ name: 'typed', run });
