"""Where handlers run: a function in a thread of its own for each task, an async function on a loop that all share."""

from __future__ import annotations

import asyncio
import sys
import threading
from typing import Any, Callable, Coroutine

from ._output import current_task
from ._work import Work


def in_thread(body: Callable[[Work], None]) -> Callable[[Work], None]:
    """Starts body in a thread; what it raises fails the task. A body that blocks hurts only its task."""

    def run(work: Work) -> None:
        current_task.set(work.id)
        try:
            body(work)
        except BaseException as err:  # also SystemExit: it ends the task and not the process
            work.finish(err)
        else:
            work.finish()
        finally:
            sys.stdout.flush()  # a line that was begun

    def start(work: Work) -> None:
        threading.Thread(target=run, args=[work], name=f"task {work.id}", daemon=True).start()

    return start


class OnLoop:
    """Runs coroutines on a loop in a thread of its own, so that one that blocks does not hold up health and cancel."""

    def __init__(self, body: Callable[[Work], Coroutine[Any, Any, None]]) -> None:
        self._body = body
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, name="async handlers", daemon=True).start()

    def start(self, work: Work) -> None:
        asyncio.run_coroutine_threadsafe(self._run(work), self._loop)

    async def _run(self, work: Work) -> None:
        current_task.set(work.id)
        task = asyncio.ensure_future(self._body(work))

        def cancel() -> None:
            self._loop.call_soon_threadsafe(task.cancel)

        work.loop.call_soon_threadsafe(work.when_canceled, cancel)
        try:
            await task
        except asyncio.CancelledError as err:
            work.finish(work.interrupted() if work.cancel_reason else err)
        except BaseException as err:
            work.finish(err)
        else:
            work.finish()
