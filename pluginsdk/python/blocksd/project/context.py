"""The context that a handler of Blocks' own SDK gets as its second argument."""

from __future__ import annotations

import base64
import inspect
import logging
import threading
from typing import Any, Callable, Dict, List, Optional, Union

from .._streams import StreamCore
from .._work import Work
from ..artifact import Artifact
from .client import TaskClient
from .streams import ExternalStreamObject, StreamObject
from .types import TaskContext, snake

log = logging.getLogger("blocksd")

# How long create_stream waits for the consumer to open a stream that is written, unless the handler says otherwise.
SUBSCRIBE_GRACE_MS = 1000


class Context(TaskContext):
    def __init__(self, work: Work, card: Dict[str, Any]) -> None:
        self._work = work
        self._streams_of_card: Dict[str, Any] = card.get("streams") or {}
        self._client: Optional[TaskClient] = None
        self._lock = threading.Lock()
        self._made: Dict[str, Union[StreamObject, ExternalStreamObject]] = {}
        self.task_id: str = work.id
        self.has_stream: bool = work.message.has_stream
        self.consumer_public_key: Optional[str] = work.message.consumer_public_key or None

    @property
    def cancel_event(self) -> threading.Event:
        return self._work.cancel_event

    @property
    def is_cancelled(self) -> bool:
        return self._work.cancel_event.is_set()

    @property
    def is_expired(self) -> bool:
        return self._work.cancel_reason == "expired"

    @property
    def task_client(self) -> TaskClient:
        with self._lock:
            if self._client is None:
                self._client = TaskClient(self._work)
            return self._client

    def report_status(self, text: Any) -> None:
        self._work.status(text)

    def publish_artifact(
        self,
        data: Union[str, bytes],
        mime_type: str = "application/octet-stream",
        file_name: Optional[str] = None,
        output_id: Optional[str] = None,
    ) -> None:
        if not isinstance(data, (str, bytes, bytearray, memoryview)):
            raise TypeError(f"publish_artifact takes a text or bytes, not {type(data).__name__}")
        self._work.wait(self._work.publish(artifact(data, mime_type, file_name, output_id)))

    def download_input_artifact(self, part: Any) -> bytes:
        """The bytes of an input that has an artifact reference."""
        ref = part.get("artifactRef") if isinstance(part, dict) else getattr(part, "artifact_ref", None)
        if ref is None:
            raise ValueError("this input has no artifact reference: it is a text")
        data = ref.get("data") if isinstance(ref, dict) else getattr(ref, "data", None)
        if isinstance(data, str):
            return base64.b64decode(data)
        return self._work.wait(self._download(self._index(part)))

    def _index(self, part: Any) -> int:
        if isinstance(index := getattr(part, "_index", None), int):
            return index
        id = part.get("partId") or part.get("part_id") if isinstance(part, dict) else getattr(part, "part_id", None)
        for i, p in enumerate(self._work.message.parts):
            if p.part_id == (id or "") and p.HasField("file"):
                return i
        raise ValueError(f"the task has no input {id!r} that is a file")

    async def _download(self, index: int) -> bytes:
        data = bytearray()
        async for _, piece in self._work.download(index):
            data += piece
        return bytes(data)

    def create_stream(
        self,
        *,
        direction: Optional[str] = None,
        format: Optional[str] = None,
        declared_stream: Optional[str] = None,
        metadata: Optional[Dict[str, Any]] = None,
        external: bool = False,
        on_activate: Optional[Callable[[Any], None]] = None,
        bundle_size_bytes: Optional[int] = None,
        max_latency_ms: Optional[int] = None,
        subscribe_grace_ms: Optional[int] = None,
    ) -> Any:
        """bundle_size_bytes and max_latency_ms have no effect: the daemon chooses them as the network allows."""
        if not self.has_stream:
            raise RuntimeError("the caller of this task did not ask for streams: look at ctx.has_stream first")
        if declared_stream in (None, "_default") and len(self._streams_of_card) == 1:
            declared_stream = next(iter(self._streams_of_card))
        # The two defaults mean that the card decides.
        direction = "" if direction in (None, "outbound") else direction
        format = "" if format in (None, "bytes") else format
        core = self._work.wait(
            StreamCore.create(self._work, declared_stream or "", direction, format, metadata, external, 0)
        )
        with self._lock:
            if (known := self._made.get(core.id)) is not None and not core.made.created:
                return known  # the same task asked for a shared stream again
            stream: Any = ExternalStreamObject(core, metadata) if external else StreamObject(core)
            self._made[core.id] = stream
        if external:
            return stream
        if on_activate is not None:
            threading.Thread(target=self._activate, args=[stream, on_activate], name=f"stream {core.id}", daemon=True).start()
        grace = SUBSCRIBE_GRACE_MS if subscribe_grace_ms is None else subscribe_grace_ms
        if grace > 0 and core.direction != "inbound" and core.made.created:
            self.cancel_event.wait(grace / 1000)
        return stream

    def _activate(self, stream: StreamObject, on_activate: Callable[[Any], None]) -> None:
        try:
            on_activate(stream)
        except Exception:
            log.exception("on_activate of stream %s failed", stream.stream_id)
            stream.fail("stream_crashed")

    def close(self) -> None:
        """The handler has returned. The streams of a request task end before what it returned is published; those of a
        pipe task stay open."""
        if self._work.message.kind != 2:
            for stream in list(self._made.values()):
                try:
                    stream.end()
                except Exception as err:
                    log.warning("the stream %s could not be ended: %s", stream.stream_id, err)


def artifact(data: Any, mime_type: Any, file_name: Any, output_id: Any) -> Artifact:
    if isinstance(data, str):
        data = data.encode("utf-8", "replace")
    return Artifact(data, mime_type or "application/octet-stream", file_name or "", output_id or "")


def returned(result: Any) -> List[Artifact]:
    """What a handler returned. Whatever has not the form of artifacts is left out, as Blocks' own SDK does."""
    entries = result.get("artifacts") if isinstance(result, dict) else getattr(result, "artifacts", None)
    if not isinstance(entries, (list, tuple)):
        if inspect.isgenerator(result) or inspect.isasyncgen(result):
            log.warning("the handler is a generator, of which nothing has run: return {'artifacts': [...]} instead of yielding")
        elif result is not None and result != {}:
            log.warning("the handler returned %s without artifacts, so nothing is published", type(result).__name__)
        return []
    out = []
    for entry in entries:
        read = entry.get if isinstance(entry, dict) else lambda key, e=entry: _member(e, key)
        data = read("data")
        if isinstance(data, (str, bytes, bytearray, memoryview)):
            out.append(artifact(data, read("mimeType"), read("fileName"), read("outputId")))
    return out


def _member(entry: Any, key: str) -> Any:
    return getattr(entry, snake(key), getattr(entry, key, None))
