// Files that somebody else has named, saved into a directory: never outside of it, never in place of another file, and under
// their names only when they are complete. The same names as those of Go's package savedir.

import { randomBytes } from 'node:crypto';
import { link, mkdir, open, rename, rm } from 'node:fs/promises';
import path from 'node:path';
import { getSystemErrorMap } from 'node:util';

/** How many files of one name a directory gets. */
const MAX_SAME_NAME = 10_000;

/** File systems allow names of 255 bytes, and a number may be added. */
const MAX_NAME = 200;

/** The end of the names that blocksd's other packages give to what they write, and remove once nobody has it locked. */
const LOCKED_PART = '.blocksd-part';

/** The end of the name of a file that is still being written. Node.js has no locks, so nobody removes it for us. */
const PART = '.blocksd-saving';

/** What link answers on a file system without hard links. */
const NO_LINKS = new Set(['EPERM', 'EACCES', 'ENOTSUP', 'EOPNOTSUPP', 'ENOSYS']);

/** The tables of the operating system differ from machine to machine. */
export const EXTENSIONS = {
  'application/gzip': '.gz', 'application/json': '.json', 'application/pdf': '.pdf', 'application/wasm': '.wasm',
  'application/x-ndjson': '.ndjson', 'application/x-tar': '.tar', 'application/xml': '.xml', 'application/yaml': '.yaml',
  'application/zip': '.zip',
  'audio/flac': '.flac', 'audio/mp4': '.m4a', 'audio/mpeg': '.mp3', 'audio/ogg': '.ogg', 'audio/wav': '.wav', 'audio/x-wav': '.wav',
  'image/avif': '.avif', 'image/bmp': '.bmp', 'image/gif': '.gif', 'image/jpeg': '.jpg', 'image/png': '.png', 'image/svg+xml': '.svg',
  'image/tiff': '.tiff', 'image/webp': '.webp',
  'text/css': '.css', 'text/csv': '.csv', 'text/html': '.html', 'text/javascript': '.js', 'text/markdown': '.md',
  'text/plain': '.txt', 'text/xml': '.xml', 'text/yaml': '.yaml',
  'video/mp4': '.mp4', 'video/ogg': '.ogv', 'video/webm': '.webm',
};

/**
 * A name for a file that somebody else has named: only the last element counts, it never begins with a dot or a dash, and the
 * extension of the media type is added to a name that has none. A file without a name gets its index.
 */
export function safeName(sent, mimeType, index) {
  let name = trimmed(sent.slice(Math.max(sent.lastIndexOf('/'), sent.lastIndexOf('\\')) + 1).replace(/[\p{Cc}\p{Cs}\p{Bidi_Control}\ufffd]/gu, ''));
  if (name === '') name = `artifact-${index}`;
  if (Buffer.byteLength(name) > MAX_NAME) {
    const extension = Buffer.byteLength(extensionOf(name)) > 20 ? '' : extensionOf(name);
    name = trimmed(firstBytes(name, MAX_NAME - Buffer.byteLength(extension)) + extension);
  }
  if (extensionOf(name) !== '') return name;
  let media = mimeType.split(';')[0].trim().toLowerCase();
  if (!Object.hasOwn(EXTENSIONS, media) && media.includes('+')) media = `application/${media.slice(media.lastIndexOf('+') + 1)}`; // application/ld+json
  return Object.hasOwn(EXTENSIONS, media) ? name + EXTENSIONS[media] : name;
}

/** Without what must not stand at its ends, whatever stands behind that. */
function trimmed(name) {
  for (;;) {
    const was = name;
    if (name.endsWith(LOCKED_PART)) name = name.slice(0, -LOCKED_PART.length);
    name = name.replace(/^\p{White_Space}+|\p{White_Space}+$/gu, '').replace(/^[.\- ]+/, '');
    if (name === was) return name;
  }
}

function extensionOf(name) {
  const dot = name.lastIndexOf('.');
  return dot < 0 ? '' : name.slice(dot);
}

/** So many bytes of a text, fewer where a character would be cut. */
function firstBytes(text, limit) {
  const bytes = Buffer.from(text);
  let end = limit;
  while (end > 0 && (bytes[end] & 0xc0) === 0x80) end -= 1;
  return bytes.subarray(0, end).toString();
}

/** Creates a directory if needed. */
export async function prepare(directory) {
  await mkdir(directory, { recursive: true }).catch((err) => {
    if (err.code !== 'EEXIST') throw err; // what is there is no directory, which is said when it is written to
  });
}

/**
 * Saves pieces under a name that safeName has made, with a number where that is taken, and resolves with the path. Where they
 * fail, or the file cannot be written, nothing is left.
 */
export async function save(directory, name, pieces) {
  const temporary = path.join(directory, `${name}.${randomBytes(6).toString('hex')}${PART}`);
  const file = await open(temporary, 'wx', 0o644);
  try {
    try {
      for await (const piece of pieces) await file.writeFile(piece); // behind what was written before
    } finally {
      await file.close();
    }
    return await move(temporary, directory, name);
  } catch (err) {
    await rm(temporary, { force: true }).catch(() => {}); // a partial file is worse than none
    throw err;
  }
}

/** Gives a complete file its name, or the next one that is free. */
async function move(temporary, directory, name) {
  try {
    const got = await firstFree(directory, name, (to) => link(temporary, to)); // unlike a rename it never replaces a file
    await rm(temporary, { force: true });
    return got;
  } catch (err) {
    if (!NO_LINKS.has(err.code)) throw err;
  }
  const got = await firstFree(directory, name, async (to) => (await open(to, 'wx', 0o644)).close()); // the name is taken first
  await rename(temporary, got);
  return got;
}

/** Calls use with the path of name, and with a number added as long as that is taken; resolves with the one that was free. */
async function firstFree(directory, name, use) {
  const extension = extensionOf(name);
  const stem = name.slice(0, name.length - extension.length);
  for (let number = 1; ; number += 1) {
    const to = path.join(directory, number === 1 ? name : `${stem} (${number})${extension}`);
    try {
      await use(to);
      return to;
    } catch (err) {
      if (err.code !== 'EEXIST' || number >= MAX_SAME_NAME) throw err;
    }
  }
}

/** Why something failed, without what only a program needs to know. */
export function reasonOf(err) {
  return getSystemErrorMap().get(err?.errno)?.[1] ?? err?.message ?? String(err);
}
