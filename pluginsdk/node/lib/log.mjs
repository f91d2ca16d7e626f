// Records for the daemon's log: one JSON line each, on standard error, with their level.

import process from 'node:process';
import util from 'node:util';

// Taken before anything replaces it.
const write = process.stderr.write.bind(process.stderr);

function record(level, text, attributes) {
  const line = { level, msg: text, ...attributes };
  let json;
  try {
    json = JSON.stringify(line, (_, value) => {
      if (value instanceof Error) return value.stack ?? String(value);
      return typeof value === 'bigint' ? String(value) : value;
    });
  } catch {
    json = JSON.stringify({ level, msg: text }); // the attributes hold themselves
  }
  write(json + '\n');
}

/** A logger whose records carry attributes. */
export function logger(attributes = {}) {
  const at = (level) => (text, more) => record(level, String(text), { ...attributes, ...more });
  return { debug: at('DEBUG'), info: at('INFO'), warn: at('WARN'), error: at('ERROR') };
}

export const log = logger();

/**
 * Has what is written with console, and to standard output, reach the log with its level: standard output belongs to the
 * handshake.
 */
export function takeOverOutput() {
  const levels = { debug: 'DEBUG', trace: 'DEBUG', log: 'INFO', info: 'INFO', warn: 'WARN', error: 'ERROR' };
  for (const [name, level] of Object.entries(levels)) {
    console[name] = (...args) => record(level, util.format(...args));
  }
  const handshake = process.stdout.write.bind(process.stdout);
  process.stdout.write = (chunk, encoding, done) => {
    write(chunk, typeof encoding === 'string' ? encoding : undefined);
    const callback = typeof encoding === 'function' ? encoding : done;
    if (callback) process.nextTick(callback);
    return true;
  };
  return handshake;
}
