// Streams of a called task, as the session of a project's handler has them.

import { ProjectStream } from './project_stream.mjs';

const OPPOSITE = { inbound: 'outbound', outbound: 'inbound' };

/** A stream that cannot be opened, because its task has ended. */
export class StreamUnavailableError extends Error {
  constructor(message, details) {
    super(message);
    this.name = 'StreamUnavailableError';
    Object.assign(this, details);
  }
}

/** A stream that was announced, opened or not. */
export class StreamRef {
  #call;
  #caller;
  #opened;

  /** caller has the id of the calling task and the signal that ends it. */
  constructor(call, caller, announced) {
    this.#call = call;
    this.#caller = caller;
    this.descriptor = {
      taskId: call.taskId, streamId: announced.id, agentName: caller.agentName, channel: '', token: '',
      agentDirection: OPPOSITE[announced.direction] ?? announced.direction, localDirection: announced.direction,
      format: announced.format, affinity: announced.shared ? 'shared' : 'dedicated', metadata: announced.metadata,
      declaredStream: announced.name || undefined,
    };
  }

  get isOpen() {
    return Boolean(this.#opened?.isActive);
  }

  /** The stream, the same one each time. What it is opened for may be asked of it at once. */
  open() {
    const { taskId, streamId, declaredStream } = this.descriptor;
    if (this.#opened) {
      if (!this.#opened.isActive) throw new Error(`the stream ${streamId} was opened and has ended already`);
      return this.#opened;
    }
    const state = this.#call.terminal?.state;
    if (state) {
      throw new StreamUnavailableError(
        `the stream ${declaredStream ?? streamId} of the task ${taskId} cannot be opened, because the task is ${state}: its artifacts and its state are still there`,
        { taskId, streamId, declaredStream, terminalState: state },
      );
    }
    const opening = this.#call.open(streamId);
    opening.catch(() => {}); // whoever uses the stream hears of it
    this.#opened = new ProjectStream(this.#caller, new Opening(this.descriptor, opening));
    return this.#opened;
  }

  /** Ends the stream on this side, if it was opened. */
  async end() {
    await this.#opened?.end();
  }
}

/** A stream that is being opened: what it is asked for waits until it is. */
class Opening {
  #stream;

  constructor({ streamId, declaredStream, localDirection, format }, stream) {
    this.#stream = stream;
    this.id = streamId;
    this.name = declaredStream ?? '';
    this.direction = localDirection;
    this.format = format;
    this.channel = '';
  }

  async write(value) {
    await (await this.#stream).write(value);
  }

  async end() {
    await (await this.#stream).end();
  }

  async *[Symbol.asyncIterator]() {
    yield* await this.#stream;
  }
}
