import assert from 'node:assert/strict';
import path from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

import ts from 'typescript';

test('the types say what the package does', () => {
  const root = path.join(path.dirname(fileURLToPath(import.meta.url)), '..');
  const options = {
    noEmit: true, strict: true, target: ts.ScriptTarget.ES2022, module: ts.ModuleKind.NodeNext, moduleResolution: ts.ModuleResolutionKind.NodeNext,
    types: ['node'], typeRoots: [path.join(root, 'node_modules', '@types')],
  };
  const host = ts.createCompilerHost(options);
  // The package's exports name the types; a file of the package itself names the modules.
  host.resolveModuleNameLiterals = (literals, from, redirected, opts) => literals.map(({ text }) => {
    const types = /^\.\.\/lib\/(\w+)\.mjs$/.exec(text);
    if (types) return { resolvedModule: { resolvedFileName: path.join(root, 'lib', `${types[1]}.d.ts`), extension: '.d.ts' } };
    return ts.resolveModuleName(text, from, opts, host);
  });
  const program = ts.createProgram([path.join(root, 'test', 'typed.ts')], options, host);
  const found = ts.getPreEmitDiagnostics(program).map((d) => `${d.file?.fileName}:${d.start} ${ts.flattenDiagnosticMessageText(d.messageText, ' ')}`);
  assert.deepEqual(found, []);
});
