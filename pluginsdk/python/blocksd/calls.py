"""Calls to other agents, as handlers see them."""

from __future__ import annotations

import asyncio
import json
import os
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, AsyncIterator, Callable, Iterator, Optional, Union

from ._calls import CallCore
from ._pb import host_pb2
from ._streams import DIRECTIONS, FORMATS
from .artifact import Artifact
from .errors import Error
from .streams import AsyncStream, Stream


@dataclass
class Outcome:
    """How a called task ended: state is completed, failed or canceled."""

    state: str
    error: str
    event: dict[str, Any]


class CallFailed(Error):
    """A called task did not complete."""

    def __init__(self, agent_task: str, outcome: Outcome) -> None:
        text = f": {outcome.error}" if outcome.error else ""
        super().__init__(f"the called task {agent_task} ended as {outcome.state}{text}")
        self.outcome = outcome


@dataclass
class CalledStream:
    """A stream of a called task. direction is seen from here: "inbound" can be read."""

    id: str
    name: str  # its key in the card of the called agent; may be empty
    direction: str
    format: str
    shared: bool
    metadata: Any


def _described(s: host_pb2.CalledStream) -> CalledStream:
    metadata = json.loads(s.metadata_json) if s.metadata_json else None
    return CalledStream(s.stream_id, s.declared_stream, DIRECTIONS[s.direction], FORMATS[s.format], s.shared, metadata)


def _deadline(timeout: Optional[float]) -> Optional[float]:
    return None if timeout is None else time.monotonic() + timeout


class BaseCall:
    def __init__(self, core: CallCore) -> None:
        self._core = core
        self.task_id: str = core.task_id
        self.queued: bool = core.queued

    @property
    def artifacts(self) -> list[dict[str, Any]]:
        """The artifact events so far; their order is that of download."""
        return self._core.artifacts

    @property
    def streams(self) -> list[CalledStream]:
        """The streams that the called task has announced so far."""
        return [_described(s) for s in list(self._core.streams)]

    def _outcome(self, event: dict[str, Any]) -> Outcome:
        return Outcome(str(event.get("state", "")), str(event.get("error", "")), event)

    def close(self) -> None:
        """Follows the called task no more. It is canceled if it still runs and is not detached."""
        self._core.work._on_loop(self._core.close)


class Call(BaseCall):
    def events(self) -> Iterator[dict[str, Any]]:
        """Each event of the called task from its beginning, the terminal last."""
        seen = 0
        while self._core.work.wait(self._core.more(seen)):
            yield self._core.events[seen]
            seen += 1

    def wait(self, timeout: Optional[float] = None) -> Outcome:
        """Waits for the end; raises TimeoutError after timeout seconds, and Canceled when this task is asked to end."""
        return self._outcome(self._core.work.wait(self._core.end(timeout)))

    def download(self, index: int = 0) -> Artifact:
        """The artifact with that index."""
        info, data = self._core.work.wait(self._core.whole(index))
        return Artifact(data, info.mime_type, info.file_name, info.output_id)

    def result(self, timeout: Optional[float] = None) -> list[Artifact]:
        """Waits for the end and downloads all artifacts; raises CallFailed if the called task did not complete."""
        outcome = self.wait(timeout)
        if outcome.state != "completed":
            raise CallFailed(self.task_id, outcome)
        return [self.download(i) for i in range(len(self.artifacts))]

    def text(self, timeout: Optional[float] = None) -> str:
        """The first artifact of the result as a text."""
        artifacts = self.result(timeout)
        if not artifacts:
            raise Error(f"the called task {self.task_id} completed without an artifact")
        return bytes(artifacts[0].data).decode()  # type: ignore[arg-type]

    def stream(self, name: str = "", timeout: Optional[float] = None) -> Stream:
        """Waits until the called task has announced a stream, and opens it: the one with this key in the card or this id,
        or the only one. A request task has streams only if it was called with stream=True."""
        return Stream(self._core.work.wait(self._core.stream(name, timeout)))

    def stream_where(self, fits: Callable[[CalledStream], bool], timeout: Optional[float] = None) -> Stream:
        """Waits for the first stream for which fits returns true, and opens it. fits is called once for each
        stream, in the order of their announcements, in this thread."""
        deadline, seen = _deadline(timeout), 0
        while True:
            announced = self._core.work.wait(self._core.next_stream(seen, deadline, timeout))
            if fits(_described(announced)):
                return Stream(self._core.work.wait(self._core.open_stream(announced.stream_id)))
            seen += 1

    def open_all(self) -> Iterator[Stream]:
        """Opens each stream that can be read as it is announced, until the called task has ended. Those that are over
        before they could be opened are left out."""
        seen = 0
        while True:
            seen, core = self._core.work.wait(self._core.open_next(seen))
            if core is None:
                return
            yield Stream(core)

    def save(self, directory: Union[str, os.PathLike[str]]) -> list[Path]:
        """Saves the artifacts that have come so far as files in a directory, which is created if needed, and returns their
        paths in that order. Only the last element of a file name counts, so nothing is written elsewhere; no name begins
        with a dot or a dash, the extension of the media type is added to a name that has none, and a name that is taken
        gets a number. A file has its name only when it is complete. Raises SaveFailed, which has the paths so far."""
        return self._core.save(directory, threading.Event())

    def cancel(self) -> None:
        self._core.work.wait(self._core.control("cancel"))

    def __enter__(self) -> Call:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()


class AsyncCall(BaseCall):
    """The same for an async function."""

    async def events(self) -> AsyncIterator[dict[str, Any]]:
        seen = 0
        while await self._core.work.awaited(self._core.more(seen)):
            yield self._core.events[seen]
            seen += 1

    async def wait(self, timeout: Optional[float] = None) -> Outcome:
        return self._outcome(await self._core.work.awaited(self._core.end(timeout)))

    async def download(self, index: int = 0) -> Artifact:
        info, data = await self._core.work.awaited(self._core.whole(index))
        return Artifact(data, info.mime_type, info.file_name, info.output_id)

    async def result(self, timeout: Optional[float] = None) -> list[Artifact]:
        outcome = await self.wait(timeout)
        if outcome.state != "completed":
            raise CallFailed(self.task_id, outcome)
        return [await self.download(i) for i in range(len(self.artifacts))]

    async def text(self, timeout: Optional[float] = None) -> str:
        artifacts = await self.result(timeout)
        if not artifacts:
            raise Error(f"the called task {self.task_id} completed without an artifact")
        return bytes(artifacts[0].data).decode()  # type: ignore[arg-type]

    async def stream(self, name: str = "", timeout: Optional[float] = None) -> AsyncStream:
        return AsyncStream(await self._core.work.awaited(self._core.stream(name, timeout)))

    async def stream_where(self, fits: Callable[[CalledStream], bool], timeout: Optional[float] = None) -> AsyncStream:
        deadline, seen = _deadline(timeout), 0
        while True:
            announced = await self._core.work.awaited(self._core.next_stream(seen, deadline, timeout))
            if fits(_described(announced)):
                return AsyncStream(await self._core.work.awaited(self._core.open_stream(announced.stream_id)))
            seen += 1

    async def open_all(self) -> AsyncIterator[AsyncStream]:
        seen = 0
        while True:
            seen, core = await self._core.work.awaited(self._core.open_next(seen))
            if core is None:
                return
            yield AsyncStream(core)

    async def save(self, directory: Union[str, os.PathLike[str]]) -> list[Path]:
        over = threading.Event()
        try:
            return await asyncio.to_thread(self._core.save, directory, over)
        finally:
            over.set()  # who was canceled waits no more, and the thread ends with the next piece

    async def cancel(self) -> None:
        await self._core.work.awaited(self._core.control("cancel"))

    async def __aenter__(self) -> AsyncCall:
        return self

    async def __aexit__(self, *_: Any) -> None:
        self.close()
