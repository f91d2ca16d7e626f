// The daemon's side of the contract, for tests: it starts a handler process, talks to it, and serves the host service with
// what a test gives it.

import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import process from 'node:process';
import { once } from 'node:events';

import grpc from '@grpc/grpc-js';

import { contract, COOKIE, MAX_MESSAGE } from '../lib/contract.mjs';

/** The daemon's. */
const limits = { 'grpc.max_receive_message_length': MAX_MESSAGE, 'grpc.max_send_message_length': MAX_MESSAGE };

const TOKEN = 'secret';

/** Starts a program with node and returns its process with what it has printed. */
export function start(args, env = {}) {
  const dir = mkdtempSync(path.join(os.tmpdir(), 'bn-'));
  const child = spawn(process.execPath, args, {
    env: { PATH: process.env.PATH, [COOKIE.name]: COOKIE.value, PLUGIN_UNIX_SOCKET_DIR: dir, BLOCKSD_HOST_SOCKET: path.join(dir, 'host.sock'), BLOCKSD_HOST_TOKEN: TOKEN, ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const handler = { child, dir, stdout: '', stderr: '' };
  child.stdout.on('data', (data) => { handler.stdout += data; });
  child.stderr.on('data', (data) => { handler.stderr += data; });
  handler.exited = once(child, 'close').then(([code, signal]) => ({ code, signal }));
  /** Waits until it has written that, as a whole line: what it writes comes by another way than what it answers. */
  handler.heard = async (pattern) => {
    while (!pattern.test(handler.stderr.slice(0, handler.stderr.lastIndexOf('\n') + 1))) {
      const ended = await Promise.race([once(child.stderr, 'data').then(() => false), handler.exited]);
      if (ended) throw new Error(`the handler ended without writing ${pattern}: ${handler.stderr}`);
    }
  };
  return handler;
}

/** Starts a handler and connects to it. host are the methods of the host service. */
export async function serveHandler(t, args, host = {}, env = {}) {
  const { handler: HandlerService, host: HostService } = contract();
  const h = start(args, env);
  const server = new grpc.Server(limits);
  const methods = {};
  for (const name of Object.keys(HostService)) {
    methods[name] = (call, done) => {
      const token = call.metadata.get('blocksd-host-token')[0];
      if (token !== TOKEN) throw new Error(`the token is ${token}`);
      if (!host[name]) return done({ code: grpc.status.UNIMPLEMENTED, details: `${name} is not there` });
      return host[name](call, done);
    };
  }
  server.addService(HostService, methods);
  await new Promise((resolve, reject) => {
    server.bindAsync(`unix:${h.dir}/host.sock`, grpc.ServerCredentials.createInsecure(), (err) => (err ? reject(err) : resolve()));
  });
  t.after(async () => {
    h.child.kill('SIGKILL');
    await h.exited;
    h.client?.close();
    server.forceShutdown();
    rmSync(h.dir, { recursive: true, force: true });
  });
  while (!h.stdout.includes('\n')) {
    const ended = await Promise.race([once(h.child.stdout, 'data').then(() => false), h.exited]);
    if (ended) throw new Error(`the handler ended before its handshake: ${JSON.stringify(ended)} ${h.stderr}`);
  }
  h.handshake = h.stdout.split('\n')[0];
  const socket = h.handshake.split('|')[3];
  const unary = (name) => ({
    path: name, requestStream: false, responseStream: false, requestSerialize: () => Buffer.alloc(0), requestDeserialize: (b) => b,
    responseSerialize: (b) => b, responseDeserialize: (b) => b,
  });
  const Client = grpc.makeGenericClientConstructor({
    ...HandlerService, Check: unary('/grpc.health.v1.Health/Check'), Shutdown: unary('/plugin.GRPCController/Shutdown'),
  }, 'Handler');
  h.client = new Client(`unix:${socket}`, grpc.credentials.createInsecure(), limits);
  h.ask = (method, request = {}) => new Promise((resolve, reject) => {
    h.client[method](request, (err, answer) => (err ? reject(err) : resolve(answer)));
  });
  /** Gives it a task and returns its messages. onMessage sees them as they come. */
  h.run = async (task, onMessage = () => {}) => {
    const call = h.client.StartTask({ task: { task_id: 'task_1', agent_name: 'a', kind: 'TASK_KIND_REQUEST', ...task } });
    const messages = [];
    for await (const m of call) {
      messages.push(m);
      onMessage(m, call);
    }
    return messages;
  };
  return h;
}

/** The bytes of the artifacts in messages. */
export function artifacts(messages) {
  const all = [];
  for (const { artifact } of messages.filter((m) => m.artifact)) {
    if (artifact.info) all.push({ ...artifact.info, data: Buffer.alloc(0), pieces: 0 });
    const last = all.at(-1);
    last.data = Buffer.concat([last.data, artifact.data ?? Buffer.alloc(0)]);
    last.pieces += 1;
    last.whole = Boolean(artifact.last);
  }
  return all;
}
