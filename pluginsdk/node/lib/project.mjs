// Runs the handler of a project as Blocks' own tool would: a function (task, ctx) that returns artifacts. What it gets is
// made of what every handler has.

import { bytesOf } from './artifact.mjs';
import { PublicError } from './errors.mjs';
import { log } from './log.mjs';
import { ProjectStream } from './project_stream.mjs';
import { TaskClient } from './task_client.mjs';

const MINUTE = 60_000;

/** The handler of this SDK for a project's function. */
export function handlerOf(run, { name, version }) {
  return {
    name, version,
    async run(task) {
      const [message, context] = argumentsOf(task);
      const result = await run(message, context);
      for (const entry of artifactsOf(result)) await task.send(entry);
    },
  };
}

/** The task and the context that a project's function gets. */
export function argumentsOf(task) {
  const message = messageOf(task);
  return [message, new TaskContext(task, message)];
}

/** The task as the network sent it, without its tokens. */
function messageOf(task) {
  const parts = task.parts.map((part) => part.raw ?? plain({
    partId: part.id || undefined, contentType: part.contentType || undefined, text: part.text,
  }));
  const minutes = task.durationMs === undefined ? undefined : task.durationMs / MINUTE;
  return plain({
    type: 'StartTask', taskId: task.id, agentName: task.agentName, ownerId: task.ownerId, orgId: task.orgId || task.ownerId,
    requestParts: parts, callerClaims: task.callerClaims ?? {}, requestSummary: task.requestSummary ?? {},
    taskKind: task.pipe ? 'pipe' : 'request', duration: minutes,
    durationExpiresAtMs: task.pipe && task.deadline ? task.deadline.getTime() : undefined,
    consumerPublicKey: task.consumerPublicKey, hasStream: task.hasStream,
  });
}

/** An object without the members that are undefined. */
function plain(object) {
  for (const name in object) if (object[name] === undefined) delete object[name];
  return object;
}

/** The artifacts in what a handler returns. What is none is left out, as there. */
export function artifactsOf(result) {
  if (!result || typeof result !== 'object' || !Array.isArray(result.artifacts)) {
    if (typeof result?.next === 'function') log.warn('the handler is a generator, of which nothing has run: return { artifacts } instead of yielding');
    else if (result !== undefined && result !== null) log.warn(`the handler returned ${typeof result === 'object' ? 'an object' : `a ${typeof result}`} without artifacts, so nothing is published`);
    return [];
  }
  return result.artifacts.flatMap((entry) => {
    const data = entry && typeof entry === 'object' ? entry.data : undefined;
    if (data === undefined || data === null || !bytesOf(data)) return [];
    return [artifact(data, entry)];
  });
}

function artifact(data, options = {}) {
  const text = (value) => (typeof value === 'string' && value ? value : undefined);
  return { data, mimeType: text(options.mimeType) ?? 'application/octet-stream', fileName: text(options.fileName), outputId: text(options.outputId) };
}

/** What the handler does with its task. */
export class TaskContext {
  #task;
  #client;
  #streams = new Map();

  constructor(task, message) {
    this.#task = task;
    this.taskId = task.id;
    this.hasStream = task.hasStream;
    this.consumerPublicKey = task.consumerPublicKey;
    this.requestParts = message.requestParts;
  }

  get cancelSignal() {
    return this.#task.signal;
  }

  get isCancelled() {
    return this.#task.signal.aborted;
  }

  get isExpired() {
    return this.#task.signal.aborted && this.#task.signal.reason?.reason === 'expired';
  }

  /** Calls other agents, in the name of the agent's owner. */
  get taskClient() {
    this.#client ??= new TaskClient(this.#task);
    return this.#client;
  }

  reportStatus(text) {
    this.#task.status(text);
  }

  async publishArtifact(data, options) {
    if (!bytesOf(data)) throw new TypeError('the data of an artifact must be a text or bytes');
    await this.#task.publish(artifact(data, options));
  }

  /** The bytes of a part's file, as a buffer that also knows their type and name. */
  async downloadInputArtifact(part) {
    const index = this.#indexOf(part);
    if (index < 0) throw new Error('the part has no file');
    const file = this.#task.fileAt(index);
    const bytes = await file.bytes();
    const about = { data: bytes, mimeType: file.mimeType || 'application/octet-stream', fileName: file.name || undefined, size: bytes.length };
    for (const [name, value] of Object.entries(about)) Object.defineProperty(bytes, name, { value });
    return bytes;
  }

  /** The part itself, else one that looks the same: a handler may have copied it. */
  #indexOf(part) {
    const same = this.requestParts.indexOf(part);
    if (same >= 0) return this.#task.parts[same].file ? same : -1;
    const text = JSON.stringify(part);
    const copy = this.requestParts.findIndex((p, i) => this.#task.parts[i].file && JSON.stringify(p) === text);
    if (copy >= 0) return copy;
    return this.#task.parts.findIndex((p) => p.file && part && typeof part === 'object' && p.id && p.id === part.partId);
  }

  async createStream(options = {}) {
    if (!this.hasStream) throw new PublicError('Streaming was not negotiated for this task.');
    const stream = await ProjectStream.create(this.#task, options);
    // A task that asks for a shared stream again gets the one that it has.
    const known = this.#streams.get(stream.streamId);
    if (known) return known;
    this.#streams.set(stream.streamId, stream);
    stream.activated(options.onActivate);
    return stream;
  }
}
