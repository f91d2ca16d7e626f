"""One task under way: what is sent for it, in which order, and whether it was asked to end.

The coroutines run on the loop of the server; what the other methods may be called from is said there.
"""

from __future__ import annotations

import asyncio
import collections
import threading
import time
from typing import Any, AsyncIterator, Callable, Coroutine, Sequence, TypeVar

from . import _rpc
from ._host import Host
from ._pb import handler_pb2, host_pb2, task_pb2
from ._server import ServerCall
from .artifact import Artifact, read_some
from .errors import Canceled, Error, TaskEnded, cut, texts

T = TypeVar("T")

# A message for the daemon, or None to only mark a place in the order; who waits for it.
Item = tuple["bytes | None", "asyncio.Future[int] | None"]

# Kind of a task that lasts.
PIPE = 2

# Statuses that follow closer than this on each other wait for the last of them, in seconds: the daemon publishes one a
# second.
STATUS_PAUSE = 0.05

# What goes on when the handler of a pipe task has returned has so long to end after a cancel, in seconds: what it writes
# meanwhile is taken.
LAST_WORDS = 0.25


class Work:
    """What is sent may have to wait until the daemon has room. Whoever adds something sends what can be sent, in its own
    thread; _sending guards that and the order."""

    def __init__(self, message: task_pb2.Task, host: Host, loop: asyncio.AbstractEventLoop, call: ServerCall) -> None:
        self.message = message
        self.id: str = message.task_id
        self.host = host
        self.loop = loop
        self.final = False  # a pipe task ends with the answer
        self._returned = False  # a pipe task whose handler has succeeded goes on until it is asked to end, or ends itself
        self._ending: list[BaseException | str | None] = []  # how it ends itself
        self.cancel_event = threading.Event()
        self.cancel_reason = ""
        self.canceled = asyncio.Event()
        # on_cancel are called on the loop, once.
        self.on_cancel: list[Callable[[], None]] = []
        self._call = call
        self._sending = threading.Lock()
        self._items: collections.deque[Item] = collections.deque()
        self._status: bytes | None = None  # the latest, if it waits
        self._status_at = -STATUS_PAUSE
        self._sent = 0
        self._closed = False  # nothing is taken any more
        self._artifact = asyncio.Lock()  # pieces of different artifacts never mix
        call.on_room = self._send_waiting

    # From any thread.

    def wait(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Runs a coroutine on the loop and blocks until it is done."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result()

    async def awaited(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """The same for code on another loop."""
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(coroutine, self.loop))

    def status(self, text: str) -> None:
        message = handler_pb2.StartTaskResponse(status=cut(str(text))).SerializeToString()
        now = time.monotonic()
        with self._sending:
            if self._closed:
                return
            if now - self._status_at < STATUS_PAUSE or self._items:
                if self._status is None:
                    self._on_loop(self.loop.call_later, STATUS_PAUSE, self._send_waiting)
                self._status = message
                return
            self._status_at = now
            self._status = None
            self._items.append((message, None))
            self._send_some()

    def send_all(self, artifacts: Sequence[Artifact]) -> None:
        """Sends artifacts, and blocks until they are on their way."""
        for artifact in artifacts:
            if not self._send_at_once(artifact):
                self.wait(self.send(artifact))

    def _send_at_once(self, artifact: Artifact) -> bool:
        """Sends an artifact of one piece, if nothing has to wait."""
        if (message := _one_piece(artifact)) is None or self._artifact.locked():
            return False
        with self._sending:
            if self._closed or not self._free():
                return False
            self._call.send(message)
            self._sent += 1
        return True

    def finish(self, err: BaseException | None = None, artifacts: Sequence[Artifact] = ()) -> None:
        """Ends the task, with its last artifacts. Only the first end counts."""
        if err is None and artifacts:
            try:
                if len(artifacts) == 1 and not self._lasts and self._finish_at_once(artifacts[0]):
                    return
                self.send_all(artifacts)
            except BaseException as failed:
                err = failed
        if err is None and self._lasts:
            # Its answer stays open, for statuses and a cancel.
            self._on_loop(self._go_on)
        else:
            self._put_last(_result(self.final) if err is None else _failed(err))

    @property
    def _lasts(self) -> bool:
        return self.message.kind == PIPE and not self.final

    def end_pipe(self, err: BaseException | str | None) -> None:
        """Ends a pipe task as soon as its handler has returned."""
        if self.message.kind != PIPE:
            raise Error("only a pipe task can be ended so: another one ends when its handler returns")
        if self._closed:
            raise TaskEnded()
        self._on_loop(self._end_pipe, err)

    def _finish_at_once(self, artifact: Artifact) -> bool:
        """Sends the only artifact and the end in one go."""
        if (message := _one_piece(artifact)) is None or self._artifact.locked():
            return False
        with self._sending:
            if self._closed or not self._free():
                return False
            self._closed = True
            self._call.send(message, _result(self.final), last=True)
        return True

    def _put(self, message: bytes | None, waiter: asyncio.Future[int] | None = None) -> None:
        with self._sending:
            if self._closed:
                raise TaskEnded()
            self._queue_status()
            self._items.append((message, waiter))
            self._send_some()

    def _put_last(self, message: bytes) -> None:
        with self._sending:
            if not self._closed:
                self._queue_status()
                self._closed = True
                self._items.append((message, None))
                self._send_some()

    def _send_waiting(self) -> None:
        with self._sending:
            self._send_some()
            if not self._items:
                self._queue_status()
                self._send_some()

    # With _sending held.

    def _free(self) -> bool:
        """Whether nothing has to wait."""
        return not self._items and self._status is None and self._call.has_room

    def _queue_status(self) -> None:
        """The status that waits comes before whatever follows."""
        if self._status is not None and not self._closed:
            self._items.append((self._status, None))
            self._status_at = time.monotonic()
        self._status = None

    def _send_some(self) -> None:
        """What there is room for."""
        while self._items and self._call.has_room:
            message, waiter = self._items.popleft()
            if message is not None:
                self._call.send(message, last=self._closed and not self._items)
                self._sent += 1
            if waiter is not None:
                self._on_loop(_tell, waiter, self._sent)

    # From any thread.

    def _on_loop(self, call: Callable[..., Any], *args: Any) -> None:
        try:
            self.loop.call_soon_threadsafe(call, *args)
        except RuntimeError:  # the loop is closed: the process ends
            pass

    # On the loop.

    def cancel(self, reason: str) -> None:
        """The first reason counts."""
        if self.cancel_reason:
            return
        self.cancel_reason = reason
        self.cancel_event.set()
        self.canceled.set()
        calls, self.on_cancel = self.on_cancel, []
        for call in calls:
            call()

    def when_canceled(self, call: Callable[[], None]) -> None:
        if self.cancel_reason:
            call()
        else:
            self.on_cancel.append(call)

    def gone(self) -> None:
        """The daemon has ended the call: nothing is sent any more."""
        with self._sending:
            self._closed = True
            while self._items:
                waiter = self._items.popleft()[1]
                if waiter is not None and not waiter.done():
                    waiter.set_exception(TaskEnded())
        self.cancel("ended")  # last: whoever is woken by it must not find that something can be sent

    async def _pass(self, message: handler_pb2.StartTaskResponse | None) -> int:
        """Waits until the message and all before it are on their way; returns how many that were."""
        waiter: asyncio.Future[int] = self.loop.create_future()
        self._put(None if message is None else message.SerializeToString(), waiter)
        return await waiter

    async def send(self, artifact: Artifact) -> None:
        async with self._artifact:
            async for chunk in chunks(artifact):
                await self._pass(handler_pb2.StartTaskResponse(artifact=chunk))

    async def publish(self, artifact: Artifact) -> None:
        # A task that has ended its answer but not itself, a pipe, still publishes.
        after = 0 if self._closed else await self._pass(None)

        async def requests() -> AsyncIterator[host_pb2.PublishArtifactRequest]:
            head: dict[str, Any] = {"task_id": self.id, "after_responses": after}
            async for chunk in chunks(artifact):
                yield host_pb2.PublishArtifactRequest(chunk=chunk, **head)
                head = {}

        await self.host.call("publish an artifact", "PublishArtifact", requests())

    async def download(self, index: int) -> AsyncIterator[tuple[task_pb2.File | None, bytes]]:
        """The file of a part: its description with the first piece."""
        request = host_pb2.DownloadInputRequest(task_id=self.id, part_index=index)
        async for answer in self.host.each(f"download input number {index + 1}", "DownloadInput", request):
            yield (answer.file if answer.HasField("file") else None), answer.data

    def _go_on(self) -> None:
        self._returned = True
        if self._ending:
            self._end_pipe(self._ending[0])
        else:
            self.when_canceled(self._end_soon)

    def _end_soon(self) -> None:
        self.loop.call_later(LAST_WORDS, self._put_last, _result(False))

    def _end_pipe(self, err: BaseException | str | None) -> None:
        if self._returned:
            self._put_last(_result(True) if err is None else _failed(err))
        else:
            self._ending.append(err)

    def interrupted(self) -> Canceled:
        return Canceled(self.cancel_reason)


def _tell(waiter: asyncio.Future[int], sent: int) -> None:
    if not waiter.done():
        waiter.set_result(sent)


def _result(final: bool) -> bytes:
    return _FINAL if final else _RESULT


_RESULT: bytes = handler_pb2.StartTaskResponse(result=handler_pb2.Result()).SerializeToString()
_FINAL: bytes = handler_pb2.StartTaskResponse(result=handler_pb2.Result(final=True)).SerializeToString()


def _failed(err: BaseException | str) -> bytes:
    public, private = (cut(err), "") if isinstance(err, str) else texts(err)
    error = handler_pb2.Error(public_message=public, private_message=private)
    return bytes(handler_pb2.StartTaskResponse(error=error).SerializeToString())


def _info(artifact: Artifact) -> task_pb2.ArtifactInfo:
    return task_pb2.ArtifactInfo(
        output_id=artifact.output_id or "", mime_type=artifact.mime_type or "", file_name=artifact.file_name or ""
    )


def _one_piece(artifact: Artifact) -> bytes | None:
    """The message of an artifact that is small, and in memory."""
    data = artifact.data
    if not isinstance(data, bytes) or len(data) > _rpc.CHUNK:
        return None
    chunk = task_pb2.ArtifactChunk(info=_info(artifact), data=data, last=True)
    return bytes(handler_pb2.StartTaskResponse(artifact=chunk).SerializeToString())


async def chunks(artifact: Artifact) -> AsyncIterator[task_pb2.ArtifactChunk]:
    """An artifact in pieces; the first one describes it, the last one is marked."""
    info: task_pb2.ArtifactInfo | None = _info(artifact)
    data = artifact.data
    if isinstance(data, (bytes, bytearray, memoryview)):
        view = memoryview(data)
        for start in range(0, max(len(view), 1), _rpc.CHUNK):
            end = start + _rpc.CHUNK
            yield task_pb2.ArtifactChunk(info=info, data=bytes(view[start:end]), last=end >= len(view))
            info = None
        return
    loop = asyncio.get_running_loop()
    try:
        # One piece is read ahead, because the last one must say so. A slow file must not hold the loop.
        piece = await loop.run_in_executor(None, read_some, data, _rpc.CHUNK)
        while True:
            following = await loop.run_in_executor(None, read_some, data, _rpc.CHUNK) if piece else b""
            yield task_pb2.ArtifactChunk(info=info, data=piece, last=not following)
            if not following:
                return
            piece, info = following, None
    finally:
        if hasattr(data, "close"):
            data.close()
