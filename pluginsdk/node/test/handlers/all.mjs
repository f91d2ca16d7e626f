// A handler that does what the text of its request names.

import { CanceledError, PublicError, SaveError, serve } from '../../lib/index.mjs';

console.log('printed before the handshake');

const doings = {
  shout: (task, word) => word.toUpperCase(),
  nothing: () => undefined,
  order: async (task) => {
    task.status('one');
    await task.send({ data: 'first', outputId: 'a', fileName: 'a.txt' });
    await task.publish({ data: 'published', mimeType: 'text/plain' });
    task.status('two');
  },
  big: async (task, size) => {
    await task.send({ data: Buffer.alloc(Number(size), 'x') });
  },
  pieces: async (task, count) => {
    await task.send({ body: (function* () { for (let i = 0; i < Number(count); i += 1) yield '0123456789'; })() });
  },
  fail: (task, text) => { throw new Error(text); },
  private: () => { throw new PublicError('Sorry.', new Error('the disk is full')); },
  wait: async (task) => {
    task.status('waiting');
    await new Promise((resolve, reject) => {
      const over = () => reject(task.signal.reason);
      if (task.signal.aborted) over();
      else task.signal.addEventListener('abort', over, { once: true });
    }).catch((err) => {
      if (!(err instanceof CanceledError)) throw err;
      throw new Error(`ended by ${err.reason}`);
    });
  },
  file: async (task) => `${task.file('doc').name}: ${(await task.file('doc').bytes()).toString()}`,
  json: (task) => JSON.stringify(task.json('request').value),
  stream: async (task) => {
    const s = await task.createStream({ name: 'out', metadata: { a: 1 } });
    for (let i = 0; i < 990; i += 1) s.write(`${i} `);
    for (let i = 990; i < 1000; i += 1) await s.write(`${i} `);
    await s.flush();
    await s.end();
    return `${s.id} ${s.direction} ${s.format} ${s.shared} ${s.first}`;
  },
  read: async (task) => {
    const s = await task.createStream({ name: 'in' });
    const got = [];
    for await (const value of s) got.push(value);
    return JSON.stringify([got, s.missed, s.endReason]);
  },
  full: async (task) => {
    const s = await task.createStream();
    await s.write('a');
  },
  hang: async (task) => {
    const call = await task.call('other', 'hi');
    task.status('called');
    await call.result().catch((err) => { throw new Error(`woken by ${err.reason}`); });
  },
  call: async (task) => {
    const call = await task.call('other', [{ id: 'request', text: 'hi' }, { id: 'doc', file: Buffer.alloc(600_000, 'y'), fileName: 'y.txt' }], { idempotencyKey: 'k', traceContext: task.traceContext });
    const types = [];
    for await (const event of call) types.push(event.type);
    const end = await call.result();
    const { data, mimeType } = await call.download(0);
    await call.cancel();
    return JSON.stringify([call.taskId, call.queued, types, end.state, data.toString(), mimeType]);
  },
  called: async (task) => {
    const call = await task.call('other', 'hi', { stream: true });
    const quotes = await call.stream('quotes');
    const got = [];
    for await (const value of quotes) got.push(value);
    const words = await call.stream('c-2');
    await words.write('hello');
    await words.end();
    const several = await call.stream().catch((err) => err.message);
    await call.cancel();
    await call.result();
    const none = await call.stream('none').catch((err) => err.message);
    return JSON.stringify([got, quotes.direction, words.shared, call.streams()[0].metadata, several, none]);
  },
  save: async (task, directory) => {
    const call = await task.call('other', 'hi');
    await call.result();
    try {
      return JSON.stringify({ paths: await call.save(directory), count: call.artifacts().length });
    } catch (err) {
      if (!(err instanceof SaveError)) throw err;
      return JSON.stringify({ error: err.message, paths: err.paths });
    }
  },
  givesup: async (task, directory) => {
    const call = await task.call('other', 'hi');
    await call.result();
    await call.save(directory, { signal: task.signal });
  },
  where: async (task) => {
    const call = await task.call('other', 'hi', { stream: true });
    const seen = [];
    const words = await call.streamWhere((s) => {
      seen.push(s.name);
      return s.shared && call.streams().length === 2; // whoever looks may ask the call
    });
    const quotes = await call.streamWhere(async (s) => s.metadata?.a === 1);
    const got = [];
    for await (const value of quotes) got.push(value);
    const late = await call.streamWhere(() => false, { signal: AbortSignal.timeout(10) }).catch((err) => err.name);
    await call.cancel();
    const none = await call.streamWhere(() => false).catch((err) => err.message);
    const own = await call.streamWhere((s) => s.none.none).catch((err) => err.name);
    return JSON.stringify([words.name, seen, got, (await call.stream('quotes')) === quotes, late, none, own]);
  },
  all: async (task) => {
    const call = await task.call('other', 'hi', { stream: true });
    const got = [];
    for await (const stream of call.openAll()) {
      got.push([stream.name, stream.direction]);
      if (got.length === 1) await call.cancel(); // the last one comes with the end
    }
    const again = [];
    for await (const stream of call.openAll()) again.push(stream.name);
    return JSON.stringify([got, again]);
  },
  awaits: async (task, what) => {
    const call = await task.call('other', 'hi', { stream: true });
    task.status('waits');
    const all = async () => { for await (const stream of call.openAll()) await stream.end(); };
    await (what === 'all' ? all() : call.streamWhere(() => false)).catch((err) => { throw new Error(`woken: ${err.reason ?? err.message}`); });
  },
  lasting: async (task) => {
    setTimeout(async () => {
      task.status('still here');
      await task.end(new Error('broken')).catch((err) => console.log(err.message));
      if (!task.pipe) return;
      await new Promise((resolve) => { setTimeout(resolve, 10); });
      await task.end().catch((err) => console.log(`again: ${err.name}`));
    }, 10);
    return 'returned';
  },
  told: (task) => {
    task.signal.addEventListener('abort', () => console.log(`told: ${task.signal.reason.reason}`));
    return 'left';
  },
  mistyped: (task) => task.call('other', 'hi', { durationMinutes: 'soon' }),
  log: (task) => {
    task.log.warn('careful', { n: 1 });
    console.error('an error', { deep: true });
    Promise.reject(new Error('nobody looks'));
    return 'logged';
  },
  pipe: (task) => { task.complete(); },
};

serve({
  name: 'all', version: '1.2.3', idempotent: true, cards: [{ identity: { agentName: 'all' } }],
  run(task) {
    const text = task.text('request') ?? '';
    const [name, ...rest] = text.startsWith('{') ? ['json'] : text.split(' ');
    if (!(name in doings)) throw new Error(`there is no ${name}`);
    return doings[name](task, rest.join(' '));
  },
});
