#!/usr/bin/env node
// Runs the handler of a project: node run.mjs --project DIR --file FILE [--export NAME]. The daemon calls it.

import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import module from 'node:module';
import path from 'node:path';
import process from 'node:process';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { parseArgs } from 'node:util';

import { contract } from './lib/contract.mjs';
import { lookIn } from './lib/dependencies.mjs';
import { handlerOf } from './lib/project.mjs';
import { quiet, serve, serving, unusable } from './lib/server.mjs';

const here = path.dirname(fileURLToPath(import.meta.url));

/** A path for a shell. */
const word = (text) => (/^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", String.raw`'\''`)}'`);

/** The command that installs what translates TypeScript. */
const install = `npm ci --omit=dev --prefix ${word(here)}`;

async function main() {
  const { values } = parseArgs({ options: { project: { type: 'string' }, file: { type: 'string' }, export: { type: 'string' } } });
  if (!values.project || !values.file) throw new Error('use node run.mjs --project DIR --file FILE [--export NAME]');
  const [major] = process.versions.node.split('.').map(Number);
  if (major < 20) return unusable(`Node.js ${process.versions.node} is too old: install version 20 or newer`);
  quiet();
  process.setSourceMapsEnabled(true); // of what the compiler of the project has made
  lookIn(values.project);
  module.register('./lib/hooks.mjs', import.meta.url, { data: { project: values.project } });
  const name = path.relative(values.project, values.file);
  process.argv.splice(1, Infinity, values.file); // for a file that reads the command line
  let loaded;
  try {
    const loading = import(pathToFileURL(values.file).href);
    loading.catch(() => {}); // it is awaited below
    contract(); // while the thread of the hooks finds and translates the file
    loaded = await loading;
  } catch (err) {
    return notLoaded(err, values.project, name);
  }
  if (serving()) return serving(); // the file is a handler with this package, and serves itself
  const found = exported(loaded, values.export);
  if (typeof found !== 'function') {
    const names = Object.keys(loaded).filter((key) => typeof loaded[key] === 'function');
    return unusable(
      `${name} exports no function ${values.export ?? 'default'}${names.length ? `, but ${names.join(', ')}` : ''}: ` +
        'export it, or correct runtime.handlerExport in agent-card.json',
    );
  }
  return serve(handlerOf(found, identityOf(values.project)));
}

/** The export of the card's name; a CommonJS module has its exports below default. */
function exported(loaded, wanted) {
  for (const key of wanted ? [wanted] : ['default', 'handler']) {
    for (const from of [loaded, loaded.default]) {
      if (typeof from?.[key] === 'function') return from[key];
    }
  }
  return undefined;
}

/** The file and line that an error begins with. */
function placeOf(text) {
  const found = /^(file:\/\/\S+|\/\S+):(\d+)\n/.exec(text ?? '');
  return found && { file: found[1].startsWith('file:') ? fileURLToPath(found[1]) : found[1], line: found[2] };
}

/** The first line of a stack that is in the project. */
function placeIn(stack, project) {
  for (const [, url, line] of (stack ?? '').matchAll(/(file:\/\/\/\S+?):(\d+):\d+/g)) {
    const file = path.relative(project, fileURLToPath(url));
    if (!file.startsWith('..')) return `${file}, line ${line}`;
  }
  return undefined;
}

/** What Node says of the syntax of a file by itself: with hooks its errors have no place. */
function checked(file) {
  if (!/\.[mc]?js$/.test(file)) return undefined;
  return spawnSync(process.execPath, ['--check', file], { encoding: 'utf8', timeout: 5000 }).stderr;
}

/** The name and version of the agent, for logs and status. */
function identityOf(project) {
  try {
    const { agentName, version } = JSON.parse(readFileSync(path.join(project, 'agent-card.json'), 'utf8')).identity;
    return { name: String(agentName), version: version === undefined ? undefined : String(version) };
  } catch {
    return { name: path.basename(project) };
  }
}

/** Says why the file cannot be loaded; only what cannot pass by itself keeps the daemon from trying again. */
async function notLoaded(err, project, name) {
  const text = err?.message ?? String(err);
  const code = err?.code;
  if (code === 'ERR_MODULE_NOT_FOUND' || code === 'MODULE_NOT_FOUND') {
    const wanted = /'([^']+)'/.exec(text)?.[1] ?? '';
    if (wanted === 'sucrase') return unusable(`what translates TypeScript is not installed: ${install}`);
    if (wanted.startsWith('.') || wanted.startsWith('/')) {
      return unusable(`${name} cannot be loaded: there is no file ${path.relative(project, path.resolve(project, wanted)) || wanted}`);
    }
    const how = existsSync(path.join(project, 'package-lock.json')) ? 'npm ci' : 'npm install';
    const what = existsSync(path.join(project, 'package.json')) ? '' : ` ${wanted}`;
    return unusable(`${name} needs the package ${wanted}, which is not installed: ${how} --prefix ${word(project)}${what}`);
  }
  if (err instanceof ReferenceError && /^(require|module|exports|__dirname|__filename) is not defined/.test(text)) {
    const where = placeIn(err.stack, project) ?? name;
    return unusable(`${where} cannot be loaded: it uses ${text.split(' ')[0]}, which only CommonJS has: name the file .cjs, or import what it needs`);
  }
  if (err instanceof SyntaxError && /^Cannot use import statement outside|^Unexpected token 'export'/.test(text) && /\.js$/.test(name)) {
    return unusable(`${name} cannot be loaded: it is a module, and the nearest package.json says otherwise: set "type" to "module" there, or name the file .mjs`);
  }
  if (err instanceof SyntaxError) {
    const where = placeOf(err.stack) ?? placeOf(checked(path.join(project, name)));
    const at = where ? `${path.relative(project, where.file)}, line ${where.line}` : name;
    return unusable(`${at} cannot be loaded: ${text.replace(`${path.join(project, name)}: `, '').replace(`${name}, `, '')}`);
  }
  process.stderr.write(`${err?.stack ?? text}\n`);
  process.stderr.write(`${name} cannot be loaded: ${text.replaceAll(/\s*\n\s*/g, ' ')}\n`, () => process.exit(1));
  return undefined;
}

try {
  await main();
} catch (err) {
  await unusable(err?.message ?? err);
}
