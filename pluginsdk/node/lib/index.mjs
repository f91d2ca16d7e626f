export { CanceledError, HostError, PublicError, TaskEndedError } from './errors.mjs';
export { log } from './log.mjs';
export { serve } from './server.mjs';
