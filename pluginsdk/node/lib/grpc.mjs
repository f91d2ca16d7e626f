// gRPC on the HTTP/2 that Node.js has, as far as the contract needs it: calls that this process answers, and calls that it
// makes, over Unix sockets.

import http2 from 'node:http2';
import net from 'node:net';

import { MAX_MESSAGE } from './contract.mjs';

/** The statuses of gRPC that are used here. */
export const STATUS = {
  OK: 0, CANCELLED: 1, UNKNOWN: 2, INVALID_ARGUMENT: 3, NOT_FOUND: 5, ALREADY_EXISTS: 6, RESOURCE_EXHAUSTED: 8, UNIMPLEMENTED: 12,
  INTERNAL: 13, UNAVAILABLE: 14,
};

// What may come on one stream before it is read, and on all together: a stream that nobody reads must not hold up others.
const STREAM_WINDOW = 1 << 20;
const SESSION_WINDOW = 1 << 30;
// The daemon bounds what it sends. What Node.js bounds by itself, in megabytes, is less than one large message.
const SESSION = { maxSessionMemory: 1 << 20, settings: { initialWindowSize: STREAM_WINDOW } };

// Answers up to so many bytes wait for others that are made at the same time.
const HELD = 16 << 10;

const ANSWER = { ':status': 200, 'content-type': 'application/grpc' };
const TRAILERS = { waitForTrailers: true };

/** A call that ended with a status other than OK. */
export class RpcError extends Error {
  constructor(code, details) {
    super(details);
    this.name = 'RpcError';
    this.code = code;
    this.details = details;
  }
}

function framed(message) {
  if (message.length > MAX_MESSAGE) throw new RpcError(STATUS.RESOURCE_EXHAUSTED, `a message of ${message.length} bytes is longer than the limit of ${MAX_MESSAGE}`);
  const frame = Buffer.allocUnsafe(5 + message.length);
  frame[0] = 0;
  frame.writeUInt32BE(message.length, 1);
  frame.set(message, 5);
  return frame;
}

/** Puts the messages of one direction together. */
class Messages {
  #parts = [];
  #size = 0;

  /** The messages that are whole with these bytes. */
  take(data) {
    this.#parts.push(data);
    this.#size += data.length;
    const whole = [];
    for (;;) {
      if (this.#size < 5) return whole;
      if (this.#parts[0].length < 5) this.#join();
      const [first] = this.#parts;
      if (first[0] !== 0) throw new RpcError(STATUS.UNIMPLEMENTED, 'a compressed message');
      const size = first.readUInt32BE(1);
      if (size > MAX_MESSAGE) throw new RpcError(STATUS.RESOURCE_EXHAUSTED, `a message of ${size} bytes is longer than the limit of ${MAX_MESSAGE}`);
      if (this.#size < 5 + size) return whole;
      const all = this.#join();
      whole.push(all.subarray(5, 5 + size));
      this.#size -= 5 + size;
      this.#parts = this.#size > 0 ? [all.subarray(5 + size)] : [];
    }
  }

  #join() {
    if (this.#parts.length > 1) this.#parts = [Buffer.concat(this.#parts, this.#size)];
    return this.#parts[0];
  }

  get partial() {
    return this.#size > 0;
  }
}

/** A call that is answered here: one request, any number of answers. */
export class ServerCall {
  #stream;
  #serialize;
  #canceled = false;
  #over = false;
  #held = [];
  #heldSize = 0;
  #full = false; // the last write waits for room

  constructor(stream, serialize) {
    this.#stream = stream;
    this.#serialize = serialize;
    /** Called when the other side has given the call up, or is gone. */
    this.onCancel = undefined;
    stream.on('error', () => {}); // close follows
    stream.on('close', () => {
      if (this.#over) return;
      this.#canceled = true;
      this.onCancel?.();
    });
    stream.on('wantTrailers', () => stream.sendTrailers({ 'grpc-status': '0' }));
  }

  get canceled() {
    return this.#canceled;
  }

  #begin() {
    if (!this.#stream.headersSent) this.#stream.respond(ANSWER, TRAILERS);
  }

  /** Sends an answer, and resolves when there is room for the next; false when nobody waits for one any more. */
  send(message) {
    if (this.#gone()) return false;
    const frame = framed(this.#serialize(message));
    if (this.#full || this.#heldSize + frame.length > HELD) return this.#write(frame);
    // Small answers that are made in one go are sent in one go.
    if (this.#held.length === 0) setImmediate(() => this.#write());
    this.#held.push(frame);
    this.#heldSize += frame.length;
    return true;
  }

  /** Sends what is held, and more. */
  #write(frame) {
    if (this.#gone()) return false;
    if (frame) this.#held.push(frame);
    if (this.#held.length === 0) return true;
    this.#begin();
    this.#full = !this.#stream.write(this.#released());
    if (!this.#full) return true;
    return new Promise((resolve) => {
      const settle = (open) => {
        this.#stream.off('drain', room).off('close', closed);
        this.#full = !open;
        resolve(open);
      };
      const room = () => settle(true);
      const closed = () => settle(false);
      this.#stream.on('drain', room).on('close', closed);
    });
  }

  #released() {
    const all = this.#held.length === 1 ? this.#held[0] : Buffer.concat(this.#held);
    this.#held = [];
    this.#heldSize = 0;
    return all;
  }

  #gone() {
    return this.#canceled || this.#over || this.#stream.destroyed;
  }

  /** Sends the last answer. */
  end(message) {
    if (this.#gone()) return;
    this.#held.push(framed(this.#serialize(message)));
    this.#begin();
    this.#over = true;
    this.#stream.end(this.#released());
  }

  refuse(code, details) {
    if (this.#gone()) return;
    this.#over = true;
    const trailers = { 'grpc-status': String(code), 'grpc-message': quoted(details) };
    if (!this.#stream.headersSent) {
      this.#stream.respond({ ...ANSWER, ...trailers }, { endStream: true });
    } else {
      this.#stream.removeAllListeners('wantTrailers').on('wantTrailers', () => this.#stream.sendTrailers(trailers));
      this.#stream.end();
    }
    if (!this.#stream.readableEnded) this.#stream.close(http2.constants.NGHTTP2_NO_ERROR); // whatever else was to come
  }
}

const quoted = (text) => Buffer.from(String(text), 'utf8').reduce((all, byte) => (
  all + (byte >= 0x20 && byte <= 0x7e && byte !== 0x25 ? String.fromCharCode(byte) : `%${byte.toString(16).toUpperCase().padStart(2, '0')}`)), '');

function unquoted(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

/** Answers calls on a Unix socket. */
export class Server {
  #methods = new Map();
  #server;
  #sessions = new Set();

  /** tls has key, cert and ca, for a connection that only one client may open. */
  constructor(tls) {
    this.#server = tls ? http2.createSecureServer({ ...SESSION, ...tls, requestCert: true, rejectUnauthorized: true }) : http2.createServer(SESSION);
    this.#server.on('session', (session) => {
      this.#sessions.add(session);
      session.setLocalWindowSize(SESSION_WINDOW);
      session.on('close', () => this.#sessions.delete(session)).on('error', () => {});
    });
    this.#server.on('stream', (stream, headers) => this.#call(stream, headers[':path']));
    this.#server.on('sessionError', () => {}).on('tlsClientError', () => {});
  }

  /** A method: its definition, and a function that gets the call and the request. */
  add(definition, run) {
    this.#methods.set(definition.path, { definition, run });
  }

  #call(stream, path) {
    const method = this.#methods.get(path);
    const call = new ServerCall(stream, method?.definition.responseSerialize);
    if (!method) return call.refuse(STATUS.UNIMPLEMENTED, `there is no method ${path}`);
    const messages = new Messages();
    const requests = [];
    const refuse = (err) => call.refuse(err instanceof RpcError ? err.code : STATUS.INTERNAL, err?.message ?? String(err));
    const attempt = (step) => {
      try {
        step();
      } catch (err) {
        refuse(err);
      }
    };
    stream.on('data', (data) => attempt(() => requests.push(...messages.take(data))));
    stream.on('end', () => attempt(() => {
      if (requests.length !== 1 || messages.partial) throw new RpcError(STATUS.INTERNAL, 'a call with one request came with another number of them');
      method.run(call, method.definition.requestDeserialize(requests[0]));
    }));
    return undefined;
  }

  listen(path) {
    return new Promise((resolve, reject) => {
      this.#server.once('error', reject);
      this.#server.listen(path, resolve);
    });
  }

  /** Takes no further calls, and calls back when those under way have ended. */
  close(done) {
    this.#server.close(done);
    for (const session of this.#sessions) session.close();
  }
}

/** Makes calls to a server on a Unix socket. It connects when it is first needed, and again when the connection is lost. */
export class Channel {
  #path;
  #headers;
  #session;

  constructor(path, headers) {
    this.#path = path;
    this.#headers = headers;
  }

  /** Begins a call. */
  call(definition) {
    const headers = { ':method': 'POST', ':path': definition.path, te: 'trailers', 'content-type': 'application/grpc', ...this.#headers };
    return new ClientCall(this.#connected().request(headers, { endStream: false }), definition);
  }

  #connected() {
    if (!this.#session || this.#session.closed || this.#session.destroyed) {
      const session = http2.connect('http://localhost', { ...SESSION, createConnection: () => net.connect(this.#path) });
      session.on('error', () => {}); // the calls say it
      session.on('connect', () => session.setLocalWindowSize(SESSION_WINDOW));
      session.on('goaway', () => { if (this.#session === session) this.#session = undefined; });
      this.#session = session;
    }
    return this.#session;
  }

  close() {
    this.#session?.close();
    this.#session = undefined;
  }
}

/** A call that is made from here: any number of requests; its answers are what it yields. */
export class ClientCall {
  #stream;
  #definition;
  #status;
  #failure;
  #canceled = false;

  constructor(stream, definition) {
    this.#stream = stream;
    this.#definition = definition;
    stream.on('response', (headers) => this.#take(headers));
    stream.on('trailers', (headers) => this.#take(headers));
    stream.on('error', (err) => { this.#failure ??= err; });
  }

  #take(headers) {
    const status = headers['grpc-status'];
    if (status !== undefined) this.#status = { code: Number(status), details: unquoted(headers['grpc-message'] ?? '') };
    else if (headers[':status'] !== undefined && headers[':status'] !== 200) {
      this.#status = { code: STATUS.UNKNOWN, details: `the answer has the HTTP status ${headers[':status']}` };
    }
  }

  /** Resolves when the request is on its way; false when nobody waits for it any more, and the answer says why. */
  async send(request) {
    const data = framed(this.#definition.requestSerialize(request));
    if (this.#stream.writableEnded || this.#stream.destroyed) return false;
    return new Promise((resolve) => {
      const closed = () => resolve(false);
      this.#stream.once('close', closed);
      this.#stream.write(data, (err) => {
        this.#stream.off('close', closed);
        resolve(!err);
      });
    });
  }

  /** There are no further requests. */
  end() {
    this.#stream.end();
  }

  cancel() {
    if (this.#canceled || this.#status || this.#stream.destroyed) return;
    this.#canceled = true;
    this.#stream.close(http2.constants.NGHTTP2_CANCEL);
  }

  /** The answers, as fast as they are read. To leave them ends the call. */
  async *[Symbol.asyncIterator]() {
    const messages = new Messages();
    let broken;
    try {
      for await (const data of this.#stream) {
        for (const message of messages.take(data)) yield this.#definition.responseDeserialize(message);
      }
    } catch (err) {
      broken = err;
    } finally {
      this.cancel();
    }
    if (broken instanceof RpcError) throw broken;
    if (this.#status?.code === STATUS.OK) return;
    if (this.#status) throw new RpcError(this.#status.code, this.#status.details || `gRPC status ${this.#status.code}`);
    if (this.#canceled) throw new RpcError(STATUS.CANCELLED, 'the call was canceled');
    const why = broken ?? this.#failure;
    throw new RpcError(STATUS.UNAVAILABLE, `the daemon cannot be reached${why ? `: ${why.message}` : ''}`);
  }

  /** The only answer. */
  async answer() {
    let first;
    for await (const answer of this) first ??= answer;
    if (first === undefined) throw new RpcError(STATUS.INTERNAL, 'the daemon gave no answer');
    return first;
  }
}
