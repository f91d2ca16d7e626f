// The gRPC server of a handler process: handshake, health, controller, and the handler service.

import { unlinkSync } from 'node:fs';
import path from 'node:path';
import process from 'node:process';

import { artifactOf, bytesOf } from './artifact.mjs';
import { Cancellation } from './cancellation.mjs';
import { contract, COOKIE } from './contract.mjs';
import { CanceledError, textsOf } from './errors.mjs';
import { Server, STATUS } from './grpc.mjs';
import { Host } from './host.mjs';
import { log, takeOverOutput } from './log.mjs';
import { Task } from './task.mjs';

const SDK = 'blocksd-node/0.1.0';

/** EX_CONFIG: the daemon shows the last line of such a process, and does not start it again until something changes. */
const EXIT_UNUSABLE = 78;

/** How many cancellations are kept that came before their task. */
const MAX_EARLY = 1024;

/** How long open calls may take when the process is asked to end; by then the daemon has ended the tasks. */
const STOP_MS = 1000;

/** Ends a process that cannot serve, with a sentence that the daemon shows. */
export function unusable(text) {
  process.stderr.write(`${String(text).replaceAll(/\s*\n\s*/g, ' ')}\n`, () => process.exit(EXIT_UNUSABLE));
  return new Promise(() => {});
}

let handshake;
let served;

/** The serving that has begun, undefined for none. */
export const serving = () => served;

/** Has everything that is printed go to the log. To be called before anything of the user's runs. */
export function quiet() {
  handshake ??= takeOverOutput();
}

/** Serves a handler to the daemon that started this process. */
export function serve(handler) {
  served = begin(handler);
  return served;
}

async function begin(handler) {
  if (typeof handler === 'function') handler = { run: handler };
  if (typeof handler?.run !== 'function') throw new TypeError('serve needs a handler with a function run');
  const name = path.basename(process.argv[1] ?? 'handler');
  if (process.env[COOKIE.name] !== COOKIE.value) {
    process.stderr.write(
      `${name} is a Blocks handler and does nothing by itself: put it into a plugins directory of blocksd, ` +
        `or try it with "blocksd dev --plugins ${path.dirname(process.argv[1] ?? '.')}".\n`,
    );
    process.exit(1);
  }
  quiet();
  const service = new Service(handler, new Host());
  const client = process.env.PLUGIN_CLIENT_CERT;
  const { tls, line = '' } = client ? (await import('./certificate.mjs')).tlsFor(client) : {};
  const server = new Server(tls);
  const methods = contract().handler;
  server.add(methods.Describe, (call) => call.end(service.describe(name)));
  server.add(methods.StartTask, (call, request) => service.startTask(call, request));
  server.add(methods.CancelTask, (call, request) => call.end(service.cancelTask(request)));
  server.add(HEALTH, (call) => call.end());
  let stopping;
  const stop = () => {
    stopping ??= setTimeout(() => process.exit(0), STOP_MS);
    server.close(() => process.exit(0));
  };
  server.add(SHUTDOWN, (call) => {
    call.end();
    setImmediate(stop);
  });
  process.on('SIGTERM', stop);
  process.on('SIGINT', () => {}); // of a terminal: the daemon decides
  process.on('unhandledRejection', (err) => log.error('a promise was rejected and nobody handled it', { error: err instanceof Error ? err.stack : String(err) }));
  const socket = path.join(process.env.PLUGIN_UNIX_SOCKET_DIR ?? '/tmp', 'handler.sock');
  try {
    unlinkSync(socket);
  } catch {
    // there is none
  }
  await server.listen(socket);
  handshake(`1|1|unix|${socket}|grpc|${line}\n`);
}

class Service {
  #handler;
  #host;
  #running = new Map();
  #early = new Map();

  constructor(handler, host) {
    this.#handler = handler;
    this.#host = host;
  }

  describe(name) {
    const h = this.#handler;
    return {
      name: h.name || name, version: h.version ?? '', sdk: SDK,
      agent_cards_json: (h.cards ?? []).map((card) => bytesOf(card) ?? Buffer.from(JSON.stringify(card))),
      capabilities: { cancel: true, idempotent: Boolean(h.idempotent) },
    };
  }

  async startTask(call, request) {
    const t = request.task;
    const id = t?.task_id;
    if (!id) return call.refuse(STATUS.INVALID_ARGUMENT, 'a task without an id');
    if (this.#running.has(id)) return call.refuse(STATUS.ALREADY_EXISTS, `task ${id} runs already`);
    const cancellation = new Cancellation();
    this.#running.set(id, cancellation);
    call.onCancel = () => cancellation.cancel('ended');
    if (this.#early.has(id)) {
      cancellation.cancel(this.#early.get(id));
      this.#early.delete(id);
    }
    const task = new Task(t, this.#host, cancellation, (message) => sent(call.send(message)));
    const end = await this.#run(task);
    call.onCancel = undefined;
    this.#forget(id);
    call.end(end);
    return undefined;
  }

  /** Runs the handler and returns the last message. */
  async #run(task) {
    try {
      const value = await this.#handler.run(task);
      if (typeof value === 'string' || bytesOf(value) || (value && typeof value === 'object' && ('data' in value || 'body' in value))) {
        await task.send(artifactOf(value));
      }
      if (task.pipe) await task.goOn();
      await task.close();
      return { result: task.result };
    } catch (err) {
      await task.close();
      return { error: textsOf(err) };
    }
  }

  cancelTask(request) {
    const reason = String(request.reason ?? 'ended').replace('CANCEL_REASON_', '').toLowerCase();
    const cancellation = this.#running.get(request.task_id);
    if (cancellation) cancellation.cancel(reason);
    else if (this.#early.size < MAX_EARLY) this.#early.set(request.task_id, reason);
    return {};
  }

  /** Cancellations may come for tasks that have just ended; when nothing runs they are all such. */
  #forget(id) {
    this.#running.delete(id);
    if (this.#running.size === 0) this.#early.clear();
  }
}

/** What call.send returns, as an error when the daemon has given the call up. */
function sent(open) {
  if (open === true) return undefined;
  if (open === false) throw new CanceledError('ended');
  return open.then(sent);
}

/** One unary method of a service that needs no message classes. */
const unary = (path, answer) => ({ path, requestDeserialize: () => ({}), responseSerialize: () => answer });

/** The answer is the enum SERVING in the field status. */
const HEALTH = unary('/grpc.health.v1.Health/Check', Buffer.from([0x08, 0x01]));
const SHUTDOWN = unary('/plugin.GRPCController/Shutdown', Buffer.alloc(0));
