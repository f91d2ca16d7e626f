"""The stream objects that handlers of Blocks' own SDK use."""

from __future__ import annotations

import collections
import io
import logging
import threading
import time
import uuid
from typing import Any, Callable, Deque, Dict, Iterator, List, Optional

from .._streams import StreamCore
from ..errors import Canceled, Error
from .types import InboundMessage, StreamError

log = logging.getLogger("blocksd")


class StreamObject:
    def __init__(self, core: StreamCore) -> None:
        self._core = core
        self._uuid = f"blocksd-stream-{uuid.uuid4().hex[:12]}"
        self._reading = threading.Lock()  # several iterators share what comes
        self._items: Deque[Any] = collections.deque()
        self._seq = 0 if core.format == "bytes" else 1
        self._over = False  # nothing more to read
        self._lock = threading.Lock()
        self._ended = False
        self._on_end: List[Callable[[], None]] = []
        self._on_error: List[Callable[[Any], None]] = []

    @property
    def stream_id(self) -> str:
        return self._core.id

    @property
    def channel(self) -> str:
        return self._core.made.channel

    @property
    def uuid(self) -> str:
        return self._uuid

    @property
    def external(self) -> bool:
        return False

    @property
    def is_active(self) -> bool:
        return not self._ended

    def write(self, data: Any) -> None:
        if self._ended:
            raise RuntimeError(f"the stream {self.stream_id} has ended: nothing can be written to it")
        if self._core.direction == "inbound":
            raise RuntimeError(f"the stream {self.stream_id} can only be read")
        if self._core.format == "events" and isinstance(data, str):
            raise ValueError("a stream of events takes JSON values or bytes, not a bare text")
        self._core.work.wait(self._core.write([data]))

    @property
    def inbound(self) -> Iterator[InboundMessage]:
        encoding = "utf8" if self._core.format == "events" else "base64"
        for item in self._each():
            yield InboundMessage(item, self._seq, int(time.time() * 1000), self._core.format, encoding)
            self._seq += 1

    def bytes(self) -> Iterator[bytes]:
        yield from self._each()

    def events(self) -> Iterator[Any]:
        yield from self._each()

    def as_file(self) -> io.BufferedReader:
        """A file to read bytes from; its end is the end of the stream."""
        return io.BufferedReader(_Reader(self._each()))

    def _each(self) -> Iterator[Any]:
        if self._core.direction == "outbound":
            raise RuntimeError(f"the stream {self.stream_id} can only be written")
        while True:
            with self._reading:
                if not self._items and not self._over:
                    self._fill()
                if not self._items:
                    return
                item = self._items.popleft()
            yield item

    def _fill(self) -> None:
        """Waits for items. A cancel ends it, so that the handler goes on."""
        try:
            items = self._core.work.wait(self._core.read())
        except Canceled:
            items = None
        except Error as err:
            items = None
            self._report(StreamError("other", err, self.channel, time.time(), True))
        if items is not None:
            self._items.extend(items)
            return
        self._over = True
        if self._core.end_reason in ("revoked", "failed"):
            category = "access_denied" if self._core.end_reason == "revoked" else "other"
            self._report(StreamError(category, self._core.end_detail, self.channel, time.time(), True))
        if self._core.direction == "inbound":
            self._finish()

    def on_end(self, cb: Callable[[], None]) -> None:
        self._on_end.append(cb)

    def on_error(self, cb: Callable[[Any], None]) -> None:
        self._on_error.append(cb)

    def end(self) -> None:
        if self._finish():
            self._core.work.wait(self._end(""))

    def fail(self, reason: str) -> None:
        self._finish()
        self._core.work.wait(self._end(reason))

    async def _end(self, failure: str) -> None:
        self._core.stop_reading()
        await self._core.end(failure)

    def _finish(self) -> bool:
        """False when it had ended before."""
        with self._lock:
            if self._ended:
                return False
            self._ended = True
        for cb in self._on_end:
            call(cb)
        return True

    def _report(self, error: StreamError) -> None:
        for cb in self._on_error:
            call(cb, error)


class ExternalStreamObject:
    """A stream that another process writes, with the token for it."""

    def __init__(self, core: StreamCore, metadata: Optional[Dict[str, Any]]) -> None:
        self._core = core
        self._metadata = metadata
        self._ended = False
        self._on_end: List[Callable[[], None]] = []

    @property
    def stream_id(self) -> str:
        return self._core.id

    @property
    def channel(self) -> str:
        return self._core.made.channel

    @property
    def token(self) -> str:
        return self._core.made.external.token

    @property
    def external(self) -> bool:
        return True

    @property
    def is_active(self) -> bool:
        return not self._ended

    def activate(self, *, metadata: Optional[Dict[str, Any]] = None) -> None:
        self._core.work.wait(self._core.activate(metadata if metadata is not None else self._metadata))

    def end(self) -> None:
        if not self._ended:
            self._ended = True
            for cb in self._on_end:
                call(cb)

    def on_end(self, cb: Callable[[], None]) -> None:
        self._on_end.append(cb)

    def _elsewhere(self, *_: Any) -> Any:
        raise RuntimeError(f"the stream {self.stream_id} is written and read by another process")

    write = bytes = events = as_file = on_error = _elsewhere
    inbound = uuid = property(_elsewhere)


class _Reader(io.RawIOBase):
    def __init__(self, items: Iterator[Any]) -> None:
        self._items = items
        self._rest = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._rest:
            try:
                item = next(self._items)
            except StopIteration:
                return 0
            if not isinstance(item, bytes):
                raise TypeError("a stream of events cannot be read as a file")
            self._rest = item
        n = min(len(buffer), len(self._rest))
        buffer[:n], self._rest = self._rest[:n], self._rest[n:]
        return n


def call(cb: Callable[..., Any], *args: Any) -> None:
    """Calls back into the handler, whose errors are its own."""
    try:
        cb(*args)
    except Exception:
        log.exception("a callback of the handler failed")
