// One stream of a task: written with back-pressure, read as an async iterator.

import { bytesOf } from './artifact.mjs';
import { duration, parseJSON } from './contract.mjs';
import { HostError } from './errors.mjs';

export const DIRECTIONS = { outbound: 'STREAM_DIRECTION_OUTBOUND', inbound: 'STREAM_DIRECTION_INBOUND', bidirectional: 'STREAM_DIRECTION_BIDIRECTIONAL' };
export const FORMATS = { bytes: 'STREAM_FORMAT_BYTES', events: 'STREAM_FORMAT_EVENTS' };

export const nameOf = (names, value) => Object.keys(names).find((name) => names[name] === value);

function pick(names, value, what) {
  if (value === undefined) return undefined;
  if (!(value in names)) throw new TypeError(`the ${what} of a stream is ${Object.keys(names).join(' or ')}, not ${value}`);
  return names[value];
}

// What one call carries of the items that wait.
const MAX_ITEMS = 256;
const MAX_BYTES = 1 << 20;

export class Stream {
  #host;
  #of; // the members of requests that say which stream it is
  #signal;
  #queue = [];
  #flushing;
  #failure;
  #ended;

  /** calledId is the id of the called task whose stream it is. */
  constructor(host, taskId, made, signal, calledId = undefined) {
    this.#host = host;
    this.#of = { task_id: taskId, stream_id: made.stream_id, called_task_id: calledId };
    this.#signal = signal;
    this.id = made.stream_id;
    this.name = made.declared_stream;
    this.direction = nameOf(DIRECTIONS, made.direction);
    this.format = nameOf(FORMATS, made.format);
    this.shared = Boolean(made.shared);
    this.created = Boolean(made.created);
    /** This task made the stream: no other had it then. */
    this.first = Boolean(made.first);
    this.channel = made.channel;
    this.external = made.external && {
      token: made.external.token,
      publishKey: made.external.publish_key,
      subscribeKey: made.external.subscribe_key,
      origin: made.external.origin,
      expires: made.external.expires && new Date((made.external.expires.seconds ?? 0) * 1000),
    };
    /** Messages that the network has lost so far, of those that were read. */
    this.missed = 0;
    /** Why there is nothing more to read; undefined until then. */
    this.endReason = undefined;
  }

  static async create(host, taskId, options = {}, signal) {
    const made = await host.unary('CreateStream', {
      task_id: taskId,
      declared_stream: options.name ?? '',
      direction: pick(DIRECTIONS, options.direction, 'direction'),
      format: pick(FORMATS, options.format, 'format'),
      metadata_json: options.metadata === undefined ? undefined : Buffer.from(JSON.stringify(options.metadata)),
      external: Boolean(options.external),
      grace: options.graceMs ? duration(options.graceMs) : undefined,
    }, `create the stream ${options.name || '_default'}`, signal);
    return new Stream(host, taskId, made, signal);
  }

  #item(value) {
    const bytes = typeof value === 'string' ? undefined : bytesOf(value);
    if (this.format === 'events') {
      if (bytes) return { event_data: bytes };
      const json = JSON.stringify(value);
      if (json === undefined) throw new TypeError('what is written into a stream of events must be a JSON value');
      return { event_json: Buffer.from(json) };
    }
    if (typeof value === 'string') return { text: value };
    if (bytes) return { data: bytes };
    throw new TypeError('a stream of bytes takes texts and bytes');
  }

  /**
   * Appends a value. It resolves when the daemon has taken it, so a slow network slows whoever waits. Several writes keep
   * their order, waited for or not.
   */
  write(value) {
    let item;
    try {
      if (this.#ended) throw new HostError('write a stream that has ended');
      if (this.#failure) throw this.#failure;
      item = this.#item(value);
    } catch (err) {
      return Promise.reject(err);
    }
    const taken = new Promise((resolve, reject) => this.#queue.push({ item, resolve, reject }));
    this.#pump();
    return taken;
  }

  /** Sends what waits, as few calls as possible, one after the other. */
  #pump() {
    this.#flushing ??= (async () => {
      await undefined; // what is written in one go goes out in one go
      while (this.#queue.length > 0) {
        const batch = this.#batch();
        try {
          await this.#host.unary('WriteStream', { ...this.#of, items: batch.map((w) => w.item) }, `write the stream ${this.name}`);
          for (const w of batch) w.resolve();
        } catch (err) {
          for (const w of batch) w.reject(err);
          if (err.code !== INVALID) { // else only these items could not be sent
            this.#failure = err;
            for (const w of this.#queue.splice(0)) w.reject(err);
          }
        }
      }
      this.#flushing = undefined; // at once: who waited for a write may write again before anything else runs
    })();
  }

  #batch() {
    let size = 0;
    let n = 0;
    for (const { item } of this.#queue) {
      size += (item.text ?? item.data ?? item.event_json ?? item.event_data).length;
      if (n > 0 && (n === MAX_ITEMS || size > MAX_BYTES)) break;
      n += 1;
    }
    return this.#queue.splice(0, n);
  }

  /** Resolves when the daemon has taken, or refused, everything that was written so far. */
  async settled() {
    while (this.#flushing) await this.#flushing;
  }

  /** Resolves when the network has acknowledged everything that was written so far. */
  async flush() {
    await this.settled();
    if (this.#failure) throw this.#failure;
    await this.#host.unary('WriteStream', { ...this.#of, flush: true }, `flush the stream ${this.name}`);
  }

  /** Sends what was written, then ends the stream for this task. To repeat it is harmless. */
  async end() {
    this.#ended = true;
    await this.settled();
    await this.#host.unary('EndStream', { ...this.#of }, `end the stream ${this.name}`);
  }

  /** Fails the stream, and so every task that is attached to it. */
  async fail(reason) {
    this.#ended = true;
    await this.#host.unary('EndStream', { ...this.#of, failure: String(reason || 'failed') }, `fail the stream ${this.name}`);
  }

  /** Announces an external stream, once its writer is ready. */
  async activate(metadata) {
    await this.#host.unary('ActivateStream', {
      task_id: this.#of.task_id, stream_id: this.id, metadata_json: metadata === undefined ? undefined : Buffer.from(JSON.stringify(metadata)),
    }, `activate the stream ${this.name}`);
  }

  /**
   * Yields what the consumer writes: buffers of a stream of bytes, values of a stream of events. One reader at a time. When
   * the task is asked to end it throws the reason.
   */
  async *[Symbol.asyncIterator]() {
    for await (const message of this.#host.stream('ReadStream', { ...this.#of }, `read the stream ${this.name}`, this.#signal)) {
      this.missed += message.gap?.messages ?? 0;
      for (const item of message.items ?? []) yield valueOf(item);
      if (message.end) {
        this.endReason = message.end.reason;
        if (message.end.reason === 'failed' || message.end.reason === 'revoked') {
          throw new HostError(`read the stream ${this.name}: ${message.end.detail || `it was ${message.end.reason}`}`);
        }
        return;
      }
    }
  }
}

/** gRPC's code of an item that can never be sent. */
const INVALID = 3;

function valueOf(item) {
  if (item.text !== undefined) return Buffer.from(item.text, 'utf8');
  if (item.event_json !== undefined && item.event_json.length > 0) return parseJSON(item.event_json);
  return Buffer.from(item.data ?? item.event_data ?? []);
}
