// Artifacts, and how they are cut into messages.

import { CHUNK } from './contract.mjs';

/** The bytes of what may be a text, a buffer, a view or an array buffer; undefined for what is none of them. */
export function bytesOf(data) {
  if (typeof data === 'string') return Buffer.from(data, 'utf8');
  if (Buffer.isBuffer(data)) return data;
  if (data instanceof ArrayBuffer) return Buffer.from(data);
  if (ArrayBuffer.isView(data)) return Buffer.from(data.buffer, data.byteOffset, data.byteLength);
  return undefined;
}

/** Whatever a handler gives as an artifact: a text, bytes, or an object with data or body. */
export function artifactOf(value) {
  if (typeof value === 'string') return { data: value, mimeType: 'text/plain' };
  if (bytesOf(value)) return { data: value };
  return value ?? {};
}

/** Pieces of a body, whatever it is made of: at most CHUNK bytes each, and at least one. */
export async function* pieces(body) {
  let waiting = [];
  let size = 0;
  for await (const part of body) {
    const bytes = bytesOf(part);
    if (!bytes) throw new TypeError('a body must yield texts or bytes');
    waiting.push(bytes);
    size += bytes.length;
    if (size <= CHUNK) continue;
    let whole = Buffer.concat(waiting, size);
    for (; whole.length > CHUNK; whole = whole.subarray(CHUNK)) yield whole.subarray(0, CHUNK);
    waiting = [whole];
    size = whole.length;
  }
  yield Buffer.concat(waiting, size);
}

/** The messages of an artifact, as an iterable: the first one describes it, the last one is marked. */
export function chunks(artifact) {
  const { outputId, mimeType, fileName, data } = artifactOf(artifact);
  const whole = data === undefined || data === null ? undefined : bytesOf(data);
  if (!whole || whole.length > CHUNK) return cut(artifact);
  return [{ data: whole, last: true, info: { output_id: outputId ?? '', mime_type: mimeType ?? '', file_name: fileName ?? '' } }];
}

async function* cut(artifact) {
  const { outputId, mimeType, fileName, data, body } = artifactOf(artifact);
  const whole = data === undefined || data === null ? undefined : bytesOf(data);
  if (whole === undefined && body === undefined) {
    throw new TypeError('an artifact needs data (a text or bytes) or a body (an iterable of them)');
  }
  let info = { output_id: outputId ?? '', mime_type: mimeType ?? '', file_name: fileName ?? '' };
  const message = (bytes, last) => {
    const chunk = { data: bytes, last };
    if (info) chunk.info = info;
    info = undefined;
    return chunk;
  };
  // One piece is held back, because the last one must say so.
  let held;
  for await (const piece of pieces(whole ? [whole] : body)) {
    if (held) yield message(held, false);
    held = piece;
  }
  yield message(held, true);
}
