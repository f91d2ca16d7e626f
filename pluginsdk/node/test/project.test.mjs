import assert from 'node:assert/strict';
import { test } from 'node:test';

import { argumentsOf, artifactsOf } from '../lib/project.mjs';
import { TaskSession } from '../lib/task_client.mjs';
import { CanceledError } from '../lib/errors.mjs';

function task(more = {}) {
  const abort = new AbortController();
  return { abort, id: 't', agentName: 'a', ownerId: 'o', orgId: '', parts: [], signal: abort.signal, hasStream: false, ...more };
}

test('the task is what the network sent', () => {
  const raw = { partId: 'request', text: 'x', artifactRef: { kind: 'inline' } };
  const [message, ctx] = argumentsOf(task({ parts: [{ raw }, { raw: 'bare' }], pipe: true, durationMs: 120_000, deadline: new Date(5000) }));
  assert.equal(message.requestParts[0], raw);
  assert.equal(message.requestParts[1], 'bare');
  assert.equal(ctx.requestParts, message.requestParts);
  assert.deepEqual([message.taskKind, message.duration, message.durationExpiresAtMs, message.orgId], ['pipe', 2, 5000, 'o']);
  assert.equal('consumerPublicKey' in message, false);
});

test('what a handler returns', () => {
  assert.deepEqual(artifactsOf(undefined), []);
  assert.deepEqual(artifactsOf('text'), []);
  assert.deepEqual(artifactsOf({ artifacts: 'no list' }), []);
  const kept = artifactsOf({ artifacts: [{ data: 'a' }, { data: null }, { data: 5 }, 'x', null, { data: new Uint8Array([1]), mimeType: '', fileName: 'f', outputId: 'o' }] });
  assert.deepEqual(kept.map((a) => [a.mimeType, a.fileName, a.outputId]), [['application/octet-stream', undefined, undefined], ['application/octet-stream', 'f', 'o']]);
});

test('cancellation is a signal', () => {
  const t = task();
  const [, ctx] = argumentsOf(t);
  assert.deepEqual([ctx.isCancelled, ctx.isExpired], [false, false]);
  t.abort.abort(new CanceledError('expired'));
  assert.deepEqual([ctx.isCancelled, ctx.isExpired, ctx.cancelSignal.aborted], [true, true, true]);
});

test('inputs are found by part, by copy and by id', async () => {
  const file = { name: 'f', mimeType: 'image/png' };
  const raw = { partId: 'p', artifactRef: { kind: 'file', fileId: '1' } };
  const asked = [];
  const [, ctx] = argumentsOf(task({
    parts: [{ raw: { partId: 'text', text: 'x' } }, { id: 'p', raw, file }],
    fileAt: (index) => { asked.push(index); return { ...file, bytes: async () => Buffer.from('abc') }; },
  }));
  for (const part of [raw, { ...raw }, { partId: 'p' }]) {
    const got = await ctx.downloadInputArtifact(part);
    assert.ok(Buffer.isBuffer(got));
    assert.deepEqual([got.toString(), got.data.toString(), got.mimeType, got.fileName], ['abc', 'abc', 'image/png', 'f']);
  }
  assert.deepEqual(asked, [1, 1, 1]);
  await assert.rejects(ctx.downloadInputArtifact({ partId: 'none' }), /has no file/);
});

test('a stream needs a caller that wants it', async () => {
  const [, ctx] = argumentsOf(task());
  await assert.rejects(ctx.createStream(), /not negotiated/);
});

function session(events) {
  const call = {
    taskId: 't9', queued: false, idempotent: false, closed: false,
    artifacts: () => events.filter((e) => e.type === 'artifact'), streams: () => [],
    download: async (index) => ({ data: Buffer.from(`file ${index}`), mimeType: 'x/y', fileName: '' }),
    control: async (verb) => { call.verb = verb; }, close: () => { call.closed = true; },
    async *follow() { for (const e of events) { await undefined; yield e; } },
  };
  return [new TaskSession(call, 'o', {}), call];
}

test('a session calls back, late ones too, and waits', async () => {
  const inline = { kind: 'inline', data: Buffer.from('in').toString('base64'), mimeType: 'text/plain' };
  const stored = { kind: 'file', fileId: '1' };
  const [s, call] = session([
    { type: 'progress', message: 'm' }, { type: 'artifact', artifactRef: inline }, { type: 'artifact', artifactRef: stored }, { type: 'terminal', state: 'completed' },
  ]);
  const seen = [];
  s.onProgress((e) => seen.push(e.message));
  s.onEvent(() => { throw new Error('a bad callback hurts nobody'); });
  s.onError((err, about) => seen.push(about.callbackType));
  assert.equal((await s.waitForTerminal(180_000)).state, 'completed');
  assert.equal(s.state, 'completed');
  assert.deepEqual(seen, ['event', 'm', 'event', 'event', 'event']);
  const late = [];
  s.onArtifact((e) => late.push(e.artifactRef.kind));
  s.onTerminal((e) => late.push(e.state));
  assert.deepEqual(late, ['inline', 'file', 'completed']);
  const bytes = await Promise.all(s.listArtifacts().map(async (ref) => Buffer.from((await s.downloadArtifact(ref)).data).toString()));
  assert.deepEqual(bytes, ['in', 'file 1']);
  await s.cancel();
  assert.equal(call.verb, 'cancel');
  s.close();
  assert.equal(s.isClosed, true);
});

test('a session that is closed or takes too long stops waiting', async () => {
  const never = { taskId: 't', artifacts: () => [], streams: () => [], close() {}, async *follow() { await new Promise(() => {}); } };
  const s = new TaskSession(never, 'o', {});
  await assert.rejects(s.waitForTerminal(10), /did not end within 10 ms/);
  const waiting = s.waitForTerminal();
  s.close();
  await assert.rejects(waiting, /session closed/);
});

test('who waits for a called task is woken when its own is to end', async () => {
  const abort = new AbortController();
  const never = { taskId: 't', artifacts: () => [], streams: () => [], close() {}, async *follow() { await new Promise(() => {}); } };
  const waiting = new TaskSession(never, 'o', { signal: abort.signal }).waitForTerminal();
  abort.abort(new CanceledError('user'));
  await assert.rejects(waiting, (err) => err instanceof CanceledError && err.reason === 'user');
  const [s] = session([{ type: 'terminal', state: 'completed' }]);
  assert.equal((await s.waitForTerminal(180_000)).state, 'completed');
});
