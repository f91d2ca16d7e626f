"""Where handlers run: a function in a thread of its own for each task, an async function on a loop that all share."""

from __future__ import annotations

import asyncio
import contextvars
import os
import queue
import sys
import threading
import traceback
from typing import Any, Callable, Coroutine, NoReturn, Sequence

from ._output import current_task
from ._work import Work
from .artifact import Artifact

# So many threads stay for further tasks. To make one takes longer than all the rest of a small task.
MAX_IDLE = 32

Body = Callable[[Work], Sequence[Artifact]]


def in_thread(body: Body) -> Callable[[Work], None]:
    """Runs body, which returns the last artifacts, in a thread that has nothing else to do meanwhile; what it raises fails
    the task. A body that blocks hurts only its task."""

    def run(work: Work) -> None:
        current_task.set(work.id)
        process = os.getpid()
        artifacts: Sequence[Artifact] = ()
        failure: BaseException | None = None
        try:
            artifacts = body(work)
        except BaseException as err:  # also SystemExit: it ends the task and not the process
            failure = err
        if os.getpid() != process:
            _end_child(failure)
        try:
            sys.stdout.flush()  # a line that was begun
        finally:
            work.finish(failure, artifacts)

    return _Threads(run).start


def _end_child(failure: BaseException | None) -> NoReturn:
    """Ends a process that a handler has forked and that has come to the end of its task, as a program ends."""
    code: Any = 0 if failure is None else 1
    if isinstance(failure, SystemExit):
        code = failure.code if isinstance(failure.code, int) else 1 if failure.code else 0
    elif failure is not None:
        traceback.print_exception(failure)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code & 0xFF)


class _Threads:
    def __init__(self, run: Callable[[Work], None]) -> None:
        self._run = run
        self._waiting: queue.SimpleQueue[Work] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._idle = 0

    def start(self, work: Work) -> None:
        with self._lock:
            idle = self._idle > 0
            if idle:
                self._idle -= 1
        if idle:
            self._waiting.put(work)
        else:
            threading.Thread(target=self._work, args=[work], daemon=True).start()

    def _work(self, work: Work) -> None:
        thread = threading.current_thread()
        while True:
            thread.name = f"task {work.id}"
            contextvars.Context().run(self._run, work)
            with self._lock:
                if self._idle >= MAX_IDLE:
                    return
                self._idle += 1
            del work  # nothing of it is kept until the next one
            work = self._waiting.get()


def _run_on(loop: asyncio.AbstractEventLoop) -> None:
    while not loop.is_closed():
        try:
            loop.run_forever()
        except (SystemExit, KeyboardInterrupt):  # of one handler, which gets it too: the others go on
            pass


class OnLoop:
    """Runs coroutines on a loop in a thread of its own, so that one that blocks does not hold up health and cancel."""

    def __init__(self, body: Callable[[Work], Coroutine[Any, Any, None]]) -> None:
        self._body = body
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=_run_on, args=[self._loop], name="async handlers", daemon=True).start()

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
