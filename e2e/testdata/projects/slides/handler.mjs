// Has a program in Python make a file, and returns that.
import { spawn } from 'node:child_process';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const script = fileURLToPath(new URL('./tools/make.py', import.meta.url));

export default async function handler(task, ctx) {
  const dir = await mkdtemp(path.join(os.tmpdir(), 'slides-'));
  try {
    const out = path.join(dir, 'deck.pptx');
    await new Promise((resolve, reject) => {
      const child = spawn('python3', [script, out], { stdio: ['pipe', 'inherit', 'pipe'], signal: ctx.cancelSignal });
      let errors = '';
      child.stderr.on('data', (data) => { errors += data; });
      child.on('error', reject);
      child.on('close', (code) => (code === 0 ? resolve() : reject(new Error(errors.trim() || `exit code ${code}`))));
      child.stdin.end(JSON.stringify(task.requestParts));
    });
    return { artifacts: [{ data: await readFile(out), mimeType: 'application/vnd.openxmlformats-officedocument.presentationml.presentation', fileName: 'deck.pptx', outputId: 'result' }] };
  } finally {
    await rm(dir, { recursive: true, force: true });
  }
}
