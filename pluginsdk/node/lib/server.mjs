// The gRPC server of a handler process: handshake, health, controller, and the handler service.

import { unlinkSync } from 'node:fs';
import path from 'node:path';
import process from 'node:process';

import { artifactOf, bytesOf } from './artifact.mjs';
import { contract, COOKIE, limits } from './contract.mjs';
import { CanceledError, textsOf } from './errors.mjs';
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
let advice;

/** The serving that has begun, undefined for none. */
export const serving = () => served;

/** What to do where a package that this one needs is missing. */
export function advise(text) {
  advice = text;
}

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
  if (process.env.PLUGIN_CLIENT_CERT) {
    return unusable('the package for Node.js has no encrypted connections: remove mtls from this handler in the configuration');
  }
  quiet();
  let parts;
  try {
    parts = contract();
  } catch (err) {
    return unusable(missing(err, advice));
  }
  const service = new Service(handler, new Host());
  const server = new parts.grpc.Server(limits);
  server.addService(parts.HandlerService, {
    Describe: (_, done) => done(null, service.describe(name)),
    StartTask: (call) => service.startTask(call, parts.grpc),
    CancelTask: (call, done) => done(null, service.cancelTask(call.request)),
  });
  server.addService(HEALTH, { Check: (_, done) => done(null, {}) });
  let stopping;
  const stop = () => {
    stopping ??= setTimeout(() => process.exit(0), STOP_MS);
    server.tryShutdown(() => process.exit(0));
  };
  server.addService(CONTROLLER, {
    Shutdown: (_, done) => {
      done(null, {});
      setImmediate(stop);
    },
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
  await new Promise((resolve, reject) => {
    server.bindAsync(`unix:${socket}`, parts.grpc.ServerCredentials.createInsecure(), (err) => (err ? reject(err) : resolve()));
  });
  handshake(`1|1|unix|${socket}|grpc|\n`);
}

/** What to say of an error while the packages are loaded. */
export function missing(err, advice = 'npm install') {
  if (err?.code !== 'MODULE_NOT_FOUND' && err?.code !== 'ERR_MODULE_NOT_FOUND') return err?.message ?? String(err);
  const name = /'([^']+)'/.exec(String(err.message))?.[1] ?? 'a package';
  return `the package ${name} is not installed: ${advice}`;
}

/** Sends a response, and resolves when there is room for the next. */
async function send(call, message) {
  if (call.cancelled) throw new CanceledError('ended');
  if (call.write(message)) return;
  await new Promise((resolve, reject) => {
    const drained = () => end(resolve);
    const cancelled = () => end(() => reject(new CanceledError('ended')));
    const end = (settle) => {
      call.off('drain', drained).off('cancelled', cancelled);
      settle();
    };
    call.on('drain', drained).on('cancelled', cancelled);
  });
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

  async startTask(call, grpc) {
    const t = call.request.task;
    const id = t?.task_id;
    const refuse = (code, details) => call.emit('error', Object.assign(new Error(details), { code, details }));
    if (!id) return refuse(grpc.status.INVALID_ARGUMENT, 'task without id');
    if (this.#running.has(id)) return refuse(grpc.status.ALREADY_EXISTS, `task ${id} runs already`);
    const abort = new AbortController();
    this.#running.set(id, abort);
    call.on('cancelled', () => { // gRPC says that of calls that have been answered, too
      if (this.#running.get(id) === abort) abort.abort(new CanceledError('ended'));
    });
    call.on('error', () => {}); // the daemon is gone, or the call has ended
    if (this.#early.has(id)) {
      abort.abort(new CanceledError(this.#early.get(id)));
      this.#early.delete(id);
    }
    const task = new Task(t, this.#host, abort.signal, (message) => send(call, message));
    const end = await this.#run(task);
    this.#forget(id);
    if (!call.cancelled) {
      call.write(end);
      call.end();
    }
  }

  /** Runs the handler and returns the last message. */
  async #run(task) {
    try {
      const value = await this.#handler.run(task);
      if (typeof value === 'string' || bytesOf(value) || (value && typeof value === 'object' && ('data' in value || 'body' in value))) {
        await task.send(artifactOf(value));
      }
      await task.close();
      return { result: task.result };
    } catch (err) {
      await task.close();
      return { error: textsOf(err) };
    }
  }

  cancelTask(request) {
    const reason = String(request.reason ?? 'ended').replace('CANCEL_REASON_', '').toLowerCase();
    const abort = this.#running.get(request.task_id);
    if (abort) abort.abort(new CanceledError(reason));
    else if (this.#early.size < MAX_EARLY) this.#early.set(request.task_id, reason);
    return {};
  }

  /** Cancellations may come for tasks that have just ended; when nothing runs they are all such. */
  #forget(id) {
    this.#running.delete(id);
    if (this.#running.size === 0) this.#early.clear();
  }
}

const empty = () => Buffer.alloc(0);
const nothing = () => ({});

/** One unary method of a service that needs no message classes. */
const unary = (name, answer) => ({
  path: name, requestStream: false, responseStream: false,
  requestSerialize: empty, requestDeserialize: nothing, responseSerialize: answer, responseDeserialize: nothing,
});

/** The answer is the enum SERVING in the field status. */
const HEALTH = { Check: unary('/grpc.health.v1.Health/Check', () => Buffer.from([0x08, 0x01])) };
const CONTROLLER = { Shutdown: unary('/plugin.GRPCController/Shutdown', empty) };
