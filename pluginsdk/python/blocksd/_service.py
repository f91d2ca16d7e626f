"""The services of a handler process: what the daemon calls, on the loop of the gRPC server."""

from __future__ import annotations

import asyncio
import weakref
from dataclasses import dataclass, field
from typing import Any, Callable

import grpc

from . import _rpc
from ._host import Host
from ._pb import handler_pb2
from ._version import VERSION
from ._work import Work


# Cancellations that overtook the start of their task are kept up to this number.
MAX_EARLY = 1024


@dataclass
class Served:
    """What is served. start runs a task elsewhere than on the loop and ends it with work.finish, whatever happens."""

    start: Callable[[Work], None]
    name: str = ""
    version: str = ""
    cards: list[bytes] = field(default_factory=list)
    idempotent: bool = False


class Service:
    def __init__(self, served: Served, host: Host, stop: Callable[[], None]) -> None:
        self._served = served
        self._host = host
        self._stop = stop
        self._running: dict[str, Work] = {}
        self._early: dict[str, str] = {}
        # Pipe tasks outlive their call while something of the handler still holds them.
        self._detached: weakref.WeakValueDictionary[str, Work] = weakref.WeakValueDictionary()

    async def describe(self, request: handler_pb2.DescribeRequest, context: Any) -> handler_pb2.DescribeResponse:
        return handler_pb2.DescribeResponse(
            name=self._served.name,
            version=self._served.version,
            sdk=f"blocksd-python/{VERSION}",
            agent_cards_json=self._served.cards,
            capabilities=handler_pb2.Capabilities(idempotent=self._served.idempotent, cancel=True),
        )

    async def start_task(self, request: handler_pb2.StartTaskRequest, context: Any) -> None:
        id = request.task.task_id
        if not id:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "a task without an id")
        if id in self._running:
            await context.abort(grpc.StatusCode.ALREADY_EXISTS, f"task {id} runs already")
        work = Work(request.task, self._host, asyncio.get_running_loop())
        self._running[id] = work
        if reason := self._early.pop(id, ""):
            work.cancel(reason)
        try:
            self._served.start(work)
            await work.answer(context.write)
        except asyncio.CancelledError:  # the daemon has ended the call
            work.cancel("ended")
            raise
        finally:
            del self._running[id]
            if work.message.kind == 2:
                self._detached[id] = work
            if not self._running:
                # A cancellation may come for a task that has just ended, and such must not pile up.
                self._early.clear()

    async def cancel_task(self, request: handler_pb2.CancelTaskRequest, context: Any) -> handler_pb2.CancelTaskResponse:
        known = 0 <= request.reason < len(_rpc.REASONS)
        reason = _rpc.REASONS[request.reason] if known else "ended"
        work = self._running.get(request.task_id) or self._detached.get(request.task_id)
        if work is not None:
            work.cancel(reason)
        elif len(self._early) < MAX_EARLY:
            self._early[request.task_id] = reason
        return handler_pb2.CancelTaskResponse()

    async def check(self, request: bytes, context: Any) -> bytes:
        """Health.Check without its generated messages: a string as field 1, an enumeration as field 1."""
        if request not in (b"", b"\n\x06plugin"):
            await context.abort(grpc.StatusCode.NOT_FOUND, "unknown service")
        return b"\x08\x01"

    async def shutdown(self, request: bytes, context: Any) -> bytes:
        self._stop()
        return b""

    def register(self, server: Any) -> None:
        unary, streaming = grpc.unary_unary_rpc_method_handler, grpc.unary_stream_rpc_method_handler

        def method(make: Any, behavior: Any, request: Any, response: Any) -> Any:
            return make(behavior, request_deserializer=request.FromString, response_serializer=response.SerializeToString)

        services: dict[str, dict[str, Any]] = {
            _rpc.HANDLER_SERVICE: {
                "Describe": method(unary, self.describe, handler_pb2.DescribeRequest, handler_pb2.DescribeResponse),
                "StartTask": method(streaming, self.start_task, handler_pb2.StartTaskRequest, handler_pb2.StartTaskResponse),
                "CancelTask": method(unary, self.cancel_task, handler_pb2.CancelTaskRequest, handler_pb2.CancelTaskResponse),
            },
            "grpc.health.v1.Health": {"Check": unary(self.check)},
            "plugin.GRPCController": {"Shutdown": unary(self.shutdown)},
        }
        server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(n, m) for n, m in services.items()])
