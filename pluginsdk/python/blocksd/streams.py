"""Streams of a task, as handlers see them."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any, AsyncIterator, Iterator, Optional

from ._streams import StreamCore


class BaseStream:
    def __init__(self, core: StreamCore) -> None:
        self._core = core
        self.id: str = core.id
        self.name: str = core.made.declared_stream
        self.direction: str = core.direction
        self.format: str = core.format
        self.shared: bool = core.made.shared
        self.channel: str = core.made.channel

    @property
    def gaps(self) -> int:
        """How many messages the network has lost so far, of those that were read."""
        return self._core.gaps

    @property
    def end_reason(self) -> str:
        """Why reading is over: ended, drained, revoked, failed or closed; empty while it is not."""
        return self._core.end_reason


class Stream(BaseStream):
    """Iterate over it to read: bytes, or the values of a stream of events. One reader only."""

    def write(self, *items: Any, flush: bool = False, wait: bool = True) -> None:
        """Writes bytes or texts, or JSON values into a stream of events. A slow network makes it wait, or fail at once
        with RESOURCE_EXHAUSTED if wait is False. With flush it returns when the network has everything."""
        self._core.work.wait(self._core.write(items, flush, wait))

    def __iter__(self) -> Iterator[Any]:
        while (items := self._core.work.wait(self._core.read())) is not None:
            yield from items

    def end(self) -> None:
        """Sends what was written, then ends the stream."""
        self._core.work.wait(self._core.end())

    def fail(self, reason: str) -> None:
        """Ends the stream as failed, and with it every task that is attached to it."""
        self._core.work.wait(self._core.end(reason))

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *_: Any) -> None:
        self.end()


class AsyncStream(BaseStream):
    """The same for an async function."""

    async def write(self, *items: Any, flush: bool = False, wait: bool = True) -> None:
        await self._core.work.awaited(self._core.write(items, flush, wait))

    async def __aiter__(self) -> AsyncIterator[Any]:
        while (items := await self._core.work.awaited(self._core.read())) is not None:
            for item in items:
                yield item

    async def end(self) -> None:
        await self._core.work.awaited(self._core.end())

    async def fail(self, reason: str) -> None:
        await self._core.work.awaited(self._core.end(reason))

    async def __aenter__(self) -> AsyncStream:
        return self

    async def __aexit__(self, *_: Any) -> None:
        await self.end()


class ExternalStream(BaseStream):
    """A stream that another process writes, with what that process needs."""

    def __init__(self, core: StreamCore) -> None:
        super().__init__(core)
        made = core.made.external
        self.token: str = made.token
        self.publish_key: str = made.publish_key
        self.subscribe_key: str = made.subscribe_key
        self.origin: str = made.origin
        self.expires: Optional[datetime] = None
        if made.HasField("expires"):
            self.expires = datetime.fromtimestamp(made.expires.seconds, timezone.utc)

    def activate(self, metadata: Any = None) -> None:
        """Announces the stream to the consumer, once its writer is ready."""
        self._core.work.wait(self._core.activate(metadata))
