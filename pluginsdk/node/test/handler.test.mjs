import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { test } from 'node:test';

import { artifacts, serveHandler, start } from './daemon.mjs';

const ALL = fileURLToPath(new URL('./handlers/all.mjs', import.meta.url));
const request = (text, ...more) => ({ parts: [{ part_id: 'request', text }, ...more] });
const end = (messages) => messages.at(-1);

test('handshake, description, health and shutdown', async (t) => {
  const h = await serveHandler(t, [ALL]);
  assert.match(h.handshake, /^1\|1\|unix\|\/.*\|grpc\|$/);
  assert.equal(h.stdout, `${h.handshake}\n`, 'nothing else is on standard output');
  const d = await h.ask('Describe');
  assert.equal(d.name, 'all');
  assert.equal(d.version, '1.2.3');
  assert.match(d.sdk, /^blocksd-node\//);
  assert.deepEqual(d.capabilities, { idempotent: true, cancel: true });
  assert.equal(JSON.parse(d.agent_cards_json[0]).identity.agentName, 'all');
  assert.deepEqual([...await h.ask('Check', Buffer.alloc(0))], [8, 1]);
  await h.ask('Shutdown', Buffer.alloc(0));
  assert.deepEqual(await h.exited, { code: 0, signal: null });
});

test('SIGTERM ends it', async (t) => {
  const h = await serveHandler(t, [ALL]);
  h.child.kill('SIGTERM');
  assert.deepEqual(await h.exited, { code: 0, signal: null });
});

test('started by a person it says what it is', async () => {
  const h = start([ALL], { BLOCKS_HANDLER_COOKIE: '' });
  assert.equal((await h.exited).code, 1);
  assert.match(h.stderr, /is a Blocks handler and does nothing by itself/);
});

test('results and errors', async (t) => {
  const h = await serveHandler(t, [ALL]);
  const [shouted] = artifacts(await h.run(request('shout hello')));
  assert.equal(shouted.data.toString(), 'HELLO');
  assert.equal(shouted.mime_type, 'text/plain');
  assert.deepEqual(end(await h.run(request('nothing'))), { result: { final: false } });
  assert.equal(artifacts(await h.run(request('{"value": [1, "ü"]}')))[0].data.toString(), '[1,"ü"]');
  const failed = end(await h.run(request('fail it broke')));
  assert.equal(failed.error.public_message, 'it broke');
  assert.match(failed.error.private_message, /all\.mjs/);
  const hidden = end(await h.run(request('private')));
  assert.equal(hidden.error.public_message, 'Sorry.');
  assert.match(hidden.error.private_message, /the disk is full/);
  assert.equal(Buffer.byteLength(end(await h.run(request(`fail ${'ü'.repeat(9000)}`))).error.public_message) <= 8 << 10, true);
  assert.deepEqual(end(await h.run({ ...request('pipe'), kind: 'TASK_KIND_PIPE' })), { result: { final: true } });
  await assert.rejects(h.run({ ...request('nothing'), task_id: '' }), /a task without an id/);
});

test('artifacts are cut into pieces', async (t) => {
  const h = await serveHandler(t, [ALL]);
  for (const [text, size] of [['big 0', 0], ['big 262144', 262144], ['big 262145', 262145], ['big 3000000', 3000000], ['pieces 0', 0], ['pieces 60000', 600000]]) {
    const [a] = artifacts(await h.run(request(text)));
    assert.equal(a.data.length, size, text);
    assert.equal(a.whole, true);
    assert.equal(a.pieces, Math.max(1, Math.ceil(size / 262144)));
  }
});

test('what is published while the task goes on keeps its place', async (t) => {
  const published = [];
  const h = await serveHandler(t, [ALL], {
    PublishArtifact(call, done) {
      call.on('data', (m) => published.push(m));
      call.on('end', () => done(null, {}));
    },
  });
  const messages = await h.run(request('order'));
  assert.deepEqual(messages.map((m) => Object.keys(m)[0]), ['status', 'artifact', 'status', 'result']);
  assert.equal(published[0].task_id, 'task_1');
  assert.equal(published[0].after_responses, 2);
  assert.equal(published[0].chunk.data.toString(), 'published');
  assert.equal(published[0].chunk.last, true);
});

test('cancellation, also before its task', async (t) => {
  const h = await serveHandler(t, [ALL]);
  const messages = await h.run(request('wait'), (m) => {
    if (m.status) h.ask('CancelTask', { task_id: 'task_1', reason: 'CANCEL_REASON_EXPIRED' });
  });
  assert.equal(end(messages).error.public_message, 'ended by expired');
  await h.ask('CancelTask', { task_id: 'task_2', reason: 'CANCEL_REASON_DRAIN' });
  assert.equal(end(await h.run({ ...request('wait'), task_id: 'task_2' })).error.public_message, 'ended by drain');
  const cut = h.run({ ...request('wait'), task_id: 'task_3' }, (m, call) => call.cancel());
  await assert.rejects(cut, /CANCELLED/i);
  assert.deepEqual(end(await h.run(request('nothing'))), { result: { final: false } }, 'the process goes on');
});

test('files of inputs', async (t) => {
  const h = await serveHandler(t, [ALL], {
    DownloadInput(call) {
      assert.deepEqual(call.request, { task_id: 'task_1', part_index: 1 });
      call.write({ file: { name: 'd.txt' }, data: Buffer.from('con') });
      call.write({ data: Buffer.from('tent') });
      call.end();
    },
  });
  const doc = { part_id: 'doc', file: { name: 'd.txt', mime_type: 'text/plain', size: 7 } };
  assert.equal(artifacts(await h.run(request('file', doc)))[0].data.toString(), 'd.txt: content');
  assert.equal(end(await h.run(request('file'))).error.public_message, 'the input "doc" has no file');
});

test('streams are written in order and read to their end', async (t) => {
  const written = [];
  let ended = false;
  let calls = 0;
  const h = await serveHandler(t, [ALL], {
    CreateStream(call, done) {
      const name = call.request.declared_stream;
      if (!name) return done({ code: 9, details: 'the caller did not ask for streams' });
      if (name === 'out') assert.deepEqual(JSON.parse(call.request.metadata_json), { a: 1 });
      return done(null, {
        stream_id: 'task_1-1', declared_stream: name, channel: 'stream.a.task_1-1', created: true, first: true,
        direction: name === 'in' ? 'STREAM_DIRECTION_INBOUND' : 'STREAM_DIRECTION_OUTBOUND', format: name === 'in' ? 'STREAM_FORMAT_EVENTS' : 'STREAM_FORMAT_BYTES',
      });
    },
    WriteStream(call, done) {
      calls += 1;
      written.push(...(call.request.items ?? []).map((i) => i.text));
      setImmediate(done, null, {});
    },
    EndStream(call, done) {
      ended = true;
      done(null, {});
    },
    ReadStream(call) {
      call.write({ items: [{ event_json: Buffer.from('{"a":1}') }, { event_json: Buffer.from('"text"') }] });
      call.write({ gap: { messages: 2 }, items: [{ event_json: Buffer.from('null') }] });
      call.write({ end: { reason: 'ended' } });
      call.end();
    },
  });
  const [about] = artifacts(await h.run(request('stream')));
  assert.equal(about.data.toString(), 'task_1-1 outbound bytes false true');
  assert.equal(written.join(''), Array.from({ length: 1000 }, (_, i) => `${i} `).join(''));
  assert.ok(calls < 50, `${calls} calls for 1000 writes`);
  assert.ok(ended);
  const [read] = artifacts(await h.run(request('read')));
  assert.deepEqual(JSON.parse(read.data), [[{ a: 1 }, 'text', null], 2, 'ended']);
  assert.match(end(await h.run(request('full'))).error.public_message, /the caller did not ask for streams/);
});

test('calls to other agents', async (t) => {
  const seen = { data: 0 };
  const h = await serveHandler(t, [ALL], {
    CallAgent(call) {
      call.on('data', (m) => {
        if (m.call) seen.call = m.call;
        else {
          assert.equal(m.part_index, 1);
          seen.data += m.data.length;
        }
      });
      call.on('end', () => {
        call.write({ submitted: { task_id: 'task_9', queued: true } });
        for (const event of [{ type: 'progress', state: 'running' }, { type: 'artifact', artifactRef: { kind: 'file' } }, { type: 'terminal', state: 'completed' }]) {
          call.write({ event_json: Buffer.from(JSON.stringify({ taskId: 'task_9', ...event })) });
        }
        call.end();
      });
    },
    DownloadCallArtifact(call) {
      assert.deepEqual(call.request, { task_id: 'task_1', called_task_id: 'task_9', artifact_index: 0 });
      call.write({ info: { mime_type: 'text/x' }, data: Buffer.from('by') });
      call.write({ data: Buffer.from('tes') });
      call.end();
    },
    ControlCall(call, done) {
      seen.verb = call.request.verb;
      done(null, {});
    },
  });
  const [result] = artifacts(await h.run({ ...request('call'), trace_context: { traceparent: '00-1' } }));
  assert.deepEqual(JSON.parse(result.data), ['task_9', true, ['progress', 'artifact', 'terminal'], 'completed', 'bytes', 'text/x']);
  assert.equal(seen.call.agent_name, 'other');
  assert.equal(seen.call.idempotency_key, 'k');
  assert.deepEqual(seen.call.trace_context, { traceparent: '00-1' });
  assert.deepEqual(seen.call.parts.map((p) => [p.part_id, p.text, p.file?.size]), [['request', 'hi', undefined], ['doc', undefined, 600000]]);
  assert.equal(seen.data, 600000);
  assert.equal(seen.verb, 'cancel');
});

/** The host service of a daemon whose called task has ended with artifacts; the one without a reference has no number. */
function outputs(download) {
  return {
    CallAgent(call) {
      call.on('data', () => {});
      call.on('end', () => {
        call.write({ submitted: { task_id: 'task_9' } });
        for (const event of [
          { type: 'artifact', artifactRef: { kind: 'inline', fileName: '../../a.txt', mimeType: 'text/plain' } },
          { type: 'artifact' },
          { type: 'artifact', artifactRef: { kind: 'inline', fileName: 'C:\\a.txt' } },
          { type: 'artifact', artifactRef: { kind: 'file', mimeType: 'application/json' } },
          { type: 'terminal', state: 'completed' },
        ]) call.write({ event_json: Buffer.from(JSON.stringify({ taskId: 'task_9', ...event })) });
        call.end();
      });
    },
    DownloadCallArtifact: download,
  };
}

test('artifacts of called tasks are saved', async (t) => {
  let broken = false;
  const h = await serveHandler(t, [ALL], outputs((call) => {
    call.write({ info: {}, data: Buffer.from('result ') });
    if (broken && call.request.artifact_index === 2) {
      call.emit('error', { code: 14, details: 'its content does not have the hash that was announced' });
      return;
    }
    call.write({ data: Buffer.from(String(call.request.artifact_index)) });
    call.end();
  }));
  const above = mkdtempSync(path.join(os.tmpdir(), 'bn-'));
  t.after(() => rmSync(above, { recursive: true, force: true }));
  const out = path.join(above, 'deep', 'out');
  const saving = async (to) => JSON.parse(artifacts(await h.run(request(`save ${to}`)))[0].data);
  const names = ['a.txt', 'a (2).txt', 'artifact-2.json'];
  assert.deepEqual(await saving(out), { paths: names.map((name) => path.join(out, name)), count: 3 });
  assert.deepEqual(names.map((name) => readFileSync(path.join(out, name), 'utf8')), ['result 0', 'result 1', 'result 2']);
  broken = true;
  assert.deepEqual(await saving(out), {
    error: `save the artifacts of the called task task_9 in ${out}: download artifact 2 of task task_9: its content does not have the hash that was announced`,
    paths: ['a (3).txt', 'a (4).txt'].map((name) => path.join(out, name)),
  });
  assert.equal(readdirSync(out).length, 5, 'nothing of the broken one is left');
  const beneath = path.join(out, 'a.txt', 'x');
  assert.deepEqual(await saving(beneath), { error: `save the artifacts of the called task task_9 in ${beneath}: not a directory`, paths: [] });
});

test('whoever gives up saving leaves no part', async (t) => {
  const h = await serveHandler(t, [ALL], outputs((call) => {
    call.write({ info: {}, data: Buffer.from('result') });
    if (call.request.artifact_index === 0) call.end();
    else h.ask('CancelTask', { task_id: 'task_1', reason: 'CANCEL_REASON_USER' });
  }));
  const out = mkdtempSync(path.join(os.tmpdir(), 'bn-'));
  t.after(() => rmSync(out, { recursive: true, force: true }));
  const failed = end(await h.run(request(`givesup ${out}`)));
  assert.match(failed.error.public_message, /^save the artifacts of the called task task_9 in .*: the task was asked to end \(user\)$/);
  assert.deepEqual(readdirSync(out), ['a.txt']);
});

test('a call that cannot be encoded fails', async (t) => {
  const h = await serveHandler(t, [ALL], { CallAgent() {} });
  assert.match(end(await h.run(request('mistyped'))).error.private_message, /call the agent other: /);
});

test('a cancel wakes who waits for a called task', async (t) => {
  const h = await serveHandler(t, [ALL], {
    CallAgent(call) {
      call.on('data', () => call.write({ submitted: { task_id: 'task_9' } }));
    },
  });
  const messages = await h.run(request('hang'), (m) => {
    if (m.status) h.ask('CancelTask', { task_id: 'task_1', reason: 'CANCEL_REASON_USER' });
  });
  assert.equal(end(messages).error.public_message, 'woken by user');
});

test('records reach the log with their level', async (t) => {
  const h = await serveHandler(t, [ALL]);
  await h.run(request('log'));
  const after = await h.run(request('nothing'));
  assert.deepEqual(end(after), { result: { final: false } }, 'a rejected promise does not end the process');
  for (const all of [/printed before/, /careful/, /an error/, /nobody looks/]) await h.heard(all);
  const lines = h.stderr.slice(0, h.stderr.lastIndexOf('\n')).split('\n').map((line) => JSON.parse(line));
  const find = (msg) => lines.find((line) => line.msg.startsWith(msg));
  assert.equal(find('printed before').level, 'INFO');
  assert.deepEqual(find('careful'), { level: 'WARN', msg: 'careful', task: 'task_1', n: 1 });
  assert.equal(find('an error { deep: true }').level, 'ERROR');
  assert.match(find('a promise was rejected').error, /nobody looks/);
});

/** The host service of a daemon whose called task has a stream to read, of events, and one to write, of bytes. */
function calling(seen, forever = true, later = []) {
  const streams = [
    { stream_id: 'c-1', declared_stream: 'quotes', direction: 'STREAM_DIRECTION_INBOUND', format: 'STREAM_FORMAT_EVENTS', metadata_json: Buffer.from('{"a":1}') },
    { stream_id: 'c-2', declared_stream: 'words', direction: 'STREAM_DIRECTION_OUTBOUND', format: 'STREAM_FORMAT_BYTES', shared: true },
  ];
  const event = (members) => Buffer.from(JSON.stringify({ taskId: 'task_9', ...members }));
  let terminal;
  return {
    CallAgent(call) {
      call.on('data', (m) => { seen.call = m.call; });
      call.on('end', () => {
        call.write({ submitted: { task_id: 'task_9' } });
        call.write({ event_json: event({ type: 'progress', streamEvent: 'stream_started' }), streams });
        terminal = () => {
          call.write({ event_json: event({ type: 'terminal', state: 'completed' }), streams: later });
          call.end();
        };
        if (!forever) terminal();
      });
    },
    ControlCall(call, done) {
      done(null, {});
      terminal();
    },
    OpenCallStream(call, done) {
      assert.deepEqual([call.request.task_id, call.request.called_task_id], ['task_1', 'task_9']);
      (seen.opened ??= []).push(call.request.stream_id);
      const stream = [...streams, ...later].find((s) => s.stream_id === call.request.stream_id);
      if (stream.refused) done({ code: stream.refused, details: 'it is refused' });
      else done(null, { stream });
    },
    ReadStream(call) {
      seen.read = [call.request.called_task_id, call.request.stream_id];
      call.write({ items: [{ event_json: Buffer.from('{"px":1}') }, { event_json: Buffer.from('2') }] });
      call.write({ end: { reason: 'ended' } });
      call.end();
    },
    WriteStream(call, done) {
      seen.written = [call.request.called_task_id, call.request.stream_id, call.request.items[0].text];
      done(null, {});
    },
    EndStream(call, done) {
      (seen.ended ??= []).push([call.request.called_task_id, call.request.stream_id]);
      done(null, {});
    },
  };
}

test('streams of called tasks', async (t) => {
  const seen = {};
  const h = await serveHandler(t, [ALL], calling(seen));
  const [result] = artifacts(await h.run(request('called')));
  assert.deepEqual(JSON.parse(result.data), [
    [{ px: 1 }, 2], 'inbound', true, { a: 1 }, 'the called task task_9 has several streams: name one of quotes, words',
    'the called task task_9 has ended without the stream none',
  ]);
  assert.equal(seen.call.stream, true);
  assert.deepEqual(seen, {
    call: seen.call, opened: ['c-1', 'c-2'], read: ['task_9', 'c-1'], written: ['task_9', 'c-2', 'hello'], ended: [['task_9', 'c-2']],
  });
});

test('a stream of a called task is waited for by what it is', async (t) => {
  const seen = {};
  const h = await serveHandler(t, [ALL], calling(seen));
  const [result] = artifacts(await h.run(request('where')));
  assert.deepEqual(JSON.parse(result.data), [
    'words', ['quotes', 'words'], [{ px: 1 }, 2], true, 'TimeoutError',
    'the called task task_9 has ended without a stream that fits', 'TypeError',
  ]);
  assert.deepEqual(seen.opened, ['c-2', 'c-1']);
});

test('all streams of a called task are opened as they are announced', async (t) => {
  const seen = {};
  const more = (stream_id, members) => ({ stream_id, direction: 'STREAM_DIRECTION_INBOUND', format: 'STREAM_FORMAT_BYTES', ...members });
  const later = [more('c-3', { refused: 9 }), more('c-4', { declared_stream: 'news', direction: 'STREAM_DIRECTION_BIDIRECTIONAL' })];
  const h = await serveHandler(t, [ALL], calling(seen, true, later));
  const [result] = artifacts(await h.run(request('all')));
  assert.deepEqual(JSON.parse(result.data), [[['quotes', 'inbound'], ['news', 'bidirectional']], ['quotes', 'news']]);
  assert.deepEqual(seen.opened, ['c-1', 'c-3', 'c-4', 'c-3']);
  const refusing = await serveHandler(t, [ALL], calling({}, false, [more('c-5', { refused: 8 })]));
  const failed = end(await refusing.run(request('awaits all')));
  assert.equal(failed.error.public_message, 'woken: open the stream c-5 of the called task task_9: it is refused');
});

test('a cancel wakes who waits for streams', async (t) => {
  for (const what of ['all', 'where']) {
    const h = await serveHandler(t, [ALL], calling({}));
    const messages = await h.run(request(`awaits ${what}`), (m) => {
      if (m.status) h.ask('CancelTask', { task_id: 'task_1', reason: 'CANCEL_REASON_USER' });
    });
    assert.equal(end(messages).error.public_message, 'woken: user');
  }
});

const PROJECT = `import { StreamUnavailableError, textPart } from '@blocks-network/sdk';
export default async function handler(task, ctx) {
  const session = await ctx.taskClient.sendMessage({ agentName: 'other', requestParts: [textPart('hi')], stream: true });
  if (task.requestParts[0].text === 'late') {
    await session.waitForTerminal();
    try { session.listStreams()[0].open(); } catch (err) {
      return { artifacts: [{ data: JSON.stringify([err instanceof StreamUnavailableError, err.terminalState, err.declaredStream, session.openAllStreams()]) }] };
    }
  }
  const order = [];
  session.onProgress(() => order.push('progress'));
  session.onStream((ref) => order.push(ref.descriptor.streamId));
  const ref = await session.waitForStream('quotes', 180_000);
  const quotes = ref.open();
  const got = [];
  for await (const value of quotes.events()) got.push(value);
  const words = (await session.waitForStreamWhere((r) => r.descriptor.affinity === 'shared')).open();
  words.write('hello');
  await words.end();
  const late = [];
  session.onStream((r) => late.push(r.descriptor.streamId));
  const none = await session.waitForStream('none', 20).catch((err) => err.message);
  const { agentDirection, localDirection, format, metadata, agentName } = ref.descriptor;
  await session.asyncClose();
  return { artifacts: [{ data: JSON.stringify([got, order, late, none, agentDirection, localDirection, format, metadata, agentName]) }] };
}
`;

test('a project has the streams of called tasks', async (t) => {
  const seen = {};
  const dir = mkdtempSync(path.join(os.tmpdir(), 'bn-'));
  t.after(() => rmSync(dir, { recursive: true, force: true }));
  writeFileSync(path.join(dir, 'handler.mjs'), PROJECT);
  const args = [fileURLToPath(new URL('../run.mjs', import.meta.url)), '--project', dir, '--file', path.join(dir, 'handler.mjs')];
  const h = await serveHandler(t, args, calling(seen));
  const raw = (text) => ({ parts: [{ part_id: 'request', text, raw_json: Buffer.from(JSON.stringify({ partId: 'request', text })) }] });
  const [result] = artifacts(await h.run(raw('x')));
  assert.deepEqual(JSON.parse(result.data), [
    [{ px: 1 }, 2], ['progress', 'c-1', 'c-2'], ['c-1', 'c-2'], 'the task task_9 has not announced the stream none within 20 ms',
    'outbound', 'inbound', 'events', { a: 1 }, 'other',
  ]);
  assert.deepEqual([seen.opened, seen.read, seen.written], [['c-1', 'c-2'], ['task_9', 'c-1'], ['task_9', 'c-2', 'hello']]);
  assert.ok(seen.ended.some(([, id]) => id === 'c-2'));
  const ended = await serveHandler(t, args, calling({}, false));
  assert.deepEqual(JSON.parse(artifacts(await ended.run(raw('late')))[0].data), [true, 'completed', 'quotes', []]);
});

test('a pipe task goes on until it ends itself, and hears of a cancel', async (t) => {
  const h = await serveHandler(t, [ALL]);
  const messages = await h.run({ ...request('lasting'), kind: 'TASK_KIND_PIPE' });
  assert.deepEqual(messages.map((m) => Object.keys(m)[0]), ['artifact', 'status', 'error']);
  assert.equal(end(messages).error.public_message, 'broken');
  const told = await h.run({ ...request('told'), kind: 'TASK_KIND_PIPE' }, (m) => {
    if (m.artifact) h.ask('CancelTask', { task_id: 'task_1', reason: 'CANCEL_REASON_EXPIRED' });
  });
  assert.deepEqual(end(told).result, { final: false });
  await h.ask('Shutdown');
  await h.exited;
  assert.match(h.stderr, /told: expired/);
  assert.match(h.stderr, /again: TaskEndedError/);
});
