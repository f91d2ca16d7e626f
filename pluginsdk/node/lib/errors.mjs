import { inspect } from 'node:util';

/** An error whose text the consumer sees, while its cause goes only to the daemon's log. */
export class PublicError extends Error {
  constructor(text, cause) {
    super(text, { cause });
    this.name = 'PublicError';
  }
}

/** Why a task is to end: user, expired, terminated, deadline, drain, shutdown, or ended when the daemon is gone. */
export class CanceledError extends Error {
  constructor(reason) {
    super(`the task was asked to end (${reason})`);
    this.name = 'AbortError';
    this.code = 'ABORT_ERR';
    this.reason = reason;
  }
}

/** The task has ended, so nothing can be published for it any more. */
export class TaskEndedError extends Error {
  constructor() {
    super('the task has ended');
    this.name = 'TaskEndedError';
  }
}

/** A call of the daemon's host service has failed. */
export class HostError extends Error {
  constructor(text, code) {
    super(text);
    this.name = 'HostError';
    this.code = code;
  }
}

/** Not all artifacts of a called task could be saved. paths are those of the complete files. */
export class SaveError extends Error {
  constructor(text, paths, cause) {
    super(text, { cause });
    this.name = 'SaveError';
    this.paths = paths;
  }
}

/** What a promise brings, or the reason of the signal if that comes first. */
export async function unlessAborted(signal, promise) {
  if (!signal) return promise;
  let stop;
  const aborted = new Promise((_, reject) => {
    stop = () => reject(signal.reason);
    signal.addEventListener('abort', stop, { once: true });
    if (signal.aborted) stop();
  });
  try {
    return await Promise.race([promise, aborted]);
  } finally {
    signal.removeEventListener('abort', stop);
  }
}

const MAX_TEXT = 8 << 10;

/** A text that a message can carry: at most 8 KiB, not cut inside of a character. */
export function cut(text) {
  text = String(text).toWellFormed?.() ?? String(text);
  const bytes = Buffer.from(text, 'utf8');
  if (bytes.length <= MAX_TEXT) return text;
  let end = MAX_TEXT - Buffer.byteLength('…');
  while (end > 0 && (bytes[end] & 0xc0) === 0x80) end -= 1;
  return bytes.subarray(0, end).toString('utf8') + '…';
}

/** What the consumer sees of an error, and what the log gets beside it. */
export function textsOf(err) {
  const stack = err instanceof Error ? (err.stack ?? '') : '';
  if (err instanceof PublicError) {
    const cause = err.cause instanceof Error ? (err.cause.stack ?? String(err.cause)) : String(err.cause ?? '');
    return { public_message: cut(err.message), private_message: cut(cause || stack) };
  }
  const text = err instanceof Error ? err.message : err !== null && typeof err === 'object' ? inspect(err, { breakLength: Infinity }) : String(err);
  return { public_message: cut(text || `The handler failed with an error without a text (${err?.name ?? typeof err}).`), private_message: cut(stack) };
}
