// Translates TypeScript. Removing the types is enough for nearly every file; what has to be compiled is left to the TypeScript
// that the project itself has installed.

import { createRequire } from 'node:module';
import path from 'node:path';
import { compileFunction } from 'node:vm';

import { need } from './dependencies.mjs';

/** The names that a CommonJS module has of itself. */
const WRAPPED = ['exports', 'require', 'module', '__filename', '__dirname'];

/** The code of a file, and whether it is a module of today's kind. A file that cannot be translated is a SyntaxError. */
export function translated(text, file, project) {
  const what = compiled(text, path.extname(file));
  let code = what ? compileOrSay(text, file, project, what) : byRemoval(text, file, project);
  const isModule = !file.endsWith('.cts') && (file.endsWith('.mts') || /^\s*(?:import\b|export\b)/m.test(code) || !isScript(code));
  if (isModule && /\brequire\(/.test(code) && /^\s*(?:export\s+)?import\s+\w+\s*=\s*require\b/m.test(text)) {
    code = `import { createRequire as __createRequire } from 'node:module'; const require = __createRequire(import.meta.url); ${code}`;
  }
  return { code, isModule };
}

function byRemoval(text, file, project) {
  const transforms = file.endsWith('.tsx') ? ['typescript', 'jsx'] : ['typescript'];
  let transform;
  try {
    ({ transform } = need('sucrase'));
  } catch (err) {
    const ts = compilerOf(project); // slower to start, and there already
    if (!ts) throw err;
    return byCompiler(ts, text, file, project);
  }
  try {
    return transform(text, { transforms, filePath: file, disableESTransforms: true, keepUnusedImports: false }).code;
  } catch (err) {
    throw new SyntaxError(String(err.message).replace(/^Error transforming /, ''));
  }
}

function compileOrSay(text, file, project, { what, line }) {
  const ts = compilerOf(project);
  if (ts) return byCompiler(ts, text, file, project);
  const into = /^[\w@%+=:,./-]+$/.test(project) ? project : `'${project.replaceAll("'", String.raw`'\''`)}'`;
  const where = `${path.relative(project, file)}, line ${line}`;
  throw new SyntaxError(`${where} has ${what}, which TypeScript itself has to compile: npm install --prefix ${into} typescript@5`);
}

function byCompiler(ts, text, file, project) {
  const configured = ts.readConfigFile(path.join(project, 'tsconfig.json'), ts.sys.readFile).config ?? {};
  const { options } = ts.parseJsonConfigFileContent({ ...configured, files: [file], include: undefined }, ts.sys, project);
  const compilerOptions = {
    ...options, module: ts.ModuleKind.ESNext, target: ts.ScriptTarget.ES2022, sourceMap: false, inlineSourceMap: true, declaration: false,
    noEmit: false, emitDeclarationOnly: false, verbatimModuleSyntax: false, outDir: undefined, sourceRoot: undefined, mapRoot: undefined,
  };
  const { outputText, diagnostics } = ts.transpileModule(text, { compilerOptions, fileName: file, reportDiagnostics: true });
  const wrong = diagnostics?.find((d) => d.category === ts.DiagnosticCategory.Error);
  if (wrong) {
    const at = wrong.start === undefined ? '' : `, line ${text.slice(0, wrong.start).split('\n').length}`;
    throw new SyntaxError(`${path.relative(project, file)}${at}: ${ts.flattenDiagnosticMessageText(wrong.messageText, ' ')}`);
  }
  return outputText;
}

/** The TypeScript of the project; newer ones than 5 cannot be asked from a program. */
function compilerOf(project) {
  try {
    const ts = createRequire(path.join(project, 'package.json'))('typescript');
    return typeof ts.transpileModule === 'function' ? ts : undefined;
  } catch {
    return undefined;
  }
}

/** What of a file is more than types, with its line; undefined if nothing is. */
function compiled(text, extension) {
  const bare = blanked(text);
  const lineOf = (at) => bare.slice(0, at).split('\n').length;
  const decorator = (extension === '.tsx' ? /^\s*@(?=[A-Za-z_$(])/m : /@(?=[A-Za-z_$(])/).exec(bare);
  if (decorator) return { what: 'a decorator', line: lineOf(decorator.index + decorator[0].length) };
  const accessor = /(?:^|[{;}])\s*(?:(?:public|private|protected|static|override|readonly)\s+)*accessor\s+[\w$#]+\s*[:=;!]/m.exec(bare);
  if (accessor) return { what: 'an accessor field', line: lineOf(accessor.index + accessor[0].length) };
  for (const space of bare.matchAll(/(?<!\bdeclare\s+)\b(?:namespace|module)\s+[\w$.]+\s*\{/g)) {
    if (/(?<!\bdeclare\s+)\b(?:const|let|var|function|class|enum)\s+[\w${[]/.test(bodyOf(bare, space.index + space[0].length))) {
      return { what: 'a namespace with values', line: lineOf(space.index) };
    }
  }
  return undefined;
}

/** The text up to the brace that closes. */
function bodyOf(text, from) {
  let open = 1;
  let at = from;
  for (; at < text.length && open > 0; at++) {
    if (text[at] === '{') open++;
    else if (text[at] === '}') open--;
  }
  return text.slice(from, at - 1);
}

/** The text with spaces where it has strings and comments. */
function blanked(text) {
  const skipped = /"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'|`(?:\\[\s\S]|[^`\\])*`|\/\/[^\n]*|\/\*[\s\S]*?\*\//g;
  return text.replaceAll(skipped, (found) => found.replaceAll(/[^\n]/g, ' '));
}

function isScript(code) {
  try {
    compileFunction(code, WRAPPED);
    return true;
  } catch {
    return false;
  }
}
