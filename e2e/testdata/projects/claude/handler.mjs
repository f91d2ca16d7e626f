// Runs a program that talks, passes on what it says as it says it, and ends it when the task is to end.
import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';

export async function run(task, ctx) {
  const stream = ctx.hasStream ? await ctx.createStream({ metadata: { program: 'sh' } }) : undefined;
  const child = spawn('sh', ['-c', 'echo "start $0"; for i in $(seq "$STEPS"); do echo "step $i"; sleep 0.05; done; echo "cost 3"', task.requestParts[0].text], {
    env: { ...process.env, STEPS: task.requestParts[0].text === 'slow' ? '9999' : '3' },
  });
  ctx.cancelSignal.addEventListener('abort', () => child.kill('SIGTERM'), { once: true });
  const said = [];
  for await (const line of createInterface({ input: child.stdout })) {
    said.push(line);
    ctx.reportStatus(line);
    stream?.write(`${line}\n`);
  }
  await stream?.end();
  if (ctx.isCancelled) return undefined;
  return { artifacts: [{ data: JSON.stringify({ lines: said.length, cost: Number(said.at(-1).split(' ')[1]) }), mimeType: 'application/json' }] };
}
