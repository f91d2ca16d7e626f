// Stands in for Blocks' own package where a project imports it and has not installed it: what handlers take from it.

import { readFile } from 'node:fs/promises';
import path from 'node:path';

import { bytesOf } from './artifact.mjs';

export { StreamRef, StreamUnavailableError } from './called_streams.mjs';
export { TaskContext } from './project.mjs';
export { TaskClient, TaskSession } from './task_client.mjs';

/** The largest input that the network takes. */
export const BLOCKS_MAX_UPLOAD_BYTES = 1 << 30;

export function textPart(text, partId = 'text') {
  return { partId, text };
}

export function filePart(data, options = {}) {
  const file = bytesOf(data) ?? data;
  return { partId: options.partId ?? 'file', contentType: options.contentType ?? 'application/octet-stream', file, fileName: options.fileName ?? data?.name ?? 'file' };
}

export async function filePartFromPath(from, options = {}) {
  return filePart(await readFile(from), { fileName: path.basename(from), ...options });
}

export function decodeInlineArtifact(ref) {
  if (ref?.kind !== 'inline' || !ref.data) throw new Error('the artifact is not inline');
  return { data: new Uint8Array(Buffer.from(ref.data, 'base64')), mimeType: ref.mimeType ?? 'application/octet-stream', fileName: ref.fileName };
}

/** blocksd is what runs an agent here. */
export async function startAgentInstance() {
  throw new Error('blocksd runs this agent already: name the project with --project');
}
