"""The client of the daemon's host service. Everything here runs on the loop of the server."""

from __future__ import annotations

import asyncio
import os
from typing import Any, AsyncIterator, Awaitable, TypeVar

from . import _rpc
from ._channel import Channel, ClientCall
from ._grpc import Refused
from .errors import HostError

T = TypeVar("T")


class Host:
    """Connects when it is first needed."""

    def __init__(self, socket: str, token: str) -> None:
        self._channel = Channel(socket, ((_rpc.HOST_TOKEN_KEY, token),)) if socket else None

    @classmethod
    def from_environment(cls) -> Host:
        return cls(os.environ.get(_rpc.HOST_SOCKET_VARIABLE, ""), os.environ.get(_rpc.HOST_TOKEN_VARIABLE, ""))

    def start(self, what: str, name: str) -> HostCall:
        """Begins a call. what is said in errors: "write the stream"."""
        if self._channel is None:
            raise HostError(what, "UNAVAILABLE", "the daemon offers no host service to this handler")
        try:
            call = self._channel.call(f"/{_rpc.HOST_SERVICE}/{name}")
        except Refused as err:
            raise refused(what, err) from None
        return HostCall(what, call, _rpc.HOST_METHODS[name][1])

    async def begin(self, what: str, name: str, request: Any) -> HostCall:
        """Begins a call with one request."""
        call = self.start(what, name)
        await call.send(request)
        call.close()
        return call

    async def call(self, what: str, name: str, request: Any) -> Any:
        """Makes a call with one answer. request is a message, or an asynchronous iterator of them."""
        call = self.start(what, name)
        try:
            if hasattr(request, "__aiter__"):
                async for message in request:
                    if call.ended:
                        break
                    await call.send(message)
            else:
                await call.send(request)
            call.close()
            answer = await call.read()
            if answer is None:
                raise HostError(what, "INTERNAL", "the daemon gave no answer")
            return answer
        finally:
            call.cancel()

    async def each(self, what: str, name: str, request: Any) -> AsyncIterator[Any]:
        """Yields the answers of a call."""
        call = await self.begin(what, name, request)
        try:
            while (answer := await call.read()) is not None:
                yield answer
        finally:
            call.cancel()

    async def close(self) -> None:
        if self._channel is not None:
            self._channel.close()

    def forget(self) -> None:
        """In a process that was forked."""
        if self._channel is not None:
            self._channel.forget()


class HostCall:
    """A call with the messages of its method. Errors are those of the daemon."""

    def __init__(self, what: str, call: ClientCall, answers: Any) -> None:
        self._what = what
        self._call = call
        self._answers = answers
        self.close = call.close
        self.cancel = call.cancel

    @property
    def ended(self) -> bool:
        return self._call.ended

    async def send(self, message: Any) -> None:
        try:
            await self._call.send(message.SerializeToString())
        except Refused as err:
            raise refused(self._what, err) from None

    async def read(self) -> Any:
        """The next answer; None behind the last one."""
        try:
            data = await self._call.read()
        except Refused as err:
            raise refused(self._what, err) from None
        return None if data is None else self._answers.FromString(data)


def refused(what: str, err: Refused) -> HostError:
    return HostError(what, err.code, err.detail)


async def before(stop: asyncio.Event, awaited: Awaitable[T]) -> T | None:
    """What is awaited, or None if stop comes first. What is awaited goes on then, if it is a future."""
    task = asyncio.ensure_future(awaited)
    stopped = asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait({task, stopped}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopped.cancel()
    return task.result() if task.done() else None
