import process from 'node:process';

import { COOKIE } from './contract.mjs';
import { quiet } from './server.mjs';

// Standard output belongs to the handshake from the first line of the program on, not only from serve on.
if (process.env[COOKIE.name] === COOKIE.value) quiet();

export { CanceledError, HostError, PublicError, SaveError, TaskEndedError } from './errors.mjs';
export { log } from './log.mjs';
export { serve } from './server.mjs';
