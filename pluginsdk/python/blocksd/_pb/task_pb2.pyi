import datetime

from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class TaskKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    TASK_KIND_UNSPECIFIED: _ClassVar[TaskKind]
    TASK_KIND_REQUEST: _ClassVar[TaskKind]
    TASK_KIND_PIPE: _ClassVar[TaskKind]

class CancelReason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CANCEL_REASON_UNSPECIFIED: _ClassVar[CancelReason]
    CANCEL_REASON_USER: _ClassVar[CancelReason]
    CANCEL_REASON_EXPIRED: _ClassVar[CancelReason]
    CANCEL_REASON_TERMINATED: _ClassVar[CancelReason]
    CANCEL_REASON_DEADLINE: _ClassVar[CancelReason]
    CANCEL_REASON_DRAIN: _ClassVar[CancelReason]
    CANCEL_REASON_SHUTDOWN: _ClassVar[CancelReason]
TASK_KIND_UNSPECIFIED: TaskKind
TASK_KIND_REQUEST: TaskKind
TASK_KIND_PIPE: TaskKind
CANCEL_REASON_UNSPECIFIED: CancelReason
CANCEL_REASON_USER: CancelReason
CANCEL_REASON_EXPIRED: CancelReason
CANCEL_REASON_TERMINATED: CancelReason
CANCEL_REASON_DEADLINE: CancelReason
CANCEL_REASON_DRAIN: CancelReason
CANCEL_REASON_SHUTDOWN: CancelReason

class Task(_message.Message):
    __slots__ = ("task_id", "agent_name", "kind", "parts", "owner_id", "org_id", "caller_claims_json", "request_summary_json", "deadline", "duration", "has_stream", "consumer_public_key", "trace_context")
    class TraceContextEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    TASK_ID_FIELD_NUMBER: _ClassVar[int]
    AGENT_NAME_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    PARTS_FIELD_NUMBER: _ClassVar[int]
    OWNER_ID_FIELD_NUMBER: _ClassVar[int]
    ORG_ID_FIELD_NUMBER: _ClassVar[int]
    CALLER_CLAIMS_JSON_FIELD_NUMBER: _ClassVar[int]
    REQUEST_SUMMARY_JSON_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_FIELD_NUMBER: _ClassVar[int]
    DURATION_FIELD_NUMBER: _ClassVar[int]
    HAS_STREAM_FIELD_NUMBER: _ClassVar[int]
    CONSUMER_PUBLIC_KEY_FIELD_NUMBER: _ClassVar[int]
    TRACE_CONTEXT_FIELD_NUMBER: _ClassVar[int]
    task_id: str
    agent_name: str
    kind: TaskKind
    parts: _containers.RepeatedCompositeFieldContainer[Part]
    owner_id: str
    org_id: str
    caller_claims_json: bytes
    request_summary_json: bytes
    deadline: _timestamp_pb2.Timestamp
    duration: _duration_pb2.Duration
    has_stream: bool
    consumer_public_key: str
    trace_context: _containers.ScalarMap[str, str]
    def __init__(self, task_id: _Optional[str] = ..., agent_name: _Optional[str] = ..., kind: _Optional[_Union[TaskKind, str]] = ..., parts: _Optional[_Iterable[_Union[Part, _Mapping]]] = ..., owner_id: _Optional[str] = ..., org_id: _Optional[str] = ..., caller_claims_json: _Optional[bytes] = ..., request_summary_json: _Optional[bytes] = ..., deadline: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., duration: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., has_stream: bool = ..., consumer_public_key: _Optional[str] = ..., trace_context: _Optional[_Mapping[str, str]] = ...) -> None: ...

class Part(_message.Message):
    __slots__ = ("part_id", "content_type", "text", "file", "raw_json")
    PART_ID_FIELD_NUMBER: _ClassVar[int]
    CONTENT_TYPE_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    FILE_FIELD_NUMBER: _ClassVar[int]
    RAW_JSON_FIELD_NUMBER: _ClassVar[int]
    part_id: str
    content_type: str
    text: str
    file: File
    raw_json: bytes
    def __init__(self, part_id: _Optional[str] = ..., content_type: _Optional[str] = ..., text: _Optional[str] = ..., file: _Optional[_Union[File, _Mapping]] = ..., raw_json: _Optional[bytes] = ...) -> None: ...

class File(_message.Message):
    __slots__ = ("name", "mime_type", "size")
    NAME_FIELD_NUMBER: _ClassVar[int]
    MIME_TYPE_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    name: str
    mime_type: str
    size: int
    def __init__(self, name: _Optional[str] = ..., mime_type: _Optional[str] = ..., size: _Optional[int] = ...) -> None: ...

class ArtifactInfo(_message.Message):
    __slots__ = ("output_id", "mime_type", "file_name")
    OUTPUT_ID_FIELD_NUMBER: _ClassVar[int]
    MIME_TYPE_FIELD_NUMBER: _ClassVar[int]
    FILE_NAME_FIELD_NUMBER: _ClassVar[int]
    output_id: str
    mime_type: str
    file_name: str
    def __init__(self, output_id: _Optional[str] = ..., mime_type: _Optional[str] = ..., file_name: _Optional[str] = ...) -> None: ...

class ArtifactChunk(_message.Message):
    __slots__ = ("info", "data", "last")
    INFO_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    LAST_FIELD_NUMBER: _ClassVar[int]
    info: ArtifactInfo
    data: bytes
    last: bool
    def __init__(self, info: _Optional[_Union[ArtifactInfo, _Mapping]] = ..., data: _Optional[bytes] = ..., last: bool = ...) -> None: ...
