// Tasks that a handler submits to other agents.

import { bytesOf, pieces } from './artifact.mjs';
import { duration, parseJSON } from './contract.mjs';
import { HostError, SaveError, unlessAborted } from './errors.mjs';
import { hostError } from './host.mjs';
import { prepare, reasonOf, safeName, save } from './savedir.mjs';
import { DIRECTIONS, FORMATS, nameOf, Stream } from './stream.mjs';

/** The events that end a task. */
const TERMINAL = 'terminal';

/** gRPC's code of what is over already. */
const FAILED_PRECONDITION = 9;

export class Call {
  #host;
  #owner;
  #call;
  #signal;
  #events = [];
  #streams = [];
  #opened = new Map();
  #over = false;
  #failure;
  #waiting = [];

  constructor(host, owner, call, signal) {
    this.#host = host;
    this.#owner = owner;
    this.#call = call;
    this.#signal = signal;
  }

  /** Submits a task and resolves when the network has it. signal is that of the task which calls. */
  static async submit(host, owner, agentName, parts, options = {}, signal = undefined) {
    const what = `call the agent ${agentName}`;
    const call = new Call(host, owner, host.exchange('CallAgent'), signal);
    const submitted = call.#follow(what);
    submitted.catch(() => {}); // it is awaited below
    options.signal?.addEventListener('abort', () => call.#call.cancel(), { once: true });
    try {
      const requests = requestsOf({
        task_id: owner, agent_name: agentName, parts: parts.map(partOf),
        duration: options.durationMinutes ? duration(options.durationMinutes * 60_000) : undefined,
        idempotency_key: options.idempotencyKey ?? '', owner_id: options.ownerId ?? '', detached: Boolean(options.detached),
        trace_context: options.traceContext ?? {}, stream: Boolean(options.stream),
      }, parts);
      for await (const request of requests) {
        if (!(await call.#call.send(request))) break; // the answer says why
      }
      call.#call.end();
    } catch (err) {
      call.#call.cancel();
      throw hostError(what, err);
    }
    const answer = await submitted;
    call.taskId = answer.task_id;
    call.queued = Boolean(answer.queued);
    call.idempotent = Boolean(answer.idempotent);
    return call;
  }

  /** Keeps what the daemon says, and resolves with its first answer. */
  #follow(what) {
    return new Promise((resolve, reject) => {
      const read = async () => {
        for await (const answer of this.#call) {
          if (answer.submitted) resolve(answer.submitted);
          this.#streams.push(...(answer.streams ?? []).map(announced));
          const event = parseJSON(answer.event_json);
          if (event) this.#events.push(event);
          this.#wake();
        }
      };
      const end = (err) => {
        this.#over = true;
        this.#failure ??= err;
        reject(err ?? new HostError(`${what}: the daemon gave no answer`));
        this.#wake();
      };
      read().then(() => end(), (err) => end(hostError(what, err)));
    });
  }

  #wake() {
    for (const resume of this.#waiting.splice(0)) resume();
  }

  /**
   * Yields every event of the task from its beginning, the terminal last. Several readers each see all of them. Who waits
   * for one when the calling task is asked to end gets the reason thrown.
   */
  [Symbol.asyncIterator]() {
    return this.follow(this.#signal);
  }

  /** The events, until the terminal or until a signal. */
  async *follow(signal) {
    for (let next = 0; ; next += 1) {
      while (next >= this.#events.length) {
        if (this.#over) {
          if (this.#failure) throw this.#failure;
          return;
        }
        await unlessAborted(signal, new Promise((resume) => this.#waiting.push(resume)));
      }
      const event = this.#events[next];
      yield event;
      if (event.type === TERMINAL) return;
    }
  }

  /** The streams that the called task has announced so far. */
  streams() {
    return [...this.#streams];
  }

  /** How the called task ended, undefined while it runs. */
  get terminal() {
    return this.#events.findLast((event) => event.type === TERMINAL);
  }

  /** Resolves when there are more streams than so many, with false when there will be none. */
  async moreStreams(than, signal = this.#signal) {
    while (this.#streams.length <= than) {
      if (this.terminal || (this.#over && !this.#failure)) return false;
      if (this.#failure) throw this.#failure;
      await unlessAborted(signal, new Promise((resume) => this.#waiting.push(resume)));
    }
    return true;
  }

  /**
   * Waits until the called task has announced a stream, and opens it: the one with this key in the card or this id, or the
   * only one. A request task has streams only if it was called with the option stream.
   */
  async stream(name = '', { signal } = {}) {
    for (;;) {
      const known = this.#streams;
      const found = name ? known.filter((s) => s.name === name) : known;
      if (name && found.length === 0) found.push(...known.filter((s) => s.id === name));
      if (!name && found.length > 1) {
        throw new Error(`the called task ${this.taskId} has several streams: name one of ${found.map((s) => s.name || s.id).join(', ')}`);
      }
      if (found.length > 0) return this.open(found[0].id);
      if (!(await this.moreStreams(known.length, this.#either(signal)))) {
        throw new Error(`the called task ${this.taskId} has ended without ${name ? `the stream ${name}` : 'a stream'}`);
      }
    }
  }

  /** A signal of the caller's own, and that of the calling task. */
  #either(signal) {
    return signal && this.#signal ? AbortSignal.any([signal, this.#signal]) : (signal ?? this.#signal);
  }

  /**
   * Waits for the first stream for which fits returns true, or a promise of it, and opens it. fits is called once for each
   * stream, in the order of their announcements.
   */
  async streamWhere(fits, { signal } = {}) {
    const either = this.#either(signal);
    for (let seen = 0; await this.moreStreams(seen, either); seen += 1) {
      if (await fits({ ...this.#streams[seen] })) return this.open(this.#streams[seen].id);
    }
    throw new Error(`the called task ${this.taskId} has ended without a stream that fits`);
  }

  /**
   * Opens each stream that can be read as it is announced, and yields it, until the called task has ended. Those that are over
   * before they could be opened are left out.
   */
  async *openAll({ signal } = {}) {
    const either = this.#either(signal);
    for (let seen = 0; await this.moreStreams(seen, either); seen += 1) {
      const { id, direction } = this.#streams[seen];
      if (direction === 'outbound') continue;
      const stream = await this.open(id).catch((err) => {
        if (err.code !== FAILED_PRECONDITION) throw err;
      });
      if (stream) yield stream;
    }
  }

  /** Opens a stream by its id, once. */
  open(id) {
    const opening = this.#opened.get(id) ?? this.#host.unary('OpenCallStream', {
      task_id: this.#owner, called_task_id: this.taskId, stream_id: id,
    }, `open the stream ${id} of the called task ${this.taskId}`).then(({ stream }) => new Stream(this.#host, this.#owner, stream, this.#signal, this.taskId));
    this.#opened.set(id, opening);
    opening.catch(() => this.#opened.delete(id)); // it may be tried again
    return opening;
  }

  /** Resolves with the terminal event. */
  async result() {
    for await (const event of this) if (event.type === TERMINAL) return event;
    throw new HostError(`task ${this.taskId} has no end: the daemon is gone`);
  }

  /** The artifact events that have come so far, in the order of the numbers that the daemon has for them. */
  artifacts() {
    return this.#events.filter((event) => event.type === 'artifact' && event.artifactRef && typeof event.artifactRef === 'object');
  }

  /** The bytes of the artifact with an index among the artifact events. */
  async download(index) {
    let info = {};
    const data = [];
    for await (const message of this.#messages(index)) {
      info = message.info ?? info;
      if (message.data) data.push(message.data);
    }
    return { data: Buffer.concat(data), mimeType: info.mime_type ?? '', fileName: info.file_name ?? '', outputId: info.output_id ?? '' };
  }

  #messages(index, signal) {
    return this.#host.stream('DownloadCallArtifact', {
      task_id: this.#owner, called_task_id: this.taskId, artifact_index: index,
    }, `download artifact ${index} of task ${this.taskId}`, signal);
  }

  async *#pieces(index, signal) {
    for await (const { data } of this.#messages(index, signal)) if (data) yield data;
  }

  /**
   * Saves the artifacts that have come so far as files in a directory, which is created if needed, and resolves with their
   * paths in that order. Only the last element of a file name counts, so nothing is written elsewhere; no name begins with a
   * dot or a dash, the extension of the media type is added to a name that has none, and a name that is taken gets a number. A
   * file has its name only when it is complete. Fails with a SaveError, which has the paths so far.
   */
  async save(directory, { signal } = {}) {
    const paths = [];
    try {
      await prepare(directory);
      for (const [index, { artifactRef }] of this.artifacts().entries()) {
        signal?.throwIfAborted();
        const name = safeName(String(artifactRef.fileName ?? ''), String(artifactRef.mimeType ?? ''), index);
        paths.push(await save(directory, name, this.#pieces(index, signal)));
      }
    } catch (err) {
      throw new SaveError(`save the artifacts of the called task ${this.taskId} in ${directory}: ${reasonOf(err)}`, paths, err);
    }
    return paths;
  }

  /** cancel, terminate, pause, resume or retry. */
  async control(verb) {
    await this.#host.unary('ControlCall', { task_id: this.#owner, called_task_id: this.taskId, verb }, `${verb} the task ${this.taskId}`);
  }

  cancel() {
    return this.control('cancel');
  }

  /** Follows the task no longer, which cancels it unless it is detached. */
  close() {
    this.#call.cancel();
  }
}

/** The requests of a call: what is asked for, then the bytes of the files. */
async function* requestsOf(call, parts) {
  yield { call };
  for (const [index, part] of parts.entries()) {
    if (part.file === undefined) continue;
    const whole = bytesOf(part.file);
    for await (const data of pieces(whole ? [whole] : part.file)) yield { part_index: index, data };
  }
}

/** A stream of a called task, with its direction as it is here. */
function announced(stream) {
  return {
    id: stream.stream_id, name: stream.declared_stream ?? '', direction: nameOf(DIRECTIONS, stream.direction),
    format: nameOf(FORMATS, stream.format), shared: Boolean(stream.shared), metadata: parseJSON(stream.metadata_json),
  };
}

function partOf(part) {
  const common = { part_id: part.id ?? '', content_type: part.contentType ?? '' };
  if (part.file === undefined) return { ...common, text: part.text ?? '' };
  const size = bytesOf(part.file)?.length ?? 0;
  return { ...common, file: { name: part.fileName ?? '', mime_type: part.contentType ?? '', size } };
}
