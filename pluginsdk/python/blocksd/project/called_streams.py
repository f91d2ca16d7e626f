"""Streams of a called task, as handlers of Blocks' own SDK open them."""

from __future__ import annotations

import json
import sys
import threading
from dataclasses import dataclass
from typing import Any, Callable, Dict, Optional

from .._calls import CallCore
from .._pb import host_pb2
from .._streams import DIRECTIONS, FORMATS
from ..errors import HostError
from .streams import StreamObject, call

_OPPOSITE = {"inbound": "outbound", "outbound": "inbound"}


@dataclass
class StreamDescriptor:
    """What was announced of a stream. A handler gets no token and no channel: the daemon carries it."""

    task_id: str
    stream_id: str
    agent_name: str
    agent_direction: str
    local_direction: str
    format: str
    affinity: str
    metadata: Optional[Dict[str, Any]] = None
    declared_stream: Optional[str] = None
    channel: str = ""
    token: str = ""


class StreamUnavailableError(RuntimeError):
    """The task of a stream has ended before the stream was opened."""

    def __init__(self, task_id: str, stream_id: str, terminal_state: str, declared_stream: Optional[str] = None) -> None:
        RuntimeError.__init__(
            self,
            f"the stream {declared_stream or stream_id} of the task {task_id} cannot be opened, because the task is {terminal_state}: "
            "its artifacts and its state are still there",
        )
        self.task_id = task_id
        self.stream_id = stream_id
        self.declared_stream = declared_stream
        self.terminal_state = terminal_state


def unavailable(*args: Any) -> Exception:
    """That error, which is also of the class of Blocks' own package where a handler has it from there."""
    theirs = getattr(sys.modules.get("blocks_network"), "StreamUnavailableError", StreamUnavailableError)
    if not issubclass(StreamUnavailableError, theirs):
        return type("StreamUnavailableError", (StreamUnavailableError, theirs), {})(*args)  # type: ignore[no-any-return]
    return StreamUnavailableError(*args)


class ClientStream(StreamObject):
    """The called side's stream, which this side reads or writes."""

    def consume_in_background(self, cb: Callable[[Any], None]) -> threading.Thread:
        """Gives what comes to cb, in a thread of its own."""

        def consume() -> None:
            for item in self._each():
                call(cb, item)

        return _background(consume, f"consume {self.stream_id}")

    def write_periodic(self, interval: float, gen: Callable[[int], Any], stop: Optional[threading.Event] = None) -> threading.Thread:
        """Writes gen(1), gen(2), … with so many seconds between them, until the stream ends or stop is set."""
        stop = stop or threading.Event()

        def write() -> None:
            count = 0
            while self.is_active and not stop.is_set():
                count += 1
                call(lambda: self.write(gen(count)))
                stop.wait(interval)

        return _background(write, f"write {self.stream_id}")


def _background(run: Callable[[], None], name: str) -> threading.Thread:
    thread = threading.Thread(target=run, name=name, daemon=True)
    thread.start()
    return thread


class StreamRef:
    """A stream that was announced, opened or not."""

    def __init__(self, core: CallCore, agent_name: str, announced: host_pb2.CalledStream) -> None:
        self._core = core
        local = DIRECTIONS[announced.direction]
        self.descriptor = StreamDescriptor(
            task_id=core.task_id,
            stream_id=announced.stream_id,
            agent_name=agent_name,
            agent_direction=_OPPOSITE.get(local, local),
            local_direction=local,
            format=FORMATS[announced.format],
            affinity="shared" if announced.shared else "dedicated",
            metadata=json.loads(announced.metadata_json) if announced.metadata_json else None,
            declared_stream=announced.declared_stream or None,
        )
        self._lock = threading.Lock()
        self.opened: Optional[ClientStream] = None

    @property
    def is_open(self) -> bool:
        return self.opened is not None and self.opened.is_active

    def open(self, reorder_timeout_ms: Optional[int] = None) -> ClientStream:
        """The same object each time. reorder_timeout_ms has no effect: the daemon puts what comes in order."""
        d = self.descriptor
        with self._lock:
            if self.opened is not None:
                if not self.opened.is_active:
                    raise RuntimeError(f"the stream {d.stream_id} was opened and has ended already")
                return self.opened
            if (terminal := self._core.terminal) is not None:
                raise unavailable(d.task_id, d.stream_id, str(terminal.get("state")), d.declared_stream)
            try:
                opened = self._core.work.wait(self._core.open_stream(d.stream_id))
            except HostError as err:
                if err.code == "FAILED_PRECONDITION":  # it has ended meanwhile
                    raise unavailable(d.task_id, d.stream_id, "ended", d.declared_stream) from err
                raise RuntimeError(str(err)) from err
            self.opened = ClientStream(opened)
            return self.opened
