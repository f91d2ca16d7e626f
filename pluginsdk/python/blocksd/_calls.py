"""One task that this task has submitted to another agent, on the loop of the gRPC server."""

from __future__ import annotations

import asyncio
import json
import os
import threading
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, AsyncGenerator, AsyncIterator, Callable, Generator, Mapping, Sequence, Union

from . import _rpc
from ._host import HostCall, before
from ._pb import host_pb2, task_pb2
from ._savedir import SaveDir, safe_name
from ._streams import DIRECTIONS, StreamCore
from ._work import Work
from .errors import Error, HostError, SaveFailed


@dataclass
class Input:
    """One input of a called task: a text, or a file as bytes or as a path."""

    id: str
    text: Union[str, None] = None
    file: Union[bytes, str, os.PathLike[str], None] = None
    file_name: str = ""
    content_type: str = ""


def inputs_of(parts: Union[Mapping[str, Any], Sequence[Input], str]) -> list[Input]:
    """Inputs as a caller may give them: a mapping from id to a text, bytes, a path or a JSON value; or a list."""
    if isinstance(parts, str):
        parts = {"request": parts}
    if not isinstance(parts, Mapping):
        return list(parts)
    inputs = []
    for key, value in parts.items():
        if isinstance(value, Input):
            inputs.append(value)
        elif isinstance(value, str):
            inputs.append(Input(key, text=value))
        elif isinstance(value, (bytes, bytearray, memoryview)):
            inputs.append(Input(key, file=bytes(value)))
        elif isinstance(value, os.PathLike):
            inputs.append(Input(key, file=value))
        else:
            inputs.append(Input(key, text=json.dumps(value, ensure_ascii=False)))
    return inputs


class CallCore:
    """events are the events of the called task so far, the terminal last, and streams its streams; other threads may read
    the lists."""

    def __init__(self, work: Work) -> None:
        self.work = work
        self.task_id = ""
        self.queued = False
        self.idempotent = False
        self.events: list[dict[str, Any]] = []
        self.streams: list[host_pb2.CalledStream] = []
        self.error: Error | None = None  # why there are no further events, if that is not their end
        self.closed = False
        # on_news is called on the loop after each event or stream, and at the end.
        self.on_news: Callable[[], None] | None = None
        self._call: HostCall | None = None
        self._news = asyncio.Event()
        self._reader: asyncio.Task[None] | None = None
        self._opened: dict[str, StreamCore] = {}

    @classmethod
    async def submit(
        cls,
        work: Work,
        agent: str,
        inputs: Sequence[Input],
        minutes: int | None = None,
        idempotency_key: str = "",
        owner_id: str = "",
        detached: bool = False,
        trace_context: Mapping[str, str] | None = None,
        stream: bool = False,
    ) -> CallCore:
        core = cls(work)
        request = host_pb2.AgentCall(
            task_id=work.id, agent_name=agent, idempotency_key=idempotency_key, owner_id=owner_id, detached=detached,
            trace_context=trace_context or {}, stream=stream,
        )
        if minutes is not None:
            if isinstance(minutes, bool) or not isinstance(minutes, int) or not 1 <= minutes <= 43200:
                raise ValueError(f"the duration of a called pipe task is 1 to 43200 whole minutes, not {minutes!r}")
            request.duration.FromSeconds(minutes * 60)
        for given in inputs:
            part = request.parts.add(part_id=given.id or "", content_type=given.content_type)
            if given.file is not None:
                part.file.CopyFrom(_described(given))
            else:
                part.text = given.text or ""
        what = f"call the agent {agent!r}"
        core._call = call = work.host.start(what, "CallAgent")
        try:
            async for message in _requests(request, inputs):
                if call.ended:
                    break  # the answer says why
                await call.send(message)
            call.close()
            first = await call.read()
            if first is None or not first.HasField("submitted"):
                raise Error(f"{what}: the daemon did not say what was submitted")
        except BaseException:
            call.cancel()
            raise
        core.task_id, core.queued = first.submitted.task_id, first.submitted.queued
        core.idempotent = first.submitted.idempotent
        core._keep(first)
        core._reader = asyncio.ensure_future(core._read(call))
        return core

    async def _read(self, call: HostCall) -> None:
        try:
            while (answer := await call.read()) is not None:
                self._keep(answer)
                self._tell()
        except HostError as err:
            self.error = err
        except asyncio.CancelledError:
            pass
        finally:
            self.closed = True
            self._tell()

    def _keep(self, answer: host_pb2.CallAgentResponse) -> None:
        self.streams.extend(answer.streams)
        if answer.event_json:
            self.events.append(json.loads(answer.event_json))

    def _tell(self) -> None:
        self._news.set()
        self._news = asyncio.Event()
        if self.on_news is not None:
            self.on_news()

    @property
    def terminal(self) -> dict[str, Any] | None:
        if self.events and self.events[-1].get("type") == "terminal":
            return self.events[-1]
        return None

    @property
    def artifacts(self) -> list[dict[str, Any]]:
        """The events of artifacts so far, in the order of the numbers that the daemon has for them."""
        return [e for e in list(self.events) if e.get("type") == "artifact" and isinstance(e.get("artifactRef"), dict)]

    async def more(self, seen: int) -> bool:
        """Waits until there are more events than seen; False when there will be none."""
        return await self._longer(self.events, seen)

    async def more_streams(self, seen: int, deadline: float | None, timeout: float | None) -> bool:
        """The same for streams; timeout is what the deadline, of the monotonic clock, was made of."""
        left = None if deadline is None else max(0, deadline - time.monotonic())
        try:
            return await asyncio.wait_for(self._longer(self.streams, seen), left)
        except asyncio.TimeoutError:
            raise TimeoutError(f"the called task {self.task_id} has not announced the stream after {timeout:g} s") from None

    async def _longer(self, seen_of: Sequence[Any], seen: int) -> bool:
        while len(seen_of) <= seen:
            if self.terminal is not None:
                return False
            if self.closed:
                if self.error is not None:
                    raise self.error
                return False
            news = asyncio.ensure_future(self._news.wait())
            try:
                if await before(self.work.canceled, news) is None:
                    raise self.work.interrupted()
            finally:
                news.cancel()
        return True

    async def open_stream(self, id: str) -> StreamCore:
        """Opens a stream, once."""
        if id not in self._opened:
            request = host_pb2.OpenCallStreamRequest(task_id=self.work.id, called_task_id=self.task_id, stream_id=id)
            opened = (await self.work.host.call(f"open the stream {id} of the called task", "OpenCallStream", request)).stream
            made = host_pb2.CreateStreamResponse(
                stream_id=opened.stream_id, declared_stream=opened.declared_stream, direction=opened.direction,
                format=opened.format, shared=opened.shared,
            )  # fmt: skip
            self._opened.setdefault(id, StreamCore(self.work, made, self.task_id))
        return self._opened[id]

    async def stream(self, name: str, timeout: float | None) -> StreamCore:
        """Waits for a stream and opens it: the one with that key in the card or that id, or the only one."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            found = [s for s in self.streams if s.declared_stream == name] or [s for s in self.streams if s.stream_id == name]
            if not name:
                found = list(self.streams)
            if len(found) > 1 and not name:
                raise Error(f"the called task {self.task_id} has several streams: name one of {', '.join(map(_name, found))}")
            if found:
                return await self.open_stream(found[0].stream_id)
            if not await self.more_streams(len(self.streams), deadline, timeout):
                which = f"the stream {name!r}" if name else "a stream"
                raise Error(f"the called task {self.task_id} has ended without {which}")

    async def next_stream(self, seen: int, deadline: float | None, timeout: float | None) -> host_pb2.CalledStream:
        """Waits for the stream that is announced after so many others."""
        if not await self.more_streams(seen, deadline, timeout):
            raise Error(f"the called task {self.task_id} has ended without a stream that fits")
        return self.streams[seen]

    async def open_next(self, seen: int) -> tuple[int, StreamCore | None]:
        """Waits for the next stream that can be read, and opens it; None when there will be no more. With it comes how many
        have been seen then."""
        while await self.more_streams(seen, None, None):
            announced = self.streams[seen]
            seen += 1
            if DIRECTIONS[announced.direction] == "outbound":
                continue
            try:
                return seen, await self.open_stream(announced.stream_id)
            except HostError as err:
                if err.code != "FAILED_PRECONDITION":  # else it is over
                    raise
        return seen, None

    async def end(self, timeout: float | None) -> dict[str, Any]:
        """The terminal event."""
        try:
            return await asyncio.wait_for(self._end(), timeout)
        except asyncio.TimeoutError:
            raise TimeoutError(f"task {self.task_id} of the called agent has not ended after {timeout:g} s") from None

    async def _end(self) -> dict[str, Any]:
        seen = 0
        while await self.more(seen):
            seen = len(self.events)
        if (terminal := self.terminal) is None:
            raise Error(f"nothing more is heard of the called task {self.task_id}, which has not ended")
        return terminal

    async def control(self, verb: str) -> None:
        await control(self.work, self.task_id, verb)

    async def download(self, index: int) -> AsyncGenerator[tuple[task_pb2.ArtifactInfo | None, bytes], None]:
        request = host_pb2.DownloadCallArtifactRequest(task_id=self.work.id, called_task_id=self.task_id, artifact_index=index)
        async for answer in self.work.host.each(f"download artifact number {index + 1}", "DownloadCallArtifact", request):
            yield (answer.info if answer.HasField("info") else None), answer.data

    async def whole(self, index: int) -> tuple[task_pb2.ArtifactInfo, bytes]:
        info, data = task_pb2.ArtifactInfo(), bytearray()
        async for described, piece in self.download(index):
            if described is not None:
                info = described
            data += piece
        return info, bytes(data)

    def save(self, directory: Union[str, os.PathLike[str]], over: threading.Event) -> list[Path]:
        """Saves the artifacts so far. It blocks, and must not run on the loop; over ends it before its time."""
        paths: list[Path] = []
        try:
            with closing(SaveDir(directory)) as to:
                for index, event in enumerate(self.artifacts):
                    ref = event["artifactRef"]
                    name = safe_name(str(ref.get("fileName") or ""), str(ref.get("mimeType") or ""), index)
                    with closing(self._pieces(index, over)) as pieces:
                        paths.append(to.save(name, pieces))
        except (Error, OSError) as err:
            why = err.strerror if isinstance(err, OSError) and err.strerror else err
            what = f"save the artifacts of the called task {self.task_id} in {os.fspath(directory)}"
            raise SaveFailed(f"{what}: {why}", paths) from err
        return paths

    def _pieces(self, index: int, over: threading.Event) -> Generator[bytes, None, None]:
        download = self.download(index)

        async def piece() -> bytes | None:
            async for _, data in download:
                return data
            return None

        try:
            while (data := self.work.wait(piece())) is not None:
                if over.is_set():
                    raise Error("nobody waits for it any more")
                yield data
        finally:
            self.work.wait(download.aclose())

    def close(self) -> None:
        """Follows the called task no more; it is canceled unless it has ended or is detached."""
        if self._call is not None:
            self._call.cancel()


def _name(stream: host_pb2.CalledStream) -> str:
    return stream.declared_stream or stream.stream_id


async def control(work: Work, called: str, verb: str) -> None:
    request = host_pb2.ControlCallRequest(task_id=work.id, called_task_id=called, verb=verb)
    await work.host.call(f"{verb} the called task {called}", "ControlCall", request)


def _described(given: Input) -> task_pb2.File:
    if isinstance(given.file, bytes):
        name, size = given.file_name or "attachment", len(given.file)
    else:
        path = Path(given.file)  # type: ignore[arg-type]
        name, size = given.file_name or path.name, path.stat().st_size
    return task_pb2.File(name=name, mime_type=given.content_type or "application/octet-stream", size=size)


async def _requests(call: host_pb2.AgentCall, inputs: Sequence[Input]) -> AsyncIterator[host_pb2.CallAgentRequest]:
    yield host_pb2.CallAgentRequest(call=call)
    loop = asyncio.get_running_loop()
    for index, given in enumerate(inputs):
        if given.file is None:
            continue
        if isinstance(given.file, bytes):
            for start in range(0, len(given.file), _rpc.CHUNK):
                yield host_pb2.CallAgentRequest(part_index=index, data=given.file[start : start + _rpc.CHUNK])
            continue
        with open(given.file, "rb") as file:
            while data := await loop.run_in_executor(None, file.read, _rpc.CHUNK):
                yield host_pb2.CallAgentRequest(part_index=index, data=data)
