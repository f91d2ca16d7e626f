// Three streams in one task: events, bytes, and a broadcast that all tasks share and one of them writes.

import { setTimeout as sleep } from 'node:timers/promises';

import { serve } from '@blocksd/handler';

const INTERVAL_MS = 500;

// The broadcast of each task that has it. The first one is written, as long as there is one.
const shared = [];
let writing = false;

async function broadcast() {
  if (writing) return;
  writing = true;
  for (let tick = 1; shared.length > 0; tick += 1) {
    await shared[0].write({ tick, kind: 'broadcast' }).catch(() => {}); // its task has just ended; the next one goes on
    await sleep(INTERVAL_MS);
  }
  writing = false;
}

serve({
  name: 'advanced_stream',
  async run(task) {
    const count = wanted(task.text('request')?.trim());
    const events = await task.createStream({ name: 'events' });
    const lines = await task.createStream({ name: 'bytes' });
    const cast = await task.createStream({ name: 'broadcast' });
    shared.push(cast);
    broadcast();
    try {
      for (let tick = 1; tick <= count; tick += 1) {
        await events.write({ tick, label: `event #${tick}`, at: new Date().toISOString() });
        await lines.write(`chunk ${tick}\n`);
        await sleep(INTERVAL_MS, undefined, { signal: task.signal });
      }
      task.complete();
    } finally {
      shared.splice(shared.indexOf(cast), 1);
    }
  },
});

/** How many events are wanted; without a number they go on as long as the task. */
function wanted(text) {
  if (!text) return Infinity;
  if (!/^[1-9]\d*$/.test(text)) throw new Error('the request is not a number from 1 on');
  return Number(text);
}
