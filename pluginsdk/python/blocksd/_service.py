"""The services of a handler process: what the daemon calls, on the loop of the server."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any, Callable

from google.protobuf.message import DecodeError

from . import _rpc
from ._grpc import Refused
from ._host import Host
from ._pb import handler_pb2
from ._server import Method, ServerCall
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
        self._loop = asyncio.get_running_loop()
        self._running: dict[str, Work] = {}
        self._early: dict[str, str] = {}

    def describe(self, call: ServerCall, request: bytes) -> None:
        answer = handler_pb2.DescribeResponse(
            name=self._served.name,
            version=self._served.version,
            sdk=f"blocksd-python/{VERSION}",
            agent_cards_json=self._served.cards,
            capabilities=handler_pb2.Capabilities(idempotent=self._served.idempotent, cancel=True),
        )
        call.send(answer.SerializeToString(), last=True)

    def start_task(self, call: ServerCall, request: bytes) -> None:
        task = _message(handler_pb2.StartTaskRequest, request).task
        id = task.task_id
        if not id:
            raise Refused("INVALID_ARGUMENT", "a task without an id")
        if id in self._running:
            raise Refused("ALREADY_EXISTS", f"task {id} runs already")
        work = Work(task, self._host, self._loop, call)
        self._running[id] = work
        call.on_cancel = work.gone
        call.on_end = lambda: self._ended(work)
        if self._early and (reason := self._early.pop(id, "")):
            work.cancel(reason)
        self._served.start(work)

    def _ended(self, work: Work) -> None:
        """In any thread."""
        self._running.pop(work.id, None)
        if not self._running:
            # A cancellation may come for a task that has just ended, and such must not pile up.
            self._early.clear()

    def cancel_task(self, call: ServerCall, request: bytes) -> None:
        asked = _message(handler_pb2.CancelTaskRequest, request)
        known = 0 <= asked.reason < len(_rpc.REASONS)
        reason = _rpc.REASONS[asked.reason] if known else "ended"
        work = self._running.get(asked.task_id)
        if work is not None:
            work.cancel(reason)
        elif len(self._early) < MAX_EARLY:
            self._early[asked.task_id] = reason
        call.send(b"", last=True)

    def check(self, call: ServerCall, request: bytes) -> None:
        """Health.Check without its generated messages: a string as field 1, an enumeration as field 1."""
        if request not in (b"", b"\n\x06plugin"):
            raise Refused("NOT_FOUND", "unknown service")
        call.send(b"\x08\x01", last=True)

    def shutdown(self, call: ServerCall, request: bytes) -> None:
        call.send(b"", last=True)
        self._stop()

    def methods(self) -> dict[str, Method]:
        return {
            f"/{_rpc.HANDLER_SERVICE}/Describe": self.describe,
            f"/{_rpc.HANDLER_SERVICE}/StartTask": self.start_task,
            f"/{_rpc.HANDLER_SERVICE}/CancelTask": self.cancel_task,
            "/grpc.health.v1.Health/Check": self.check,
            "/plugin.GRPCController/Shutdown": self.shutdown,
        }


def _message(of: Any, data: bytes) -> Any:
    try:
        return of.FromString(data)
    except DecodeError:
        raise Refused("INTERNAL", f"this is no {of.DESCRIPTOR.name}") from None
