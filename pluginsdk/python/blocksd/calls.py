"""Calls to other agents, as handlers see them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, AsyncIterator, Iterator, Optional

from ._calls import CallCore
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


class BaseCall:
    def __init__(self, core: CallCore) -> None:
        self._core = core
        self.task_id: str = core.task_id
        self.queued: bool = core.queued

    @property
    def artifacts(self) -> list[dict[str, Any]]:
        """The artifact events so far; their order is that of download."""
        return [e for e in list(self._core.events) if e.get("type") == "artifact"]

    @property
    def streams(self) -> list[CalledStream]:
        """The streams that the called task has announced so far."""
        return [
            CalledStream(
                s.stream_id, s.declared_stream, DIRECTIONS[s.direction], FORMATS[s.format], s.shared,
                json.loads(s.metadata_json) if s.metadata_json else None,
            )
            for s in list(self._core.streams)
        ]  # fmt: skip

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

    async def cancel(self) -> None:
        await self._core.work.awaited(self._core.control("cancel"))

    async def __aenter__(self) -> AsyncCall:
        return self

    async def __aexit__(self, *_: Any) -> None:
        self.close()
