"""One task under way: what is sent for it, in which order, and whether it was asked to end.

The coroutines run on the loop of the gRPC server; the methods that are no coroutines may be called from any thread.
"""

from __future__ import annotations

import asyncio
import collections
import threading
from typing import Any, AsyncIterator, Callable, Coroutine, TypeVar

from . import _rpc
from ._host import Host
from ._pb import handler_pb2, host_pb2, task_pb2
from .artifact import Artifact, read_some
from .errors import Canceled, TaskEnded, cut, texts

T = TypeVar("T")

# A message for the daemon, or None to only mark a place in the order; whether it is a status; who waits for it.
Item = tuple["handler_pb2.StartTaskResponse | None", bool, "asyncio.Future[int] | None"]


class Work:
    def __init__(self, message: task_pb2.Task, host: Host, loop: asyncio.AbstractEventLoop) -> None:
        self.message = message
        self.id: str = message.task_id
        self.host = host
        self.loop = loop
        self.final = False  # a pipe task ends with the answer
        self.lasting = False  # a task that succeeded goes on, with statuses, until it is asked to end
        self.cancel_event = threading.Event()
        self.cancel_reason = ""
        self.canceled = asyncio.Event()
        # on_cancel are called on the loop, once.
        self.on_cancel: list[Callable[[], None]] = []
        self._items: collections.deque[Item] = collections.deque()
        self._wake = asyncio.Event()
        self._sent = 0
        self._closed = False  # nothing is taken any more
        self._artifact = asyncio.Lock()  # pieces of different artifacts never mix

    # From any thread.

    def wait(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Runs a coroutine on the loop and blocks until it is done."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result()

    async def awaited(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """The same for code on another loop."""
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(coroutine, self.loop))

    def status(self, text: str) -> None:
        message = handler_pb2.StartTaskResponse(status=cut(str(text)))
        self._on_loop(self._put_status, message)

    def finish(self, err: BaseException | None = None) -> None:
        """Ends the task. Only the first end counts."""
        if err is None:
            message = handler_pb2.StartTaskResponse(result=handler_pb2.Result(final=self.final))
            if self.lasting:
                self._on_loop(self.when_canceled, lambda: self._put_last(message))
                return
        else:
            public, private = texts(err)
            message = handler_pb2.StartTaskResponse(error=handler_pb2.Error(public_message=public, private_message=private))
        self._on_loop(self._put_last, message)

    def _on_loop(self, call: Callable[..., None], *args: Any) -> None:
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

    def _put(self, message: handler_pb2.StartTaskResponse | None, status: bool = False, waiter: asyncio.Future[int] | None = None) -> None:
        self._items.append((message, status, waiter))
        self._wake.set()

    def _put_status(self, message: handler_pb2.StartTaskResponse) -> None:
        """Of statuses that wait, the first and the last are enough: the daemon publishes one a second."""
        if self._closed:
            return
        items = self._items
        if len(items) >= 2 and items[-1][1] and items[-2][1]:
            items[-1] = (message, True, None)
        else:
            self._put(message, status=True)

    def _put_last(self, message: handler_pb2.StartTaskResponse) -> None:
        if not self._closed:
            self._closed = True
            self._put(message)

    async def _pass(self, message: handler_pb2.StartTaskResponse | None) -> int:
        """Waits until gRPC has taken the message and all before it; returns how many that were."""
        if self._closed:
            raise TaskEnded()
        waiter: asyncio.Future[int] = self.loop.create_future()
        self._put(message, waiter=waiter)
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

    async def end_pipe(self, err: BaseException | str | None) -> None:
        request = host_pb2.EndTaskRequest(task_id=self.id)
        if err is not None:
            public, private = (cut(err), "") if isinstance(err, str) else texts(err)
            request.error.CopyFrom(handler_pb2.Error(public_message=public, private_message=private))
        await self.host.call("end the task", "EndTask", request)

    def interrupted(self) -> Canceled:
        return Canceled(self.cancel_reason)

    async def answer(self, write: Callable[[Any], Coroutine[Any, Any, None]]) -> None:
        """Writes what is sent for the task to the daemon, until its end."""
        try:
            while True:
                while not self._items:
                    if self._closed:
                        return
                    self._wake.clear()
                    await self._wake.wait()
                message, _, waiter = self._items.popleft()
                if message is not None:
                    await write(message)
                    self._sent += 1
                if waiter is not None and not waiter.done():
                    waiter.set_result(self._sent)
        finally:
            self._closed = True
            while self._items:
                waiter = self._items.popleft()[2]
                if waiter is not None and not waiter.done():
                    waiter.set_exception(TaskEnded())


async def chunks(artifact: Artifact) -> AsyncIterator[task_pb2.ArtifactChunk]:
    """An artifact in pieces; the first one describes it, the last one is marked."""
    info: task_pb2.ArtifactInfo | None = task_pb2.ArtifactInfo(
        output_id=artifact.output_id or "", mime_type=artifact.mime_type or "", file_name=artifact.file_name or ""
    )
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
