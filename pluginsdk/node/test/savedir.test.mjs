// Files that somebody else has named, in a directory.

import assert from 'node:assert/strict';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { test } from 'node:test';

import { EXTENSIONS, prepare, reasonOf, safeName, save } from '../lib/savedir.mjs';

// Go's package is tested with the same.
const NAMES = JSON.parse(readFileSync(new URL('../../../internal/savedir/testdata/names.json', import.meta.url), 'utf8'));

function directory(t) {
  const above = mkdtempSync(path.join(os.tmpdir(), 'bn-'));
  t.after(() => rmSync(above, { recursive: true, force: true }));
  return path.join(above, 'deep', 'out');
}

async function* broken() {
  yield Buffer.from('half');
  throw new Error('broken off');
}

const text = (value) => [Buffer.from(String(value))];

test('names are those of the other packages', () => {
  for (const { sent, mimeType, index, name } of NAMES) assert.equal(safeName(sent, mimeType, index), name, JSON.stringify([sent, mimeType]));
  assert.deepEqual(Object.keys(EXTENSIONS).filter((type) => !NAMES.some(({ mimeType }) => mimeType === type)), []);
  assert.equal(safeName('a\ud800b', '', 1), 'ab', 'what no file system takes');
  assert.equal(safeName('a', 'constructor', 1), 'a');
});

test('many who save one name get a file each', async (t) => {
  const out = directory(t);
  await Promise.all(Array.from({ length: 20 }, async (_, n) => {
    await prepare(out);
    await assert.rejects(save(out, 'a.txt', broken()), /broken off/);
    assert.equal(readFileSync(await save(out, 'a.txt', text(n)), 'utf8'), String(n));
  }));
  assert.deepEqual(readdirSync(out).sort(), ['a.txt', ...Array.from({ length: 19 }, (_, n) => `a (${n + 2}).txt`)].sort());
});

test('nothing is replaced and no link followed', async (t) => {
  const out = directory(t);
  await prepare(out);
  const victim = path.join(out, '..', 'victim');
  symlinkSync(victim, path.join(out, 'a.txt'));
  mkdirSync(path.join(out, 'c'));
  const saved = [];
  for (const name of ['a.txt', 'c', 'c', 'd.']) saved.push(path.basename(await save(out, name, [])));
  assert.deepEqual(saved, ['a (2).txt', 'c (2)', 'c (3)', 'd.']);
  assert.equal(existsSync(victim), false);
});

test('what is no directory takes nothing', async (t) => {
  const out = directory(t);
  await prepare(out);
  const file = await save(out, 'a', text('x'));
  await assert.rejects(prepare(path.join(file, 'x')), (err) => reasonOf(err) === 'not a directory');
  await prepare(file);
  await assert.rejects(save(file, 'b', text('x')), (err) => reasonOf(err) === 'not a directory');
  assert.equal(readFileSync(file, 'utf8'), 'x');
});
