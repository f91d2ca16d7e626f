// The stream object of a project's handler.

import { Readable } from 'node:stream';

import { log } from './log.mjs';

/** How long the consumer gets to open a stream that is written, where the handler does not say. */
const GRACE_MS = 1000;

// Values that the SDK has by default, and that therefore do not contradict the card.
const DEFAULT_DIRECTION = 'outbound';
const DEFAULT_FORMAT = 'bytes';

export class ProjectStream {
  #stream;
  #task;
  #active = true;
  #onEnd = [];
  #onError = [];

  constructor(task, stream) {
    this.#task = task;
    this.#stream = stream;
    this.streamId = stream.id;
    this.channel = stream.channel;
    this.external = stream.external !== undefined;
    this.uuid = `${task.agentName}-${stream.id}`;
    this.direction = stream.direction;
    this.format = stream.format;
    this.declaredStream = stream.name;
    if (stream.external) this.token = stream.external.token;
  }

  static async create(task, options) {
    const unlessDefault = (value, usual) => (value === usual ? undefined : value);
    return new ProjectStream(task, await task.createStream({
      name: options.declaredStream === '_default' ? undefined : options.declaredStream,
      direction: unlessDefault(options.direction, DEFAULT_DIRECTION),
      format: unlessDefault(options.format, DEFAULT_FORMAT),
      metadata: options.metadata, external: options.external,
      graceMs: options.direction === 'inbound' ? 0 : (options.subscribeGraceMs ?? GRACE_MS),
    }));
  }

  /** Runs what the handler wants to be done with the stream, beside it. */
  activated(callback) {
    if (!callback || !this.#stream.first) return; // the task that made the stream has called it
    Promise.resolve().then(() => callback(this)).catch(async (err) => {
      log.error('onActivate of a stream failed', { task: this.#task.id, stream: this.streamId, error: err?.stack ?? String(err) });
      this.#active = false;
      await this.#stream.fail('stream_crashed').catch(() => {});
    });
  }

  get isActive() {
    return this.#active && !this.#task.signal.aborted;
  }

  #check() {
    if (this.external) throw new Error('an external stream is read and written by another process');
  }

  /** Appends a value. Nobody has to wait for what it returns; who does is slowed by a slow network. */
  write(data) {
    this.#check();
    if (this.direction === 'inbound') throw new Error('Cannot write to an inbound stream');
    if (!this.#active) throw new Error('Cannot write to an ended stream');
    const taken = this.#stream.write(data);
    taken.catch((err) => this.#failed(err));
    return taken;
  }

  #failed(err) {
    const failure = { category: 'other', error: err, channel: this.channel, timestamp: Date.now(), fatal: true };
    if (!this.#active) return;
    this.#finish();
    if (this.#onError.length === 0) log.warn('a stream failed', { task: this.#task.id, stream: this.streamId, error: err.message });
    for (const callback of this.#onError) attempt(() => callback(failure));
  }

  #finish() {
    this.#active = false;
    for (const callback of this.#onEnd.splice(0)) attempt(callback);
  }

  async end() {
    if (!this.#active) return;
    this.#finish();
    if (!this.external) await this.#stream.end();
  }

  async activate(options = {}) {
    if (!this.external) throw new Error('only an external stream is activated');
    await this.#stream.activate(options.metadata);
  }

  onEnd(callback) {
    this.#onEnd.push(callback);
  }

  onError(callback) {
    this.#onError.push(callback);
  }

  /**
   * What the consumer writes; it ends without an error when the stream is revoked or fails, which onError hears, and when
   * the task is asked to end, so that the handler goes on.
   */
  async *#read() {
    this.#check();
    if (this.direction === 'outbound') throw new Error('an outbound stream cannot be read');
    try {
      yield* this.#stream;
    } catch (err) {
      if (!this.#task.signal.aborted) this.#failed(err);
    }
  }

  async *bytes() {
    yield* this.#read();
  }

  async *events() {
    yield* this.#read();
  }

  /** What the consumer writes, each value as a message of its own. */
  get inbound() {
    const read = () => this.#read();
    const format = this.format;
    return (async function* () {
      let seq = format === 'events' ? 1 : 0;
      for await (const value of read()) {
        const data = format === 'bytes' ? value.toString('base64') : value;
        yield { data: [data], seq, ts: Date.now(), format, encoding: format === 'bytes' ? 'base64' : 'utf8' };
        seq += 1;
      }
    })();
  }

  async readable() {
    return Readable.from(this.bytes());
  }
}

function attempt(callback) {
  try {
    callback();
  } catch (err) {
    log.warn('a callback of a stream failed', { error: err?.stack ?? String(err) });
  }
}
