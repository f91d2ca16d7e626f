"""python -m blocksd.project DIR"""

from __future__ import annotations

import inspect
import os
import sys
import threading
from pathlib import Path
from typing import Any, Callable

from .. import _output, _process
from .._process import Adopted
from .loader import ProjectError, load, prepare, read_card


def main() -> None:
    if len(sys.argv) != 2:
        print("usage: python -m blocksd.project DIR", file=sys.stderr)
        sys.exit(2)
    if not _output.take_over():
        sys.exit(
            "This runs a project as a handler of blocksd and does nothing by itself: try it with "
            f'"blocksd dev --project {sys.argv[1]}".'
        )
    # Before the project's directory is looked into for modules: one of its own may be called like one of Python's.
    import asyncio.runners
    import concurrent.futures.thread

    from .._runners import in_thread
    from .._service import Served
    from . import context, message  # noqa: F401

    directory = Path(os.path.abspath(sys.argv[1]))
    try:
        document, card = read_card(directory)
        prepare(directory)
    except ProjectError as err:
        _process.give_up(str(err))
    except OSError as err:
        _process.give_up(f"the project {directory} cannot be used: {err}")
    begin: Callable[[Any], None] = _nothing
    loaded = threading.Event()

    def start(work: Any) -> None:
        if loaded.is_set():
            begin(work)
        else:  # not on the loop, which must not wait
            threading.Thread(target=start_later, args=[work], daemon=True).start()

    def start_later(work: Any) -> None:
        loaded.wait()
        begin(work)

    identity = card["identity"] if isinstance(card.get("identity"), dict) else {}
    name, version = str(identity.get("agentName", "")), str(identity.get("version", ""))
    served = Served(start, name, version, [document])

    def load_handler() -> None:
        nonlocal begin
        try:
            handler = load(directory, card)
        except Adopted as adopted:  # a handler of this package, which has called serve
            begin, served.idempotent = adopted.served.start, adopted.served.idempotent
        except ProjectError as err:
            _process.give_up(str(err))
        else:
            begin = in_thread(lambda work: run(handler, work, card))
        loaded.set()

    _process.adopts = True
    _process.run(served, load_handler)


def _nothing(work: Any) -> None:
    """Stands for what is not loaded yet."""


def run(handler: Callable[..., Any], work: Any, card: Any) -> Any:
    """One task, by the rules of Blocks' own SDK."""
    from ..errors import Failure
    from .context import Context, returned
    from .message import message_of

    ctx = Context(work, card)
    try:
        try:
            result = handler(message_of(work), ctx)
            if inspect.isawaitable(result):
                result = _wait(result)
        finally:
            ctx.close()
    except Exception as err:
        if str(err):
            raise
        raise Failure(f"Agent instance error ({type(err).__name__})") from err
    return returned(result)


def _wait(result: Any) -> Any:
    import asyncio

    async def waited() -> Any:
        return await result

    return asyncio.run(waited())


if __name__ == "__main__":
    main()
