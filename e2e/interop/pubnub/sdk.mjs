// Drives the unmodified npm package pubnub by commands: one JSON object a line on standard input, one answer a line on
// standard output, events of subscriptions in between. The first line is the configuration. drive.py and driver_test.go take
// the same commands.
import PubNub from 'pubnub';
import { createInterface } from 'node:readline';

const print = (o) => console.log(JSON.stringify(o));
const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const config = JSON.parse((await lines.next()).value);
const pubnub = new PubNub({
  publishKey: config.publishKey,
  subscribeKey: config.subscribeKey,
  secretKey: config.secretKey || undefined,
  userId: config.uuid,
  origin: config.origin,
  ssl: false,
  keepAlive: true,
  transactionalRequestTimeout: 60,
  ...(config.heartbeat ? { presenceTimeout: config.heartbeat } : {}),
  ...(config.timeout ? { subscribeRequestTimeout: config.timeout } : {}),
  ...(config.filter ? { filterExpression: config.filter } : {}),
});
const tt = (v) => (v === undefined || v === null ? v : String(v));
const base = (name) => name.replace(/-pnpres$/, '');
pubnub.addListener({
  status: (s) => print({ event: 'status', category: s.category ?? s.operation }),
  message: (m) => print({ event: 'message', channel: m.channel, subscription: m.subscription ?? '', publisher: m.publisher, timetoken: tt(m.timetoken), message: m.message, meta: m.userMetadata ?? null }),
  signal: (m) => print({ event: 'signal', channel: m.channel, publisher: m.publisher, timetoken: tt(m.timetoken), message: m.message }),
  presence: (p) => print({ event: 'presence', action: p.action, channel: base(p.channel), uuid: p.uuid ?? '', occupancy: p.occupancy, state: p.state ?? null }),
  messageAction: (a) => print({ event: 'action', action: a.event, type: a.data.type, value: a.data.value, uuid: a.data.uuid ?? a.publisher, timetoken: tt(a.data.actionTimetoken) }),
  file: (f) => print({ event: 'file', id: f.file.id, name: f.file.name, message: f.message, channel: f.channel }),
});

// Many clients in this process, each with what it has heard.
const crowd = [];
const member = (uuid) => {
  const m = { pubnub: new PubNub({ publishKey: config.publishKey, subscribeKey: config.subscribeKey, userId: uuid, origin: config.origin, ssl: false, keepAlive: true, transactionalRequestTimeout: 60 }), seen: new Map() };
  const connected = new Promise((done) => m.pubnub.addListener({
    status: (s) => (s.category === 'PNConnectedCategory' ? done() : console.error(uuid, 'is told', s.category ?? s.operation)),
    message: (e) => m.seen.set(`${e.channel} ${e.message}`, (m.seen.get(`${e.channel} ${e.message}`) ?? 0) + 1),
  }));
  crowd.push(m);
  return [m, connected];
};

const ops = {
  gather: async (c) => {
    // Few at a time: on a busy machine all at once would run into time-outs.
    let next = 0;
    const some = async () => {
      while (next < c.count) {
        const name = `${c.name}.${next++}`;
        const [m, connected] = member(name);
        m.pubnub.subscribe({ channels: c.channels?.length ? c.channels : [name] });
        await connected;
      }
    };
    await Promise.all(Array.from({ length: 16 }, some));
    return {};
  },
  volley: async (c) => {
    await Promise.all(crowd.map(async (m, i) => {
      for (const channel of c.channels) await m.pubnub.publish({ channel, message: `${c.message} ${c.name}.${i}` });
    }));
    return {};
  },
  tally: async () => crowd.map((m) => [m.seen.size, [...m.seen.values()].reduce((a, b) => a + b, 0)]),
  time: async () => ({ timetoken: tt((await pubnub.time()).timetoken) }),
  publish: async (c) => ({ timetoken: tt((await pubnub.publish({ channel: c.channel, message: c.message, sendByPost: !!c.post, meta: c.meta, storeInHistory: c.store, ttl: c.ttl, customMessageType: c.type })).timetoken) }),
  signal: async (c) => ({ timetoken: tt((await pubnub.signal({ channel: c.channel, message: c.message })).timetoken) }),
  // The promise of fire has no value in this SDK, only the callback has.
  fire: (c) => new Promise((done, failed) => pubnub.fire({ channel: c.channel, message: c.message }, (status, r) => (r ? done({ timetoken: tt(r.timetoken) }) : failed(new Error(JSON.stringify(status)))))),
  subscribe: async (c) => (pubnub.subscribe({ channels: c.channels ?? [], channelGroups: c.groups ?? [], withPresence: !!c.presence, timetoken: c.timetoken }), {}),
  unsubscribe: async (c) => (pubnub.unsubscribe({ channels: c.channels ?? [], channelGroups: c.groups ?? [] }), {}),
  reconnect: async () => (pubnub.reconnect(), {}),
  hereNow: async (c) => {
    const r = await pubnub.hereNow({ channels: c.channels ?? [], channelGroups: c.groups ?? [], includeUUIDs: true, includeState: !!c.states });
    const channels = {};
    for (const [name, ch] of Object.entries(r.channels)) channels[name] = { occupancy: ch.occupancy, uuids: ch.occupants.map((o) => o.uuid).sort(), states: Object.fromEntries(ch.occupants.filter((o) => o.state).map((o) => [o.uuid, o.state])) };
    return { total: r.totalOccupancy, channels };
  },
  whereNow: async (c) => ({ channels: (await pubnub.whereNow({ uuid: c.uuid })).channels }),
  setState: async (c) => ({ state: (await pubnub.setState({ channels: c.channels, state: c.state })).state }),
  getState: async (c) => ({ channels: (await pubnub.getState({ channels: c.channels, uuid: c.uuid })).channels }),
  history: async (c) => {
    const r = await pubnub.fetchMessages({ channels: [c.channel], count: c.count, start: c.start, end: c.end, includeMeta: true, includeUUID: true, includeMessageActions: !!c.actions });
    const list = r.channels[c.channel] ?? [];
    return { more: !!r.more, messages: list.map((m) => ({ message: m.message, timetoken: tt(m.timetoken), uuid: m.uuid, meta: m.meta || null, actions: Object.entries(m.actions ?? m.data ?? {}).flatMap(([t, vs]) => Object.entries(vs).flatMap(([v, us]) => us.map((u) => `${t}/${v}/${u.uuid}`))) })) };
  },
  history2: async (c) => {
    const r = await pubnub.history({ channel: c.channel, count: c.count, reverse: !!c.reverse });
    return { messages: r.messages.map((m) => m.entry), first: tt(r.startTimeToken), last: tt(r.endTimeToken) };
  },
  counts: async (c) => ({ channels: (await pubnub.messageCounts({ channels: c.channels, channelTimetokens: c.timetokens })).channels }),
  delete: async (c) => (await pubnub.deleteMessages({ channel: c.channel, start: c.start, end: c.end }), {}),
  addAction: async (c) => ({ timetoken: tt((await pubnub.addMessageAction({ channel: c.channel, messageTimetoken: c.timetoken, action: { type: c.type, value: c.value } })).data.actionTimetoken) }),
  removeAction: async (c) => (await pubnub.removeMessageAction({ channel: c.channel, messageTimetoken: c.timetoken, actionTimetoken: c.action }), {}),
  actions: async (c) => ({ actions: (await pubnub.getMessageActions({ channel: c.channel })).data.map((a) => `${a.type}/${a.value}/${a.uuid}`) }),
  groupAdd: async (c) => (await pubnub.channelGroups.addChannels({ channelGroup: c.group, channels: c.channels }), {}),
  groupRemove: async (c) => (await pubnub.channelGroups.removeChannels({ channelGroup: c.group, channels: c.channels }), {}),
  groupList: async (c) => ({ channels: (await pubnub.channelGroups.listChannels({ channelGroup: c.group })).channels }),
  groupDelete: async (c) => (await pubnub.channelGroups.deleteGroup({ channelGroup: c.group }), {}),
  sendFile: async (c) => ({ id: (await pubnub.sendFile({ channel: c.channel, message: { text: c.message }, file: { data: Buffer.from(c.content), name: c.name, mimeType: 'text/plain' } })).id }),
  listFiles: async (c) => {
    const r = await pubnub.listFiles({ channel: c.channel, limit: c.limit, next: c.next || undefined });
    return { files: r.data.map((f) => `${f.name} ${f.size}`), next: r.next ?? '' };
  },
  downloadFile: async (c) => ({ content: (await (await pubnub.downloadFile({ channel: c.channel, id: c.file, name: c.name })).toBuffer()).toString() }),
  fileURL: async (c) => ({ url: pubnub.getFileUrl({ channel: c.channel, id: c.file, name: c.name }) }),
  deleteFile: async (c) => (await pubnub.deleteFile({ channel: c.channel, id: c.file, name: c.name }), {}),
  grant: async (c) => {
    const rights = (m) => Object.fromEntries(Object.entries(m ?? {}).map(([n, r]) => [n, { read: r.includes('r'), write: r.includes('w'), manage: r.includes('m'), delete: r.includes('d') }]));
    return { token: await pubnub.grantToken({ ttl: c.ttl, authorized_uuid: c.uuid || undefined, resources: { channels: rights(c.channels), groups: rights(c.groups) }, patterns: { channels: rights(c.patterns) } }) };
  },
  revoke: async (c) => (await pubnub.revokeToken(c.token), {}),
  setToken: async (c) => (pubnub.setToken(c.token), {}),
  parseToken: async (c) => {
    const p = pubnub.parseToken(c.token);
    return { ttl: p.ttl, uuid: p.authorized_uuid ?? '', channels: Object.keys(p.resources?.channels ?? {}), patterns: Object.keys(p.patterns?.channels ?? {}) };
  },
};

for await (const line of { [Symbol.asyncIterator]: () => lines }) {
  const c = JSON.parse(line);
  if (!ops[c.op]) {
    print({ id: c.id, ok: false, error: `no such command: ${c.op}` });
    continue;
  }
  // Commands run at once, as programs do; the answers carry the ids.
  ops[c.op](c)
    .then((value) => print({ id: c.id, ok: true, value }))
    .catch((e) => print({ id: c.id, ok: false, status: e.status?.statusCode ?? 0, error: String(e.status?.errorData?.message ?? e.message ?? e) }));
}
process.exit(0);
