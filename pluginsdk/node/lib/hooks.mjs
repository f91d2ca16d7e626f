// How the modules of a project are found and read: TypeScript is translated, and the packages that a handler imports from
// Blocks or from blocksd are there although the project has not installed them. Runs in the thread of Node's hooks.

import { existsSync, readFileSync, statSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';

import { lookIn } from './dependencies.mjs';
import { translated } from './typescript.mjs';

/** What stands in for packages that are not installed. */
const STAND_INS = {
  '@blocks-network/sdk': new URL('./blocks.mjs', import.meta.url).href,
  '@blocks-network/sdk/stream': new URL('./blocks.mjs', import.meta.url).href,
  '@blocksd/handler': new URL('./index.mjs', import.meta.url).href,
  '@blocksd/handler/blocks': new URL('./blocks.mjs', import.meta.url).href,
};

const TYPESCRIPT = ['.ts', '.mts', '.cts', '.tsx'];
const NOT_FOUND = ['ERR_MODULE_NOT_FOUND', 'ERR_UNSUPPORTED_DIR_IMPORT'];

let aliases = [];
let directory = '';

export function initialize({ project }) {
  lookIn(project);
  directory = project;
  aliases = aliasesOf(path.join(project, 'tsconfig.json'));
}

/** What the paths of a tsconfig.json say, as functions from what is imported to where it may be. */
function aliasesOf(file) {
  const { baseUrl, paths, pathsBase } = optionsOf(file);
  const base = baseUrl ?? pathsBase;
  const found = Object.entries(paths ?? {}).map(([pattern, targets]) => {
    const [before, after] = pattern.split('*');
    return (specifier) => {
      if (after === undefined ? specifier !== before : !specifier.startsWith(before) || !specifier.endsWith(after)) return [];
      const middle = after === undefined ? '' : specifier.slice(before.length, specifier.length - after.length);
      return targets.map((target) => path.resolve(base, target.replace('*', middle)));
    };
  });
  return baseUrl === undefined ? found : [...found, (specifier) => [path.resolve(baseUrl, specifier)]];
}

/** How deep files of settings may extend each other. */
const MAX_EXTENDS = 8;

/** What a tsconfig.json says of paths, with what it extends; of packages it does not. */
function optionsOf(file, depth = 0) {
  let settings;
  try {
    const text = readFileSync(file, 'utf8').replaceAll(/("(?:\\.|[^"\\])*")|\/\/[^\n]*|\/\*[\s\S]*?\*\//g, '$1').replaceAll(/,(\s*[}\]])/g, '$1');
    settings = JSON.parse(text);
  } catch {
    return {}; // there is none, or nothing that can be read
  }
  const dir = path.dirname(file);
  const found = {};
  for (const from of [settings.extends ?? []].flat()) {
    if (typeof from !== 'string' || !/^\.{0,2}\//.test(from) || depth === MAX_EXTENDS) continue;
    const at = path.resolve(dir, from);
    Object.assign(found, optionsOf(existsSync(at) ? at : `${at}.json`, depth + 1));
  }
  const { baseUrl, paths } = settings.compilerOptions ?? {};
  if (baseUrl !== undefined) found.baseUrl = path.resolve(dir, baseUrl);
  if (paths !== undefined) Object.assign(found, { paths, pathsBase: dir });
  return found;
}

export async function resolve(specifier, context, next) {
  try {
    return await next(specifier, context);
  } catch (err) {
    if (!NOT_FOUND.includes(err.code)) throw err;
    if (specifier in STAND_INS) return { url: STAND_INS[specifier], shortCircuit: true };
    const file = fileOf(specifier, context.parentURL);
    if (file) return { url: pathToFileURL(file).href, shortCircuit: true };
    throw err;
  }
}

/** The file that a TypeScript compiler would take for an import: ./x and ./x.js may be ./x.ts, and there are aliases. */
function fileOf(specifier, parent) {
  if (!parent?.startsWith('file:')) return undefined;
  if (/^\.{0,2}\//.test(specifier)) return fileAt(path.resolve(path.dirname(fileURLToPath(parent)), specifier));
  for (const alias of aliases) {
    for (const at of alias(specifier)) {
      const file = fileAt(at, true);
      if (file) return file;
    }
  }
  return undefined;
}

function fileAt(at, itself = false) {
  const bare = at.replace(/\.([mc]?)js$/, '.$1ts');
  const candidates = [bare, `${at}.ts`, `${at}.mts`, `${at}.tsx`, `${at}.js`, `${at}.mjs`, path.join(at, 'index.ts'), path.join(at, 'index.tsx'), path.join(at, 'index.js')];
  if (itself && path.extname(at)) candidates.unshift(at);
  return candidates.find((file) => (itself || file !== at) && existsSync(file) && statSync(file).isFile());
}

export async function load(url, context, next) {
  const extension = url.startsWith('file:') ? path.extname(new URL(url).pathname) : '';
  const { type } = context.importAttributes ?? context.importAssertions ?? {}; // the older name before Node.js 20.10
  if (extension === '.json' && type === undefined) {
    // As a TypeScript compiler takes it.
    return { format: 'module', source: `export default ${readFileSync(fileURLToPath(url), 'utf8')}`, shortCircuit: true };
  }
  if (!TYPESCRIPT.includes(extension)) return next(url, context);
  const file = fileURLToPath(url);
  const { code, isModule } = translated(readFileSync(file, 'utf8'), file, directory);
  return { format: isModule ? 'module' : 'commonjs', source: code, shortCircuit: true };
}
