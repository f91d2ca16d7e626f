"""The client of the daemon's host service. Everything here runs on the loop of the gRPC server."""

from __future__ import annotations

import asyncio
import os
from typing import Any, AsyncIterator, Awaitable, TypeVar

import grpc

from . import _rpc
from .errors import HostError

T = TypeVar("T")


class Host:
    """Connects when it is first needed."""

    def __init__(self, socket: str, token: str) -> None:
        self._socket = socket
        self._metadata = ((_rpc.HOST_TOKEN_KEY, token),)
        self._channel: grpc.aio.Channel | None = None
        self._methods: dict[str, Any] = {}

    @classmethod
    def from_environment(cls) -> Host:
        return cls(os.environ.get(_rpc.HOST_SOCKET_VARIABLE, ""), os.environ.get(_rpc.HOST_TOKEN_VARIABLE, ""))

    def method(self, name: str) -> Any:
        if not self._socket:
            raise HostError("reach the daemon", "UNAVAILABLE", "it offers no host service to this handler")
        if self._channel is None:
            self._channel = grpc.aio.insecure_channel("unix:" + self._socket, options=_rpc.OPTIONS)
        if name not in self._methods:
            kind, request, response = _rpc.HOST_METHODS[name]
            self._methods[name] = getattr(self._channel, kind)(
                f"/{_rpc.HOST_SERVICE}/{name}",
                request_serializer=request.SerializeToString,
                response_deserializer=response.FromString,
            )
        return self._methods[name]

    def start(self, name: str, request: Any) -> Any:
        """Begins a call; request is a message, or an asynchronous iterator of them."""
        return self.method(name)(request, metadata=self._metadata)

    async def call(self, what: str, name: str, request: Any) -> Any:
        """Makes a call with one answer. what is said in the error: "write the stream"."""
        call = self.start(name, request)
        try:
            return await call
        except asyncio.CancelledError:
            call.cancel()
            raise
        except grpc.RpcError as err:
            raise refused(what, err) from None

    async def each(self, what: str, name: str, request: Any) -> AsyncIterator[Any]:
        """Yields the answers of a call."""
        call = self.start(name, request)
        try:
            async for answer in call:
                yield answer
        except grpc.RpcError as err:
            raise refused(what, err) from None
        finally:
            call.cancel()

    async def close(self) -> None:
        if self._channel is not None:
            await self._channel.close()


def refused(what: str, err: Any) -> HostError:
    return HostError(what, err.code().name, err.details() or err.code().name)


async def before(stop: asyncio.Event, awaited: Awaitable[T]) -> T | None:
    """What is awaited, or None if stop comes first. What is awaited goes on then, if it is a future."""
    task = asyncio.ensure_future(awaited)
    stopped = asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait({task, stopped}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopped.cancel()
    return task.result() if task.done() else None
