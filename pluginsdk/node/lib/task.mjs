// One unit of work.

import { chunks } from './artifact.mjs';
import { Call } from './call.mjs';
import { milliseconds, parseJSON } from './contract.mjs';
import { cut, TaskEndedError } from './errors.mjs';
import { logger } from './log.mjs';
import { Stream } from './stream.mjs';

const same = (message) => message;

export class Task {
  #host;
  #send;
  #sent = 0;
  #ended = false;
  #final = false;
  #streams = [];
  #sending; // what is on its way, undefined for nothing
  #cancellation;
  #log;
  #over; // ends the wait of a pipe task
  #outcome; // how it has ended itself

  /** send takes one response of the task; it returns a promise if there is no room for the next one yet. */
  constructor(t, host, cancellation, send) {
    this.#host = host;
    this.#cancellation = cancellation;
    this.#send = send;
    this.id = t.task_id;
    this.agentName = t.agent_name ?? '';
    this.pipe = t.kind === 'TASK_KIND_PIPE';
    this.durationMs = milliseconds(t.duration);
    this.parts = (t.parts ?? []).map(partOf);
    this.ownerId = t.owner_id ?? '';
    this.orgId = t.org_id ?? '';
    this.callerClaims = parseJSON(t.caller_claims_json);
    this.requestSummary = parseJSON(t.request_summary_json);
    this.deadline = t.deadline && new Date((t.deadline.seconds ?? 0) * 1000 + (t.deadline.nanos ?? 0) / 1e6);
    this.hasStream = Boolean(t.has_stream);
    this.consumerPublicKey = t.consumer_public_key || undefined;
    this.traceContext = t.trace_context ?? {};
  }

  /** Aborted when the task is asked to end. */
  get signal() {
    return this.#cancellation.signal;
  }

  /** Records with the task's id. */
  get log() {
    this.#log ??= logger({ task: this.id });
    return this.#log;
  }

  /** The text of the first part called id that has one. */
  text(id) {
    return this.parts.find((p) => p.id === id && p.text !== undefined)?.text;
  }

  /** The text of the part called id, as the JSON value that it is. The errors are meant for the consumer. */
  json(id) {
    const text = this.text(id);
    if (text === undefined) throw new Error(`the input ${JSON.stringify(id)} is missing`);
    try {
      return JSON.parse(text);
    } catch (err) {
      throw new Error(`the input ${JSON.stringify(id)} is not the JSON document that was expected: ${err.message}`);
    }
  }

  /** The file of the first part called id that has one. It can be read again and again. */
  file(id) {
    const index = this.parts.findIndex((p) => p.id === id && p.file);
    if (index < 0) throw new Error(`the input ${JSON.stringify(id)} has no file`);
    return this.fileAt(index);
  }

  /** The file of the part with an index: ids need not be unique. */
  fileAt(index) {
    const announced = this.parts[index]?.file;
    if (!announced) throw new Error(`input number ${index + 1} has no file`);
    return new InputFile(this.#host, this.id, index, announced);
  }

  /** Shows a text to the consumer: at most one a second, the latest. */
  status(text) {
    if (!this.#ended) this.#respond([{ status: cut(text) }], same).catch(() => {}); // a status that cannot be sent is not missed
  }

  /** Publishes an artifact in order with statuses and other artifacts. The task fails if that is not possible. */
  async send(artifact) {
    if (this.#ended) throw new TaskEndedError();
    await this.#respond(chunks(artifact), (chunk) => ({ artifact: chunk }));
  }

  /** Publishes an artifact while the task goes on, and resolves when the network has it. */
  async publish(artifact) {
    const id = this.id;
    await this.#sending;
    const after = this.#sent;
    const requests = (async function* () {
      let head = { task_id: id, after_responses: after };
      for await (const chunk of chunks(artifact)) {
        yield { ...head, chunk };
        head = {};
      }
    })();
    await this.#host.upload('PublishArtifact', requests, 'publish an artifact');
  }

  /** Sets up a stream to or from the consumer. */
  async createStream(options) {
    const stream = await Stream.create(this.#host, this.id, options, this.signal);
    this.#streams.push(stream);
    return stream;
  }

  /** Submits a task to another agent. */
  call(agentName, parts, options) {
    return Call.submit(this.#host, this.id, agentName, typeof parts === 'string' ? [{ id: 'request', text: parts }] : parts, options, this.signal);
  }

  /**
   * A pipe task is over when run returns. Otherwise it goes on, with its statuses, streams and calls, until its time is over,
   * somebody ends it, or end is called.
   */
  complete() {
    this.#final = true;
  }

  /** Ends a pipe task as soon as run has returned: completed, or failed with an error. */
  async end(error) {
    if (!this.pipe) throw new Error('only a pipe task can be ended so: another one ends when its handler returns');
    if (this.#ended) throw new TaskEndedError();
    this.#outcome ??= { error };
    this.#final = true;
    this.#over?.();
  }

  /** Waits for the end of a pipe task whose handler has returned. Throws the error that it ends with. */
  async goOn() {
    if (this.pipe && !this.#final) {
      await new Promise((resolve) => {
        this.#over = resolve;
        this.signal.addEventListener('abort', resolve, { once: true });
        if (this.signal.aborted) resolve();
      });
    }
    if (this.#outcome?.error) throw this.#outcome.error;
  }

  /** The last message of a task that succeeded. */
  get result() {
    return { final: this.#final };
  }

  /** The messages of one artifact stay together, behind what is on its way. */
  async #respond(parts, messageOf) {
    if (!this.#sending && Array.isArray(parts)) {
      const room = this.#send(messageOf(parts[0]));
      this.#sent += 1;
      return room && this.#track(room);
    }
    return this.#track((async (before) => {
      await before;
      for await (const part of parts) {
        await this.#send(messageOf(part));
        this.#sent += 1;
      }
    })(this.#sending));
  }

  #track(turn) {
    const over = turn.then(() => {}, () => {}).then(() => {
      if (this.#sending === over) this.#sending = undefined;
    });
    this.#sending = over;
    return turn;
  }

  /** Makes every later response fail, and waits for those that are on their way. */
  async close() {
    this.#ended = true;
    if (this.#sending) await this.#sending;
    if (this.#streams.length > 0) await Promise.all(this.#streams.map((stream) => stream.settled()));
  }
}

function partOf(p) {
  return {
    id: p.part_id ?? '',
    contentType: p.content_type ?? '',
    text: p.text,
    file: p.file && { name: p.file.name ?? '', mimeType: p.file.mime_type ?? '', size: p.file.size ?? 0 },
    raw: parseJSON(p.raw_json),
  };
}

/** A file of an input, as its sender announced it. The name is the sender's choice: never use it as a path unchecked. */
class InputFile {
  #host;
  #taskId;
  #index;

  constructor(host, taskId, index, announced) {
    this.#host = host;
    this.#taskId = taskId;
    this.#index = index;
    Object.assign(this, announced);
  }

  /** Yields the bytes in pieces. */
  async *[Symbol.asyncIterator]() {
    const request = { task_id: this.#taskId, part_index: this.#index };
    for await (const message of this.#host.stream('DownloadInput', request, `download input number ${this.#index + 1}`)) {
      if (message.data?.length) yield message.data;
    }
  }

  async bytes() {
    const all = [];
    for await (const piece of this) all.push(piece);
    return Buffer.concat(all);
  }
}
