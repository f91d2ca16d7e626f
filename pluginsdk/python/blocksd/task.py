"""What a handler is called with: Task for a function, AsyncTask for an async function."""

from __future__ import annotations

import asyncio
import io
import json
import os
import shutil
import threading
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any, Mapping, Optional, Sequence, Union

from ._calls import CallCore, Input, inputs_of
from ._streams import StreamCore
from ._work import Work
from .artifact import artifacts_of
from .calls import AsyncCall, Call
from .errors import Canceled, Error
from .streams import AsyncStream, ExternalStream, Stream


@dataclass
class Part:
    """One input as the caller sent it. text is None when it carries none, and so is file."""

    id: str
    content_type: str
    text: Optional[str]
    file: Optional[FileInfo]
    raw: Any  # the JSON value that was received, with members that have no field here


@dataclass
class FileInfo:
    """A file as its sender announced it. The name is the sender's choice: never use it as a path unchecked."""

    name: str
    mime_type: str
    size: int


class BaseTask:
    """What both kinds of task know."""

    def __init__(self, work: Work) -> None:
        self._work = work
        m = work.message
        self.id: str = work.id
        self.agent_name: str = m.agent_name
        self.pipe: bool = m.kind == 2
        self.owner_id: str = m.owner_id
        self.org_id: str = m.org_id
        self.caller_claims: dict[str, Any] = json.loads(m.caller_claims_json or b"{}")
        self.request_summary: dict[str, Any] = json.loads(m.request_summary_json or b"{}")
        self.deadline: Optional[datetime] = None
        if m.HasField("deadline"):
            self.deadline = datetime.fromtimestamp(m.deadline.seconds + m.deadline.nanos / 1e9, timezone.utc)
        self.duration: Optional[timedelta] = timedelta(seconds=m.duration.seconds) if m.HasField("duration") else None
        self.has_stream: bool = m.has_stream
        self.consumer_public_key: str = m.consumer_public_key
        self.trace_context: dict[str, str] = dict(m.trace_context)
        self.parts: list[Part] = [
            Part(
                p.part_id,
                p.content_type,
                p.text if p.HasField("text") else None,
                FileInfo(p.file.name, p.file.mime_type, p.file.size) if p.HasField("file") else None,
                json.loads(p.raw_json) if p.raw_json else None,
            )
            for p in m.parts
        ]

    @property
    def canceled(self) -> bool:
        return bool(self._work.cancel_reason)

    @property
    def cancel_reason(self) -> str:
        """Why the task is asked to end: user, expired, terminated, deadline, drain, shutdown, or ended when the daemon
        has ended the call; empty while it is not."""
        return self._work.cancel_reason

    def status(self, text: str) -> None:
        """Shows a text to the consumer. The daemon publishes at most one a second and keeps the latest."""
        self._work.status(text)

    def complete(self) -> None:
        """Lets a pipe task end when the handler returns. Without it the task goes on, and its streams with it, until its time
        is over, somebody ends it, or end is called; it still may say statuses, and hears of a cancel."""
        self._work.final = True

    def text(self, id: str = "") -> str:
        """The text of the first part called id that has one; of the first text at all without an id."""
        for part in self.parts:
            if part.text is not None and id in ("", part.id):
                return part.text
        raise Error(f"the input {id!r} is missing" if id else "there is no text among the inputs")

    def json(self, id: str = "") -> Any:
        """The JSON document in a text."""
        text = self.text(id)
        try:
            return json.loads(text)
        except ValueError as err:
            raise Error(f"the input {id!r} is not the JSON document that was expected: {err}") from None

    def _file(self, id: Union[str, int]) -> int:
        for index, part in enumerate(self.parts):
            if part.file is not None and (index == id if isinstance(id, int) else id in ("", part.id)):
                return index
        raise Error(f"the input {id!r} has no file" if id != "" else "there is no file among the inputs")


class Task(BaseTask):
    """A task in a thread of its own. Its methods may be called from other threads as well, until the handler returns; those
    of a pipe task until that has ended."""

    @property
    def cancel_event(self) -> threading.Event:
        """Set when the task is asked to end."""
        return self._work.cancel_event

    def sleep(self, seconds: float) -> None:
        """Waits, and raises Canceled as soon as the task is asked to end."""
        if self._work.cancel_event.wait(seconds):
            raise self._work.interrupted()

    def raise_if_canceled(self) -> None:
        if self.canceled:
            raise self._work.interrupted()

    def bytes(self, id: Union[str, int] = "") -> bytes:
        """The file of the part called id, or with that index, or of the first part that has one."""
        with self.open(id) as file:
            return file.read()

    def open(self, id: Union[str, int] = "") -> io.BufferedReader:
        """The same as a file that is read as it comes."""
        return io.BufferedReader(_Download(self._work, self._file(id)), 256 << 10)

    def save(self, path: Union[str, os.PathLike[str]], id: Union[str, int] = "") -> None:
        """The same into a file of this machine."""
        with self.open(id) as source, open(path, "wb") as target:
            shutil.copyfileobj(source, target, 256 << 10)

    def send(self, *results: Any) -> None:
        """Publishes artifacts in order with statuses, as part of the answer, as if they were returned. If one cannot be
        published, the task fails."""
        self._work.send_all(artifacts_of(list(results)))

    def publish(self, *results: Any) -> None:
        """Publishes artifacts while the task goes on, and returns when the network has them."""
        for artifact in artifacts_of(list(results)):
            self._work.wait(self._work.publish(artifact))

    def stream(
        self, name: str = "", *, direction: str = "", format: str = "", metadata: Any = None, grace: float = 0
    ) -> Stream:
        """Creates a stream that the card declares; the name may be left out if there is only one. grace is how long to
        wait for the consumer to open it, in seconds."""
        return Stream(self._work.wait(StreamCore.create(self._work, name, direction, format, metadata, False, grace)))

    def external_stream(self, name: str = "", *, metadata: Any = None) -> ExternalStream:
        """Creates a stream of a pipe task that another process writes."""
        core = self._work.wait(StreamCore.create(self._work, name, "", "", metadata, True, 0))
        return ExternalStream(core)

    def call(
        self,
        agent: str,
        parts: Union[Mapping[str, Any], Sequence[Input], str],
        *,
        minutes: Optional[int] = None,
        idempotency_key: str = "",
        detached: bool = False,
        trace_context: Optional[Mapping[str, str]] = None,
        stream: bool = False,
    ) -> Call:
        """Submits a task to another agent. parts are its inputs by id, or one text for the input "request". minutes make
        it a pipe task. It is canceled with this task, or when the call is closed, unless it is detached. trace_context is
        that of a span of the handler's own; without it the called task belongs to this one. stream asks for the streams of
        a request task; a pipe task always has them."""
        inputs = inputs_of(parts)
        submit = CallCore.submit(self._work, agent, inputs, minutes, idempotency_key, "", detached, trace_context, stream)
        return Call(self._work.wait(submit))

    def end(self, error: Union[BaseException, str, None] = None) -> None:
        """Ends a pipe task, as soon as its handler has returned."""
        self._work.end_pipe(error)


class AsyncTask(BaseTask):
    """A task of an async function. When it is asked to end, the function is canceled as asyncio does it: what it awaits
    raises asyncio.CancelledError, which it may catch to clean up."""

    def raise_if_canceled(self) -> None:
        if self.canceled:
            raise self._work.interrupted()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def bytes(self, id: Union[str, int] = "") -> bytes:
        """The file of the part called id, or with that index, or of the first part that has one."""
        return await self._work.awaited(_whole(self._work, self._file(id)))

    async def save(self, path: Union[str, os.PathLike[str]], id: Union[str, int] = "") -> None:
        """The same into a file of this machine."""
        await self._work.awaited(_into(self._work, self._file(id), path))

    async def send(self, *results: Any) -> None:
        """Publishes artifacts in order with statuses, as part of the answer, as if they were returned. If one cannot be
        published, the task fails."""
        for artifact in artifacts_of(list(results)):
            await self._work.awaited(self._work.send(artifact))

    async def publish(self, *results: Any) -> None:
        """Publishes artifacts while the task goes on, and returns when the network has them."""
        for artifact in artifacts_of(list(results)):
            await self._work.awaited(self._work.publish(artifact))

    async def stream(
        self, name: str = "", *, direction: str = "", format: str = "", metadata: Any = None, grace: float = 0
    ) -> AsyncStream:
        """Creates a stream that the card declares; the name may be left out if there is only one. grace is how long to
        wait for the consumer to open it, in seconds."""
        create = StreamCore.create(self._work, name, direction, format, metadata, False, grace)
        return AsyncStream(await self._work.awaited(create))

    async def call(
        self,
        agent: str,
        parts: Union[Mapping[str, Any], Sequence[Input], str],
        *,
        minutes: Optional[int] = None,
        idempotency_key: str = "",
        detached: bool = False,
        trace_context: Optional[Mapping[str, str]] = None,
        stream: bool = False,
    ) -> AsyncCall:
        """Submits a task to another agent, as Task.call does."""
        inputs = inputs_of(parts)
        submit = CallCore.submit(self._work, agent, inputs, minutes, idempotency_key, "", detached, trace_context, stream)
        return AsyncCall(await self._work.awaited(submit))

    async def end(self, error: Union[BaseException, str, None] = None) -> None:
        """Ends a pipe task, as soon as its handler has returned."""
        self._work.end_pipe(error)


async def _whole(work: Work, index: int) -> bytes:
    data = bytearray()
    async for _, piece in work.download(index):
        data += piece
    return bytes(data)


async def _into(work: Work, index: int, path: Union[str, os.PathLike[str]]) -> None:
    loop = asyncio.get_running_loop()
    with open(path, "wb") as file:
        async for _, piece in work.download(index):
            await loop.run_in_executor(None, file.write, piece)


class _Download(io.RawIOBase):
    """A file input, read as it comes."""

    def __init__(self, work: Work, index: int) -> None:
        self._work = work
        self._pieces = work.download(index)
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._rest:
            piece = self._work.wait(self._next())
            if piece is None:
                return 0
            self._rest = memoryview(piece)
        n = min(len(buffer), len(self._rest))
        buffer[:n] = self._rest[:n]
        self._rest = self._rest[n:]
        return n

    async def _next(self) -> Optional[bytes]:
        try:
            return (await self._pieces.__anext__())[1]
        except StopAsyncIteration:
            return None

    async def _stop(self) -> None:
        await self._pieces.aclose()  # type: ignore[attr-defined]

    def close(self) -> None:
        if not self.closed:
            self._work.wait(self._stop())
        super().close()


__all__ = ["AsyncTask", "Canceled", "FileInfo", "Part", "Task"]
