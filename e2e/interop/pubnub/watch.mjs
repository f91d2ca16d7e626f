// Watches one task with the unmodified npm package pubnub: stored events first, then live ones. Prints each event as a
// line of JSON and ends after the terminal event, or with status 1 and a sentence when anything goes wrong.
//
// usage: node watch.mjs '{"origin","subscribeKey","publishKey","token","channel","readyFile"}'; the file is written when the subscription
// stands.
import { writeFileSync } from 'node:fs';
import PubNub from 'pubnub';

const task = JSON.parse(process.argv[2]);
const pubnub = new PubNub({
  subscribeKey: task.subscribeKey,
  publishKey: task.publishKey,
  userId: 'interop-watcher',
  origin: task.origin,
  ssl: false,
});
pubnub.setToken(task.token);

const fail = (why) => {
  console.error(`watch channel ${task.channel} with the npm package pubnub: ${why}`);
  process.exit(1);
};

let newest = '0'; // of the history
const seen = new Set();
const show = (timetoken, message) => {
  if (seen.has(timetoken)) return; // the live subscription overlaps the history by design
  seen.add(timetoken);
  console.log(JSON.stringify({ timetoken, ...message }));
  if (message.type === 'terminal') {
    pubnub.stop();
    process.exit(0);
  }
};

pubnub.addListener({
  message: (m) => show(String(m.timetoken), m.message),
  status: (s) => {
    if (s.error) fail(JSON.stringify(s.category ?? s));
    if (s.category === 'PNConnectedCategory' && task.readyFile) writeFileSync(task.readyFile, newest);
  },
});

const history = await pubnub
  .fetchMessages({ channels: [task.channel], count: 100 })
  .catch((e) => fail(JSON.stringify(e.status ?? e.message)));
const stored = history.channels[task.channel] ?? [];
for (const m of stored) show(String(m.timetoken), m.message);
newest = stored.length ? String(stored[stored.length - 1].timetoken) : '0';
pubnub.channel(task.channel).subscription({ cursor: { timetoken: newest } }).subscribe();
