"""One stream of a task, on the loop of the gRPC server."""

from __future__ import annotations

import asyncio
import json
from typing import Any, Iterable

from ._host import HostCall, before
from ._pb import host_pb2
from ._work import Work
from .errors import HostError

DIRECTIONS = ("", "outbound", "inbound", "bidirectional")
FORMATS = ("", "bytes", "events")

# A write holds at most so many bytes, and a longer piece of a stream of bytes is cut.
MAX_WRITE = 4 << 20
MAX_ITEM = 1 << 20


class StreamCore:
    """A stream of the task, or of a task that it has called."""

    def __init__(self, work: Work, made: host_pb2.CreateStreamResponse, called: str = "") -> None:
        self.work = work
        self.made = made
        self.called = called  # the id of the called task
        self.id: str = made.stream_id
        self.direction = DIRECTIONS[made.direction]
        self.format = FORMATS[made.format]
        self.ended = False
        self.gaps = 0  # messages that the network lost
        self.end_reason = ""
        self.end_detail = ""
        # Several writes at once would be taken in no particular order.
        self._writing = asyncio.Lock()
        self._call: HostCall | None = None
        self._reading: asyncio.Future[Any] | None = None

    @classmethod
    async def create(
        cls, work: Work, name: str, direction: str, format: str, metadata: Any, external: bool, grace: float
    ) -> StreamCore:
        request = host_pb2.CreateStreamRequest(
            task_id=work.id,
            declared_stream=name,
            direction=_number(DIRECTIONS, direction, "direction"),
            format=_number(FORMATS, format, "format"),
            external=external,
            metadata_json=document(metadata),
        )
        if grace > 0:
            request.grace.FromNanoseconds(int(grace * 1e9))
        what = f"create the stream {name!r}" if name else "create a stream"
        return cls(work, await work.host.call(what, "CreateStream", request))

    def _request(self, make: Any, **members: Any) -> Any:
        return make(task_id=self.work.id, stream_id=self.id, called_task_id=self.called, **members)

    async def activate(self, metadata: Any) -> None:
        request = host_pb2.ActivateStreamRequest(task_id=self.work.id, stream_id=self.id, metadata_json=document(metadata))
        await self.work.host.call("activate the stream", "ActivateStream", request)

    async def write(self, items: Iterable[Any], flush: bool = False, wait: bool = True) -> None:
        encoded = [item_of(self.format, piece) for item in items for piece in _pieces(self.format, item)]
        async with self._writing:
            for batch in _batches(encoded):
                request = self._request(host_pb2.WriteStreamRequest, items=batch, no_wait=not wait)
                await self.work.host.call("write the stream", "WriteStream", request)
            if flush:
                request = self._request(host_pb2.WriteStreamRequest, flush=True)
                await self.work.host.call("flush the stream", "WriteStream", request)

    async def read(self) -> list[Any] | None:
        """The next items; None at the end. Ends with Canceled when the task is canceled meanwhile; nothing is lost, so
        reading may go on."""
        while not self.end_reason:
            if self._reading is None:
                if self._call is None:
                    request = self._request(host_pb2.ReadStreamRequest)
                    self._call = await self.work.host.begin("read the stream", "ReadStream", request)
                self._reading = asyncio.ensure_future(self._call.read())
                self._reading.add_done_callback(_nobody_reads_on)
            try:
                answer = await before(self.work.canceled, self._reading)
            except HostError:
                self.end_reason = "failed"
                raise
            if not self._reading.done():
                raise self.work.interrupted()
            self._reading = None
            if answer is None:
                self.end_reason = "closed"
                break
            if answer.HasField("gap"):
                self.gaps += answer.gap.messages
            if answer.HasField("end"):
                self.end_reason, self.end_detail = answer.end.reason or "ended", answer.end.detail
            if answer.items:
                return [value_of(self.format, item) for item in answer.items]
        return None

    async def end(self, failure: str = "") -> None:
        """Repeating it is harmless, also once the task has ended."""
        if self.ended:
            return
        self.ended = True
        request = self._request(host_pb2.EndStreamRequest, failure=failure)
        try:
            async with self._writing:
                await self.work.host.call("end the stream", "EndStream", request)
        except HostError as err:
            if err.code not in ("NOT_FOUND", "FAILED_PRECONDITION"):
                raise

    def stop_reading(self) -> None:
        if self._call is not None:
            self._call.cancel()
        self.end_reason = self.end_reason or "closed"


def _nobody_reads_on(reading: asyncio.Future[Any]) -> None:
    """An error that comes when nobody reads any more is no news."""
    if not reading.cancelled():
        reading.exception()


def _number(names: tuple[str, ...], name: str | None, what: str) -> Any:
    try:
        return names.index(name or "")
    except ValueError:
        raise ValueError(f"the {what} of a stream is {' or '.join(names[1:])}, not {name!r}") from None


def document(value: Any) -> bytes:
    return b"" if value is None else json.dumps(value, ensure_ascii=False).encode()


def item_of(format: str, value: Any) -> host_pb2.StreamItem:
    if format == "events":
        if isinstance(value, (bytes, bytearray, memoryview)):
            return host_pb2.StreamItem(event_data=bytes(value))
        return host_pb2.StreamItem(event_json=json.dumps(value, ensure_ascii=False).encode())
    if isinstance(value, str):
        return host_pb2.StreamItem(text=value)
    if isinstance(value, (bytes, bytearray, memoryview)):
        return host_pb2.StreamItem(data=bytes(value))
    raise TypeError(f"a stream of bytes takes bytes or text, not {type(value).__name__}")


def value_of(format: str, item: host_pb2.StreamItem) -> Any:
    kind = item.WhichOneof("item")
    if kind == "event_json":
        return json.loads(item.event_json)
    if kind == "event_data":
        return item.event_data
    if kind == "text":
        return item.text.encode()
    return item.data


def _pieces(format: str, value: Any) -> Iterable[Any]:
    """A long value of a stream of bytes in pieces: what is read is all of them, one behind the other."""
    if format == "events" or not isinstance(value, (str, bytes, bytearray, memoryview)) or len(value) <= MAX_ITEM // 4:
        return [value]
    length = MAX_ITEM // 4 if isinstance(value, str) else MAX_ITEM  # a character has up to 4 bytes
    return [value[start : start + length] for start in range(0, len(value), length)]


def _batches(items: list[host_pb2.StreamItem]) -> Iterable[list[host_pb2.StreamItem]]:
    batch: list[host_pb2.StreamItem] = []
    size = 0
    for item in items:
        n = item.ByteSize()
        if batch and size + n > MAX_WRITE:
            yield batch
            batch, size = [], 0
        batch.append(item)
        size += n
    if batch:
        yield batch
