"""The data that handlers of Blocks' own SDK get and give. Members have the names that such handlers use; each can also be
read like a dict, by those names or by the names on the network (part.part_id, part["part_id"], part["partId"])."""

from __future__ import annotations

import re
import threading
from dataclasses import dataclass, field, fields
from typing import Any, Callable, Dict, Iterator, List, Optional


def snake(key: str) -> str:
    return re.sub(r"(?<=[a-z0-9])([A-Z])", lambda m: "_" + m.group(1).lower(), key)


def camel(key: str) -> str:
    return re.sub(r"_([a-z])", lambda m: m.group(1).upper(), key)


class Readable:
    """Reading like a dict. What is not set is not there."""

    def _extra(self) -> Dict[str, Any]:
        return getattr(self, "extra", None) or {}

    def get(self, key: str, default: Any = None) -> Any:
        value = None if key.startswith("_") else getattr(self, snake(key), None)
        if value is None or callable(value):
            return self._extra().get(key, default)
        return value

    def __getitem__(self, key: str) -> Any:
        value = self.get(key)
        if value is None:
            raise KeyError(key)
        return value

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and self.get(key) is not None

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys())

    def keys(self) -> List[str]:
        return list(self.to_dict())

    def values(self) -> List[Any]:
        return list(self.to_dict().values())

    def items(self) -> List[Any]:
        return list(self.to_dict().items())

    def to_dict(self) -> Dict[str, Any]:
        """The same with the names of the network."""
        out: Dict[str, Any] = dict(self._extra())
        for f in fields(self):  # type: ignore[arg-type]
            value = getattr(self, f.name)
            if f.name.startswith("_") or f.name == "extra" or value is None:
                continue
            if isinstance(value, list):
                value = [v.to_dict() if hasattr(v, "to_dict") else v for v in value]
            elif hasattr(value, "to_dict"):
                value = value.to_dict()
            out[camel(f.name)] = value
        return out


def known(cls: Any, given: Dict[str, Any]) -> Dict[str, Any]:
    """The members of a dict that a class has, by its names."""
    names = {f.name for f in fields(cls)}
    return {snake(k): v for k, v in given.items() if snake(k) in names}


@dataclass
class ArtifactRef(Readable):
    kind: str = "inline"
    mime_type: str = "application/octet-stream"
    size: int = 0
    hash: Optional[str] = None
    data: Optional[str] = None
    file_name: Optional[str] = None
    channel: Optional[str] = None
    file_id: Optional[str] = None
    expires_at: Optional[str] = None

    @classmethod
    def from_dict(cls, given: Dict[str, Any]) -> ArtifactRef:
        return cls(**known(cls, given))


@dataclass
class RequestPart(Readable):
    part_id: Optional[str] = None
    text: Optional[str] = None
    content_type: Optional[str] = None
    artifact_ref: Optional[ArtifactRef] = None
    extra: Dict[str, Any] = field(default_factory=dict)

    @classmethod
    def from_dict(cls, given: Dict[str, Any]) -> RequestPart:
        own = {k: given.get(k) for k in ("partId", "text", "contentType")}
        ref = given.get("artifactRef")
        return cls(
            part_id=own["partId"],
            text=own["text"],
            content_type=own["contentType"],
            artifact_ref=ArtifactRef.from_dict(ref) if isinstance(ref, dict) else None,
            extra={k: v for k, v in given.items() if k not in own and k != "artifactRef"},
        )


@dataclass
class StartTaskMessage(Readable):
    type: str = "StartTask"
    task_id: str = ""
    agent_name: str = ""
    owner_id: str = ""
    request_parts: List[Any] = field(default_factory=list)
    caller_claims: Dict[str, Any] = field(default_factory=dict)
    request_summary: Dict[str, Any] = field(default_factory=dict)
    task_kind: Optional[str] = None
    duration: Optional[float] = None
    duration_expires_at_ms: Optional[int] = None
    consumer_public_key: Optional[str] = None
    has_stream: bool = False
    org_id: Optional[str] = None
    protocol_version: Optional[str] = None

    @classmethod
    def from_dict(cls, given: Dict[str, Any]) -> StartTaskMessage:
        message = cls(**known(cls, given))
        message.request_parts = [RequestPart.from_dict(p) if isinstance(p, dict) else p for p in message.request_parts]
        return message


def _nothing(*_: Any, **__: Any) -> None:
    """Stands for what a context made by hand was not given."""


@dataclass(eq=False)
class TaskContext:
    """What a handler gets as its second argument; tests of a handler may make one by hand."""

    task_id: str = ""
    has_stream: bool = False
    consumer_public_key: Optional[str] = None
    report_status: Callable[[str], None] = _nothing
    create_stream: Callable[..., Any] = _nothing
    download_input_artifact: Callable[..., Any] = _nothing
    publish_artifact: Callable[..., None] = _nothing
    cancel_event: Any = field(default_factory=threading.Event)
    task_client: Any = None
    _expired_tasks: Any = None

    @property
    def is_cancelled(self) -> bool:
        return bool(self.cancel_event.is_set())

    @property
    def is_expired(self) -> bool:
        return self.task_id in (self._expired_tasks or ())


@dataclass
class SendMessageRequestPart(Readable):
    part_id: Optional[str] = None
    text: Optional[str] = None
    content_type: Optional[str] = None
    file: Optional[bytes] = None
    file_name: Optional[str] = None


@dataclass
class DownloadedArtifact:
    data: bytes
    mime_type: str
    file_name: Optional[str] = None


@dataclass
class InboundMessage:
    """One item of a stream."""

    data: Any
    seq: int
    ts: int
    format: str
    encoding: str


@dataclass
class StreamError:
    category: str
    error: Any
    channel: str
    timestamp: float
    fatal: bool


@dataclass
class TaskInfo:
    task_id: str = ""
    agent_name: Optional[str] = None
    owner: Optional[str] = None
    state: Optional[str] = None
    created_time: Optional[str] = None
    updated_time: Optional[str] = None
    extra: Dict[str, Any] = field(default_factory=dict)


@dataclass
class ListTasksParams:
    owner_id: Optional[str] = None
    agent_name: Optional[str] = None
    state: Optional[str] = None
    limit: Optional[int] = None
    cursor: Optional[str] = None


@dataclass
class ListTasksResult:
    tasks: List[TaskInfo] = field(default_factory=list)
    next: Optional[str] = None
    total_count: Optional[int] = None


@dataclass
class CallbackErrorContext:
    entry_point: str
    callback_type: str
    event: Any = None


class RpcError(Exception):
    def __init__(self, rpc_message: str, code: Optional[int] = None, data: Any = None) -> None:
        super().__init__(rpc_message)
        self.rpc_message = rpc_message
        self.code = code
        self.data = data


class TaskEvent:
    """One event of a task, with the members that it has on the network."""

    def __init__(self, data: Dict[str, Any]) -> None:
        self._data = data

    @property
    def raw(self) -> Dict[str, Any]:
        return self._data

    @property
    def type(self) -> str:
        return str(self._data.get("type", ""))

    @property
    def task_id(self) -> str:
        return str(self._data.get("taskId", ""))

    @property
    def message(self) -> Any:
        return self._data.get("message")

    @property
    def progress(self) -> Any:
        return self._data.get("progress")

    @property
    def state(self) -> Any:
        return self._data.get("state")

    @property
    def artifact_ref(self) -> Optional[ArtifactRef]:
        ref = self._data.get("artifactRef")
        return ArtifactRef.from_dict(ref) if isinstance(ref, dict) else None

    def get(self, key: str, default: Any = None) -> Any:
        return self._data.get(key, default)

    def __getitem__(self, key: str) -> Any:
        return self._data[key]

    def __contains__(self, key: object) -> bool:
        return key in self._data

    def __repr__(self) -> str:
        return f"TaskEvent({self._data!r})"
