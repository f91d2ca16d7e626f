// Loading is most of what a handler's start takes, so what is loaded is counted.

import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { test } from 'node:test';

import { serveHandler } from './daemon.mjs';

const ALL = fileURLToPath(new URL('./handlers/all.mjs', import.meta.url));
const RUN = fileURLToPath(new URL('../run.mjs', import.meta.url));

/** The files that a handler has loaded when it has described itself. Node writes them down at its end. */
async function loadedBy(t, args, dir) {
  const coverage = path.join(dir, 'coverage');
  const h = await serveHandler(t, args, {}, { NODE_V8_COVERAGE: coverage });
  await h.ask('Describe');
  await h.ask('Shutdown', Buffer.alloc(0));
  assert.deepEqual(await h.exited, { code: 0, signal: null });
  const loaded = readdirSync(coverage).flatMap((name) => JSON.parse(readFileSync(path.join(coverage, name))).result.map((r) => r.url));
  return loaded.filter((url) => url.startsWith('file:'));
}

function directory(t) {
  const dir = mkdtempSync(path.join(os.tmpdir(), 'bn-'));
  t.after(() => rmSync(dir, { recursive: true, force: true }));
  return dir;
}

test('a handler loads little, and nothing of others', async (t) => {
  const loaded = await loadedBy(t, [ALL], directory(t));
  assert.ok(loaded.some((url) => url.endsWith('/lib/index.mjs')), loaded);
  assert.ok(loaded.length <= 18, loaded);
  assert.deepEqual(loaded.filter((url) => url.includes('node_modules')), []);
});

test('a project in JavaScript loads no compiler', async (t) => {
  const dir = directory(t);
  const project = path.join(dir, 'project');
  mkdirSync(project);
  writeFileSync(path.join(project, 'agent-card.json'), JSON.stringify({ identity: { agentName: 'agent', version: '1' }, runtime: { handler: './handler.mjs' } }));
  writeFileSync(path.join(project, 'handler.mjs'), 'export default async () => ({ artifacts: [] });\n');
  const loaded = await loadedBy(t, [RUN, '--project', project, '--file', path.join(project, 'handler.mjs')], dir);
  assert.ok(loaded.some((url) => url.endsWith('/handler.mjs')), loaded);
  assert.ok(loaded.length <= 26, loaded);
  assert.deepEqual(loaded.filter((url) => url.includes('node_modules')), []);
});
