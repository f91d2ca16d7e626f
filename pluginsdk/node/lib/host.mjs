// The client of the daemon's host service, connected when it is first needed.

import process from 'node:process';

import { contract, detailOf, limits } from './contract.mjs';
import { HostError } from './errors.mjs';

export class Host {
  #socket;
  #token;
  #client;
  #metadata;

  constructor(socket = process.env.BLOCKSD_HOST_SOCKET, token = process.env.BLOCKSD_HOST_TOKEN) {
    this.#socket = socket;
    this.#token = token;
  }

  #connect() {
    if (!this.#client) {
      if (!this.#socket) throw new HostError('the daemon offers no host service: files cannot be transferred');
      const { grpc, HostService } = contract();
      const Client = grpc.makeGenericClientConstructor(HostService, 'HostService');
      this.#client = new Client(`unix:${this.#socket}`, grpc.credentials.createInsecure(), limits);
      this.#metadata = new grpc.Metadata();
      this.#metadata.set('blocksd-host-token', this.#token ?? '');
    }
    return this.#client;
  }

  close() {
    this.#client?.close();
    this.#client = undefined;
  }

  /** One request, one answer. The sentence begins with what is attempted. */
  unary(method, request, what, signal) {
    const client = this.#connect();
    return new Promise((resolve, reject) => {
      const call = client[method](request, this.#metadata, (err, answer) => {
        signal?.removeEventListener('abort', cancel);
        if (err) reject(hostError(what, err));
        else resolve(answer);
      });
      const cancel = () => call.cancel();
      if (signal?.aborted) cancel();
      else signal?.addEventListener('abort', cancel, { once: true });
    });
  }

  /** One request, many answers: an async iterator. To leave it ends the call, and so does the signal, with its reason. */
  async *stream(method, request, what, signal) {
    const call = this.#connect()[method](request, this.#metadata);
    const cancel = () => call.cancel();
    signal?.addEventListener('abort', cancel, { once: true });
    if (signal?.aborted) cancel();
    try {
      for await (const answer of call) yield answer;
    } catch (err) {
      throw signal?.aborted ? signal.reason : hostError(what, err);
    } finally {
      signal?.removeEventListener('abort', cancel);
      call.on('error', () => {}); // of the cancellation
      call.cancel();
    }
  }

  /** Many requests, one answer. The requests come from an iterator, as fast as the daemon takes them. */
  async upload(method, requests, what) {
    const client = this.#connect();
    let call;
    const answered = new Promise((resolve, reject) => {
      call = client[method](this.#metadata, (err, answer) => (err ? reject(hostError(what, err)) : resolve(answer)));
    });
    answered.catch(() => {}); // it is awaited below
    call.on('error', () => {}); // the answer says it
    try {
      for await (const request of requests) {
        const open = await Promise.race([write(call, request), answered.then(() => false, () => false)]);
        if (open === false) break; // the answer says why
      }
    } catch (err) {
      call.cancel();
      throw err;
    }
    call.end();
    return answered;
  }

  /** Requests both ways: the call itself, and its answers as an async iterator. */
  exchange(method) {
    return this.#connect()[method](this.#metadata);
  }
}

/** Writes one message, and resolves when there is room for the next. */
export function write(call, message) {
  return new Promise((resolve, reject) => {
    call.write(message, (err) => (err ? reject(err) : resolve(true)));
  });
}

export function hostError(what, err) {
  return err instanceof HostError ? err : new HostError(`${what}: ${detailOf(err)}`, err?.code);
}
