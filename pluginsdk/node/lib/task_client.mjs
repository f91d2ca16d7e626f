// ctx.taskClient of a project's handler: tasks for other agents, and the session of each.

import { mkdir, writeFile } from 'node:fs/promises';
import path from 'node:path';

import { bytesOf } from './artifact.mjs';
import { StreamRef } from './called_streams.mjs';
import { unlessAborted } from './errors.mjs';
import { log } from './log.mjs';

const TERMINAL = 'terminal';

export class TaskClient {
  #task;

  constructor(task) {
    this.#task = task;
  }

  /** A client of one's own needs an API key, which a handler does not get. */
  static async create() {
    throw new Error('a handler has no API key of its own: use ctx.taskClient');
  }

  async sendMessage(params) {
    const { agentName, requestParts, taskKind, duration } = params ?? {};
    if (!agentName) throw new TypeError('sendMessage needs agentName');
    const minutes = taskKind === 'pipe' ? duration : undefined;
    if (taskKind === 'pipe' && !(Number.isInteger(duration) && duration >= 1 && duration <= 43200)) {
      throw new RangeError('a pipe task needs a duration of 1 to 43200 whole minutes');
    }
    if (taskKind !== 'pipe' && duration !== undefined && duration !== null) throw new RangeError('only a pipe task has a duration');
    const call = await this.#task.call(agentName, (requestParts ?? []).map(partOf), {
      detached: true, // it goes on when this task ends, as with Blocks' own client; cancel ends it
      durationMinutes: minutes, idempotencyKey: params.idempotencyKey, ownerId: params.ownerId, stream: params.stream,
    });
    return new TaskSession(call, params.ownerId ?? this.#task.ownerId, { id: this.#task.id, agentName, signal: this.#task.signal });
  }

  getUserId() {
    return this.#task.ownerId;
  }

  async connect() {
    throw new Error('blocksd lets a handler follow only the tasks that it has submitted itself');
  }

  destroy() {}

  [Symbol.dispose ?? Symbol.for('dispose')]() {}
}

/** One part as the caller wrote it: a text, an object of ours or a plain one. */
function partOf(part) {
  if (typeof part === 'string') return { id: 'request', text: part };
  const id = part?.partId ?? part?.part_id ?? '';
  const contentType = part?.contentType ?? '';
  const file = part?.file;
  if (file === undefined || file === null) {
    const text = part?.text ?? JSON.stringify(part);
    return { id, contentType, text: String(text) };
  }
  return { id, contentType, file: bytesOf(file) ?? file, fileName: part.fileName ?? part.file_name ?? 'unnamed' };
}

export class TaskSession {
  #call;
  #caller;
  #callbacks = { event: [], progress: [], artifact: [], terminal: [], cancel_requested: [], stream: [], error: [] };
  #refs = [];
  #artifacts = [];
  #events = [];
  #terminal;
  #canceling;
  #closed = false;
  #failure;
  #waiting = new Set();

  /** caller is the calling task: its id and signal, and the name of the agent that it has called. */
  constructor(call, ownerId, caller) {
    this.#call = call;
    this.#caller = caller;
    this.taskId = call.taskId;
    this.ownerId = ownerId;
    this.queued = call.queued;
    this.idempotent = call.idempotent;
    this.state = undefined;
    this.#follow();
  }

  async #follow() {
    try {
      for await (const event of this.#call.follow()) {
        if (this.#closed) return;
        this.#take(event);
      }
      if (!this.#terminal) throw new Error(`the task ${this.taskId} has no end: the daemon is gone`);
    } catch (err) {
      if (this.#closed) return;
      this.#failure = err;
      for (const waiter of [...this.#waiting]) waiter();
    }
  }

  #take(event) {
    this.#events.push(event);
    this.#say('event', event);
    switch (event.type) {
      case 'artifact':
        if (event.artifactRef && typeof event.artifactRef === 'object') this.#artifacts.push(event);
        break;
      case 'cancel_requested':
        this.#canceling ??= event;
        break;
      case TERMINAL:
        this.#terminal = event;
        this.state = event.state;
        break;
    }
    if (!['error', 'event', 'stream'].includes(event.type)) this.#say(event.type, event);
    const fresh = this.#newStreams();
    for (const ref of fresh) this.#say('stream', ref);
    if (fresh.length > 0 || event.type === TERMINAL) for (const waiter of [...this.#waiting]) waiter();
  }

  #say(kind, event) {
    for (const callback of this.#callbacks[kind] ?? []) this.#attempt(kind, callback, event);
  }

  #attempt(kind, callback, event) {
    const failed = (error) => this.#failed(kind, error, event);
    try {
      Promise.resolve(callback(event)).catch(failed);
    } catch (err) {
      failed(err);
    }
  }

  #failed(kind, error, event) {
    const about = { entryPoint: 'taskSession', callbackType: kind, event };
    if (this.#callbacks.error.length === 0) log.warn('a callback of a task session failed', { task: this.taskId, error: error?.stack ?? String(error) });
    for (const report of this.#callbacks.error) {
      try {
        report(error, about);
      } catch {
        // there is nobody left to tell
      }
    }
  }

  /** Calls back for what comes, after what has come already. */
  #on(kind, callback, earlier = []) {
    this.#callbacks[kind].push(callback);
    for (const event of earlier) this.#attempt(kind, callback, event);
    return () => {
      this.#callbacks[kind] = this.#callbacks[kind].filter((other) => other !== callback);
    };
  }

  onEvent(callback) {
    return this.#on('event', callback);
  }

  onProgress(callback) {
    return this.#on('progress', callback);
  }

  onArtifact(callback) {
    return this.#on('artifact', callback, [...this.#artifacts]);
  }

  onTerminal(callback) {
    return this.#on(TERMINAL, callback, this.#terminal ? [this.#terminal] : []);
  }

  onCancelRequested(callback) {
    return this.#on('cancel_requested', callback, this.#canceling && !this.#terminal ? [this.#canceling] : []);
  }

  onError(callback) {
    return this.#on('error', callback);
  }

  #newStreams() {
    const fresh = this.#call.streams().slice(this.#refs.length).map((announced) => new StreamRef(this.#call, this.#caller, announced));
    this.#refs.push(...fresh);
    return fresh;
  }

  onStream(callback) {
    return this.#on('stream', callback, this.#refs);
  }

  listStreams() {
    return [...this.#refs];
  }

  /** Opens what can be read; what cannot be opened is left out. */
  openAllStreams() {
    return this.#refs.flatMap((ref) => {
      if (ref.descriptor.localDirection === 'outbound') return [];
      try {
        return [ref.open()];
      } catch {
        return [];
      }
    });
  }

  /** By its id, or the key in the agent's card; without either the only one, or the first that comes. */
  waitForStream(streamId, timeoutMs) {
    return this.#streamThat(`the stream ${streamId ?? ''}`.trimEnd(), timeoutMs, (refs) => {
      if (streamId === undefined || streamId === null) {
        if (refs.length > 1) throw new Error(`the task ${this.taskId} has several streams: say which one`);
        return refs[0];
      }
      return refs.find((ref) => ref.descriptor.streamId === streamId) ?? refs.find((ref) => ref.descriptor.declaredStream === streamId);
    });
  }

  waitForStreamWhere(predicate, timeoutMs) {
    let tried = 0;
    return this.#streamThat('a stream that fits', timeoutMs, (refs) => refs.slice(tried).find((ref) => {
      tried += 1;
      try {
        return predicate(ref);
      } catch (err) {
        this.#failed('streamPredicate', err, ref);
        return false;
      }
    }));
  }

  /** Waits for the stream that find finds. */
  #streamThat(what, timeoutMs, find) {
    return unlessAborted(this.#caller.signal, new Promise((resolve, reject) => {
      let timer;
      const settle = (end, value) => {
        clearTimeout(timer);
        this.#waiting.delete(look);
        end(value);
      };
      const look = () => {
        if (this.#closed) return settle(reject, new Error('session closed'));
        let found;
        try {
          found = find(this.#refs);
        } catch (err) {
          return settle(reject, err);
        }
        if (found) return settle(resolve, found);
        if (this.#failure) return settle(reject, this.#failure);
        if (this.#terminal) return settle(reject, new Error(`the task ${this.taskId} has ended without ${what}`));
        return undefined;
      };
      this.#waiting.add(look);
      if (timeoutMs !== undefined) {
        timer = setTimeout(() => settle(reject, new Error(`the task ${this.taskId} has not announced ${what} within ${timeoutMs} ms`)), timeoutMs);
      }
      look();
    }));
  }

  /** Resolves with the terminal event, or fails: after a time in milliseconds, or when the calling task is asked to end. */
  waitForTerminal(timeoutMs) {
    return unlessAborted(this.#terminal ? undefined : this.#caller.signal, this.#terminalWithin(timeoutMs));
  }

  #terminalWithin(timeoutMs) {
    return new Promise((resolve, reject) => {
      let timer;
      const look = () => {
        if (!this.#terminal && !this.#failure && !this.#closed) return;
        clearTimeout(timer);
        this.#waiting.delete(look);
        if (this.#terminal) resolve(this.#terminal);
        else reject(this.#failure ?? new Error('session closed'));
      };
      this.#waiting.add(look);
      if (timeoutMs !== undefined) {
        timer = setTimeout(() => {
          this.#waiting.delete(look);
          reject(new Error(`task ${this.taskId} did not end within ${timeoutMs} ms`));
        }, timeoutMs);
      }
      look();
    });
  }

  get isClosed() {
    return this.#closed;
  }

  listEvents() {
    return [...this.#events];
  }

  listArtifacts() {
    return this.#artifacts.map((event) => event.artifactRef);
  }

  async downloadArtifact(ref) {
    if (ref?.kind === 'inline' || (ref && ref.kind === undefined)) {
      return plain({ data: new Uint8Array(Buffer.from(ref.data ?? '', 'base64')), mimeType: ref.mimeType ?? 'application/octet-stream', fileName: ref.fileName });
    }
    const index = this.#call.artifacts().findIndex((event) => event.artifactRef === ref || JSON.stringify(event.artifactRef) === JSON.stringify(ref));
    if (index < 0) throw new Error('the artifact is none of this task');
    const { data, mimeType, fileName } = await this.#call.download(index);
    return plain({ data: new Uint8Array(data), mimeType: mimeType || ref.mimeType, fileName: fileName || ref.fileName });
  }

  /** Writes all artifacts into a directory, and returns the paths. */
  async saveArtifacts(directory) {
    await mkdir(directory, { recursive: true });
    const paths = [];
    for (const [index, ref] of this.listArtifacts().entries()) {
      const { data, fileName } = await this.downloadArtifact(ref);
      const base = path.basename(fileName ?? '');
      const to = path.join(directory, base && base !== '.' && base !== '..' ? base : `artifact-${index}`);
      await writeFile(to, data);
      paths.push(to);
    }
    return paths;
  }

  async cancel() {
    await this.#call.control('cancel');
  }

  async terminate() {
    await this.#call.control('terminate');
  }

  /** Follows the task no longer, and ends its streams on this side. */
  close() {
    this.asyncClose().catch(() => {});
  }

  /** The same, and resolves when what was written into them is on its way. */
  async asyncClose() {
    if (this.#closed) return;
    this.#closed = true;
    for (const waiter of [...this.#waiting]) waiter();
    for (const kind of Object.keys(this.#callbacks)) this.#callbacks[kind] = [];
    const ends = this.#refs.filter((ref) => ref.isOpen).map((ref) => ref.end());
    if (ends.length > 0) await Promise.allSettled(ends);
    this.#call.close();
  }

  async [Symbol.asyncDispose ?? Symbol.for('asyncDispose')]() {
    await this.asyncClose();
  }
}

function plain(object) {
  return Object.fromEntries(Object.entries(object).filter(([, value]) => value !== undefined));
}
