import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, test } from 'node:test';
import { fileURLToPath, pathToFileURL } from 'node:url';

import { translated } from '../lib/typescript.mjs';

const modules = path.join(path.dirname(fileURLToPath(import.meta.url)), '..', 'node_modules');
let count = 0;
const bare = mkdtempSync(path.join(tmpdir(), 'a project '));
const equipped = mkdtempSync(path.join(tmpdir(), 'project'));
mkdirSync(path.join(equipped, 'node_modules'));
symlinkSync(path.join(modules, 'typescript'), path.join(equipped, 'node_modules', 'typescript'));
writeFileSync(path.join(equipped, 'tsconfig.json'), '{ "compilerOptions": { "experimentalDecorators": true, "noEmit": true, "outDir": "dist", }, }');
after(() => [bare, equipped].forEach((dir) => rmSync(dir, { recursive: true })));

/** The export v of a module, as it is loaded. */
async function valueOf(text, project) {
  const { code, isModule } = translated(text, path.join(project, 'lib', 'x.ts'), project);
  assert.ok(isModule, code);
  const file = path.join(bare, `${++count}.mjs`);
  writeFileSync(file, code);
  return (await import(pathToFileURL(file).href)).v;
}

// What removing types does, or a little more, needs nothing installed in the project.
for (const [name, text, want] of [
  ['an enum', "enum E { A, B = 'x' }\nexport const v = E.A + E.B;", '0x'],
  ['a const enum', 'const enum E { A = 3 }\nexport const v = E.A;', 3],
  ['a parameter property', 'class C { constructor(private readonly x: number) {} get() { return this.x } }\nexport const v = new C(4).get();', 4],
  ['a namespace of types', 'namespace N { export interface A { x: number } export type B = A }\nexport const v: N.B | number = 5;', 5],
  ['declarations', 'declare namespace D { const x: number }\ndeclare global { var q: number }\nabstract class A { abstract f(): void; declare y: string }\nexport const v = <number>{ a: 6 }.a satisfies number;', 6],
  ['import and require', "import fs = require('node:fs');\nexport const v = typeof fs.readFileSync;", 'function'],
  ['one line', 'enum E { A = 7 } export const v = E.A;', 7],
  ['words that look like more', "/** a\n@param x */ const s = 'mail@example.org';\nconst t = `namespace N { const a = 1 } @x`; // @y\nexport const v = s.length + t.length;", 46],
]) {
  test(`${name} is translated`, async () => assert.equal(await valueOf(text, bare), want));
}

// What has to be compiled is left to the project's TypeScript, and where that is missing one sentence says so.
for (const [name, what, line, text, want] of [
  ['namespace', 'a namespace with values', 1, 'namespace N { export const a = 1; export function f(): number { return a } }\nexport const v = N.f();', 1],
  ['inner namespace', 'a namespace with values', 2, 'const z = 2;\nnamespace N.M { export type T = { a: 1 }; export const a = z }\nexport const v = N.M.a;', 2],
  ['decorator', 'a decorator', 2, 'function d(c: any) { c.marked = 3 }\n@d\nclass C { static marked: number }\nexport const v = C.marked;', 3],
  ['decorator of a parameter', 'a decorator', 2, 'let n = 0; function d(c: any, k: any, i: number) { n = i + 4 }\nclass C { constructor(@d x: number) {} }\nexport const v = n;', 4],
  ['accessor', 'an accessor field', 1, 'class C { accessor x = 5 }\nexport const v = new C().x;', 5],
]) {
  test(`${name}: compiled by the project's TypeScript, or refused`, async () => {
    assert.equal(await valueOf(text, equipped), want);
    const sentence = `lib/x.ts, line ${line} has ${what}, which TypeScript itself has to compile: npm install --prefix '${bare}' typescript@5`;
    assert.throws(() => translated(text, path.join(bare, 'lib', 'x.ts'), bare), { name: 'SyntaxError', message: sentence });
  });
}

test('a mistake is named with its line', () => {
  const wrong = "function d(c: any) {}\n@d\nclass C {\nexport const v = ;\n";
  assert.throws(() => translated(wrong, path.join(equipped, 'x.ts'), equipped), /SyntaxError: x\.ts, line 4: /);
});

test('a file without imports and exports is CommonJS', () => {
  assert.equal(translated('module.exports = (x: number) => x;', path.join(bare, 'x.ts'), bare).isModule, false);
  assert.equal(translated('await Promise.resolve(8 as number);', path.join(bare, 'x.ts'), bare).isModule, true);
  assert.equal(translated("const s = '; export';", path.join(bare, 'x.cts'), bare).isModule, false);
});
