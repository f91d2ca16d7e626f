// The client of the daemon's host service, connected when it is first needed.

import process from 'node:process';

import { contract, detailOf } from './contract.mjs';
import { HostError } from './errors.mjs';
import { Channel } from './grpc.mjs';

export class Host {
  #channel;

  constructor(socket = process.env.BLOCKSD_HOST_SOCKET, token = process.env.BLOCKSD_HOST_TOKEN) {
    if (socket) this.#channel = new Channel(socket, { 'blocksd-host-token': token ?? '' });
  }

  close() {
    this.#channel?.close();
  }

  /** A call: its requests, and its answers as an async iterator. */
  exchange(method) {
    if (!this.#channel) throw new HostError('the daemon offers no host service: files cannot be transferred');
    return this.#channel.call(contract().host[method]);
  }

  /** One request, one answer. The sentence begins with what is attempted. */
  async unary(method, request, what, signal) {
    const call = this.exchange(method);
    const cancel = () => call.cancel();
    if (signal?.aborted) cancel();
    else signal?.addEventListener('abort', cancel, { once: true });
    try {
      call.send(request).catch(() => {}); // the answer says it
      call.end();
      return await call.answer();
    } catch (err) {
      throw hostError(what, err);
    } finally {
      signal?.removeEventListener('abort', cancel);
    }
  }

  /** One request, many answers: an async iterator. To leave it ends the call, and so does the signal, with its reason. */
  async *stream(method, request, what, signal) {
    const call = this.exchange(method);
    const cancel = () => call.cancel();
    signal?.addEventListener('abort', cancel, { once: true });
    if (signal?.aborted) cancel();
    try {
      call.send(request).catch(() => {});
      call.end();
      yield* call;
    } catch (err) {
      throw signal?.aborted ? signal.reason : hostError(what, err);
    } finally {
      signal?.removeEventListener('abort', cancel);
      call.cancel();
    }
  }

  /** Many requests, one answer. The requests come from an iterator, as fast as the daemon takes them. */
  async upload(method, requests, what) {
    const call = this.exchange(method);
    const answered = call.answer();
    answered.catch(() => {}); // it is awaited below
    try {
      for await (const request of requests) {
        if (!(await call.send(request))) break; // the answer says why
      }
    } catch (err) {
      call.cancel();
      throw err;
    }
    call.end();
    try {
      return await answered;
    } catch (err) {
      throw hostError(what, err);
    }
  }
}

export function hostError(what, err) {
  return err instanceof HostError ? err : new HostError(`${what}: ${detailOf(err)}`, err?.code);
}
