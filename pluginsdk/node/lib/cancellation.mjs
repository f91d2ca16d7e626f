import { CanceledError } from './errors.mjs';

/** Whether a task was asked to end. Its signal is made when somebody wants it: it costs more than the rest of a small task. */
export class Cancellation {
  #controller;

  /** A CanceledError; undefined until then. */
  reason = undefined;

  get signal() {
    if (!this.#controller) {
      this.#controller = new AbortController();
      if (this.reason) this.#controller.abort(this.reason);
    }
    return this.#controller.signal;
  }

  /** The first reason counts. */
  cancel(reason) {
    if (this.reason) return;
    this.reason = new CanceledError(reason);
    this.#controller?.abort(this.reason);
  }
}
