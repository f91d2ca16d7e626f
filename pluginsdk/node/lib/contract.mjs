// The services of the handler contract, from the descriptors that `make generate` writes.

import { readFileSync } from 'node:fs';

import { services } from './messages.mjs';

/** One message, in bytes. */
export const MAX_MESSAGE = 16 << 20;
/** What one message carries of a file. */
export const CHUNK = 256 << 10;
/** The cookie by which a handler knows that a daemon has started it. */
export const COOKIE = { name: 'BLOCKS_HANDLER_COOKIE', value: 'blocks.handler.v1' };

let loaded;

/** The definitions of the methods of the two services. */
export function contract() {
  if (!loaded) {
    const definitions = services(readFileSync(new URL('./handler.binpb', import.meta.url)));
    loaded = { handler: definitions['blocks.handler.v1.HandlerService'], host: definitions['blocks.handler.v1.HostService'] };
  }
  return loaded;
}

/** Seconds and nanoseconds of a google.protobuf.Duration, as milliseconds. */
export function milliseconds(duration) {
  return duration ? (duration.seconds ?? 0) * 1000 + (duration.nanos ?? 0) / 1e6 : undefined;
}

/** Milliseconds as a google.protobuf.Duration. */
export function duration(ms) {
  const seconds = Math.floor(ms / 1000);
  return { seconds, nanos: Math.round((ms - seconds * 1000) * 1e6) };
}

/** What a failed call says, without gRPC's code in front of it. */
export function detailOf(err) {
  return err?.details || err?.message || String(err);
}

/** JSON in bytes, undefined for none. */
export function parseJSON(bytes) {
  if (!bytes || bytes.length === 0) return undefined;
  try {
    return JSON.parse(Buffer.from(bytes).toString('utf8'));
  } catch {
    return undefined;
  }
}
