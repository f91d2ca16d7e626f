// What this package needs of others. It is looked for beside this package, as npm installs it; else in the project whose
// handler is run; else where npm installs for the whole machine. So a copy of this package works in any of these cases.

import { createRequire } from 'node:module';
import path from 'node:path';
import process from 'node:process';

/** The error of require, for what is not installed. */
const NOT_FOUND = 'MODULE_NOT_FOUND';

const places = [import.meta.url];

/** Also look in the node_modules of a directory and of those above it. */
export function lookIn(directory) {
  places.push(path.join(directory, 'package.json'));
}

/** require, from the first place that has the package. */
export function need(name) {
  const global = path.join(path.dirname(process.execPath), '..', 'lib', 'package.json');
  let missing;
  for (const place of [...places, global]) {
    try {
      return createRequire(place)(name);
    } catch (err) {
      if (err.code !== NOT_FOUND || !String(err.message).includes(`'${name}'`)) throw err;
      missing = err;
    }
  }
  throw missing;
}
