"""From a function to a handler process."""

from __future__ import annotations

import inspect
import json
import os
import sys
from pathlib import Path
from typing import Any, Awaitable, Callable, Mapping, Optional, Sequence, Union

from . import _output, _process
from .artifact import Artifact, artifacts_of
from .task import AsyncTask, Task

Card = Union[str, "os.PathLike[str]", bytes, Mapping[str, Any]]
Function = Union[Callable[[Task], Any], Callable[[AsyncTask], Awaitable[Any]]]


def serve(
    handler: Function,
    card: Union[Card, Sequence[Card], None] = None,
    *,
    name: str = "",
    version: str = "",
    idempotent: bool = False,
) -> None:
    """Serves handler to the daemon that started this process, and does not return; only in a process that multiprocessing has
    started it does, at once.

    card is an agent card, or several: a path (from the folder of the program, also inside a zipapp), a dict, or bytes of
    JSON. Without one, it is a file beside the program or in the daemon's configuration. idempotent promises that a task
    that has published nothing may be repeated.
    """
    program = sys.argv[0] or "this program"
    if _process.of_multiprocessing():
        return
    if not _output.take_over():
        sys.exit(
            f"{os.path.basename(program)} is a Blocks handler and does nothing by itself: put it into a plugins directory of "
            f'blocksd, or try it with "blocksd dev --plugins {os.path.dirname(program) or "."}".'
        )
    from ._runners import OnLoop, in_thread
    from ._service import Served

    cards = [] if card is None else [card] if isinstance(card, (str, bytes, os.PathLike, Mapping)) else list(card)
    try:
        documents = [_document(c) for c in cards]
    except (OSError, ValueError) as err:
        _process.give_up(str(err))
    if not callable(handler):
        _process.give_up(f"what was given to blocksd.serve is no function but {handler!r}")
    if inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(getattr(handler, "__call__", None)):

        async def body(work: Any) -> None:
            task = AsyncTask(work)
            await task.send(*artifacts_of(await handler(task)))  # type: ignore[arg-type]

        start: Callable[[Any], None] = OnLoop(body).start
    else:

        def run(work: Any) -> Sequence[Artifact]:
            return artifacts_of(handler(Task(work)))  # type: ignore[arg-type]

        start = in_thread(run)
    _process.run(Served(start, name or os.path.basename(program), version, documents, idempotent))


def _document(card: Card) -> bytes:
    if isinstance(card, Mapping):
        return json.dumps(card).encode()
    if isinstance(card, bytes):
        data, where = card, "the agent card given to blocksd.serve"
    else:
        data, where = _read(os.fspath(card)), f"the agent card {os.fspath(card)}"
    try:
        json.loads(data)
    except ValueError as err:
        raise ValueError(f"{where} is not JSON: {err}") from None
    return data


def _read(path: str) -> bytes:
    main: Any = sys.modules.get("__main__")
    beside = Path(getattr(main, "__file__", None) or sys.argv[0]).absolute().parent / path
    loader: Optional[Any] = getattr(main, "__loader__", None)
    try:
        return beside.read_bytes()
    except OSError as err:
        if hasattr(loader, "get_data") and not os.path.isdir(beside.parent):  # inside a zipapp
            try:
                return loader.get_data(str(beside))  # type: ignore[union-attr,no-any-return]
            except OSError:
                pass
        raise OSError(f"read the agent card {beside}: {err.strerror or err}") from None
