import datetime

from . import handler_pb2 as _handler_pb2
from . import task_pb2 as _task_pb2
from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class StreamDirection(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    STREAM_DIRECTION_UNSPECIFIED: _ClassVar[StreamDirection]
    STREAM_DIRECTION_OUTBOUND: _ClassVar[StreamDirection]
    STREAM_DIRECTION_INBOUND: _ClassVar[StreamDirection]
    STREAM_DIRECTION_BIDIRECTIONAL: _ClassVar[StreamDirection]

class StreamFormat(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    STREAM_FORMAT_UNSPECIFIED: _ClassVar[StreamFormat]
    STREAM_FORMAT_BYTES: _ClassVar[StreamFormat]
    STREAM_FORMAT_EVENTS: _ClassVar[StreamFormat]
STREAM_DIRECTION_UNSPECIFIED: StreamDirection
STREAM_DIRECTION_OUTBOUND: StreamDirection
STREAM_DIRECTION_INBOUND: StreamDirection
STREAM_DIRECTION_BIDIRECTIONAL: StreamDirection
STREAM_FORMAT_UNSPECIFIED: StreamFormat
STREAM_FORMAT_BYTES: StreamFormat
STREAM_FORMAT_EVENTS: StreamFormat

class DownloadInputRequest(_message.Message):
    __slots__ = ("task_id", "part_index")
    TASK_ID_FIELD_NUMBER: _ClassVar[int]
    PART_INDEX_FIELD_NUMBER: _ClassVar[int]
    task_id: str
    part_index: int
    def __init__(self, task_id: _Optional[str] = ..., part_index: _Optional[int] = ...) -> None: ...

class DownloadInputResponse(_message.Message):
    __slots__ = ("file", "data")
    FILE_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    file: _task_pb2.File
    data: bytes
    def __init__(self, file: _Optional[_Union[_task_pb2.File, _Mapping]] = ..., data: _Optional[bytes] = ...) -> None: ...

class PublishArtifactRequest(_message.Message):
    __slots__ = ("task_id", "chunk", "after_responses")
    TASK_ID_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    AFTER_RESPONSES_FIELD_NUMBER: _ClassVar[int]
    task_id: str
    chunk: _task_pb2.ArtifactChunk
    after_responses: int
    def __init__(self, task_id: _Optional[str] = ..., chunk: _Optional[_Union[_task_pb2.ArtifactChunk, _Mapping]] = ..., after_responses: _Optional[int] = ...) -> None: ...

class PublishArtifactResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class CreateStreamRequest(_message.Message):
    __slots__ = ("task_id", "declared_stream", "direction", "format", "metadata_json", "external", "grace")
    TASK_ID_FIELD_NUMBER: _ClassVar[int]
    DECLARED_STREAM_FIELD_NUMBER: _ClassVar[int]
    DIRECTION_FIELD_NUMBER: _ClassVar[int]
    FORMAT_FIELD_NUMBER: _ClassVar[int]
    METADATA_JSON_FIELD_NUMBER: _ClassVar[int]
    EXTERNAL_FIELD_NUMBER: _ClassVar[int]
    GRACE_FIELD_NUMBER: _ClassVar[int]
    task_id: str
    declared_stream: str
    direction: StreamDirection
    format: StreamFormat
    metadata_json: bytes
    external: bool
    grace: _duration_pb2.Duration
    def __init__(self, task_id: _Optional[str] = ..., declared_stream: _Optional[str] = ..., direction: _Optional[_Union[StreamDirection, str]] = ..., format: _Optional[_Union[StreamFormat, str]] = ..., metadata_json: _Optional[bytes] = ..., external: bool = ..., grace: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class CreateStreamResponse(_message.Message):
    __slots__ = ("stream_id", "declared_stream", "direction", "format", "shared", "created", "channel", "external", "first")
    STREAM_ID_FIELD_NUMBER: _ClassVar[int]
    DECLARED_STREAM_FIELD_NUMBER: _ClassVar[int]
    DIRECTION_FIELD_NUMBER: _ClassVar[int]
    FORMAT_FIELD_NUMBER: _ClassVar[int]
    SHARED_FIELD_NUMBER: _ClassVar[int]
    CREATED_FIELD_NUMBER: _ClassVar[int]
    CHANNEL_FIELD_NUMBER: _ClassVar[int]
    EXTERNAL_FIELD_NUMBER: _ClassVar[int]
    FIRST_FIELD_NUMBER: _ClassVar[int]
    stream_id: str
    declared_stream: str
    direction: StreamDirection
    format: StreamFormat
    shared: bool
    created: bool
    channel: str
    external: ExternalStream
    first: bool
    def __init__(self, stream_id: _Optional[str] = ..., declared_stream: _Optional[str] = ..., direction: _Optional[_Union[StreamDirection, str]] = ..., format: _Optional[_Union[StreamFormat, str]] = ..., shared: bool = ..., created: bool = ..., channel: _Optional[str] = ..., external: _Optional[_Union[ExternalStream, _Mapping]] = ..., first: bool = ...) -> None: ...

class ExternalStream(_message.Message):
    __slots__ = ("token", "publish_key", "subscribe_key", "origin", "expires")
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    PUBLISH_KEY_FIELD_NUMBER: _ClassVar[int]
    SUBSCRIBE_KEY_FIELD_NUMBER: _ClassVar[int]
    ORIGIN_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_FIELD_NUMBER: _ClassVar[int]
    token: str
    publish_key: str
    subscribe_key: str
    origin: str
    expires: _timestamp_pb2.Timestamp
    def __init__(self, token: _Optional[str] = ..., publish_key: _Optional[str] = ..., subscribe_key: _Optional[str] = ..., origin: _Optional[str] = ..., expires: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class ActivateStreamRequest(_message.Message):
    __slots__ = ("task_id", "stream_id", "metadata_json")
    TASK_ID_FIELD_NUMBER: _ClassVar[int]
    STREAM_ID_FIELD_NUMBER: _ClassVar[int]
    METADATA_JSON_FIELD_NUMBER: _ClassVar[int]
    task_id: str
    stream_id: str
    metadata_json: bytes
    def __init__(self, task_id: _Optional[str] = ..., stream_id: _Optional[str] = ..., metadata_json: _Optional[bytes] = ...) -> None: ...

class ActivateStreamResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class StreamItem(_message.Message):
    __slots__ = ("data", "text", "event_json", "event_data")
    DATA_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    EVENT_JSON_FIELD_NUMBER: _ClassVar[int]
    EVENT_DATA_FIELD_NUMBER: _ClassVar[int]
    data: bytes
    text: str
    event_json: bytes
    event_data: bytes
    def __init__(self, data: _Optional[bytes] = ..., text: _Optional[str] = ..., event_json: _Optional[bytes] = ..., event_data: _Optional[bytes] = ...) -> None: ...

class WriteStreamRequest(_message.Message):
    __slots__ = ("task_id", "stream_id", "items", "flush", "no_wait", "called_task_id")
    TASK_ID_FIELD_NUMBER: _ClassVar[int]
    STREAM_ID_FIELD_NUMBER: _ClassVar[int]
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    FLUSH_FIELD_NUMBER: _ClassVar[int]
    NO_WAIT_FIELD_NUMBER: _ClassVar[int]
    CALLED_TASK_ID_FIELD_NUMBER: _ClassVar[int]
    task_id: str
    stream_id: str
    items: _containers.RepeatedCompositeFieldContainer[StreamItem]
    flush: bool
    no_wait: bool
    called_task_id: str
    def __init__(self, task_id: _Optional[str] = ..., stream_id: _Optional[str] = ..., items: _Optional[_Iterable[_Union[StreamItem, _Mapping]]] = ..., flush: bool = ..., no_wait: bool = ..., called_task_id: _Optional[str] = ...) -> None: ...

class WriteStreamResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ReadStreamRequest(_message.Message):
    __slots__ = ("task_id", "stream_id", "called_task_id")
    TASK_ID_FIELD_NUMBER: _ClassVar[int]
    STREAM_ID_FIELD_NUMBER: _ClassVar[int]
    CALLED_TASK_ID_FIELD_NUMBER: _ClassVar[int]
    task_id: str
    stream_id: str
    called_task_id: str
    def __init__(self, task_id: _Optional[str] = ..., stream_id: _Optional[str] = ..., called_task_id: _Optional[str] = ...) -> None: ...

class ReadStreamResponse(_message.Message):
    __slots__ = ("items", "gap", "end")
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    GAP_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    items: _containers.RepeatedCompositeFieldContainer[StreamItem]
    gap: StreamGap
    end: StreamEnd
    def __init__(self, items: _Optional[_Iterable[_Union[StreamItem, _Mapping]]] = ..., gap: _Optional[_Union[StreamGap, _Mapping]] = ..., end: _Optional[_Union[StreamEnd, _Mapping]] = ...) -> None: ...

class StreamGap(_message.Message):
    __slots__ = ("messages",)
    MESSAGES_FIELD_NUMBER: _ClassVar[int]
    messages: int
    def __init__(self, messages: _Optional[int] = ...) -> None: ...

class StreamEnd(_message.Message):
    __slots__ = ("reason", "detail")
    REASON_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    reason: str
    detail: str
    def __init__(self, reason: _Optional[str] = ..., detail: _Optional[str] = ...) -> None: ...

class EndStreamRequest(_message.Message):
    __slots__ = ("task_id", "stream_id", "failure", "called_task_id")
    TASK_ID_FIELD_NUMBER: _ClassVar[int]
    STREAM_ID_FIELD_NUMBER: _ClassVar[int]
    FAILURE_FIELD_NUMBER: _ClassVar[int]
    CALLED_TASK_ID_FIELD_NUMBER: _ClassVar[int]
    task_id: str
    stream_id: str
    failure: str
    called_task_id: str
    def __init__(self, task_id: _Optional[str] = ..., stream_id: _Optional[str] = ..., failure: _Optional[str] = ..., called_task_id: _Optional[str] = ...) -> None: ...

class EndStreamResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class CallAgentRequest(_message.Message):
    __slots__ = ("call", "part_index", "data")
    CALL_FIELD_NUMBER: _ClassVar[int]
    PART_INDEX_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    call: AgentCall
    part_index: int
    data: bytes
    def __init__(self, call: _Optional[_Union[AgentCall, _Mapping]] = ..., part_index: _Optional[int] = ..., data: _Optional[bytes] = ...) -> None: ...

class AgentCall(_message.Message):
    __slots__ = ("task_id", "agent_name", "parts", "duration", "idempotency_key", "owner_id", "detached", "trace_context", "stream")
    class TraceContextEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    TASK_ID_FIELD_NUMBER: _ClassVar[int]
    AGENT_NAME_FIELD_NUMBER: _ClassVar[int]
    PARTS_FIELD_NUMBER: _ClassVar[int]
    DURATION_FIELD_NUMBER: _ClassVar[int]
    IDEMPOTENCY_KEY_FIELD_NUMBER: _ClassVar[int]
    OWNER_ID_FIELD_NUMBER: _ClassVar[int]
    DETACHED_FIELD_NUMBER: _ClassVar[int]
    TRACE_CONTEXT_FIELD_NUMBER: _ClassVar[int]
    STREAM_FIELD_NUMBER: _ClassVar[int]
    task_id: str
    agent_name: str
    parts: _containers.RepeatedCompositeFieldContainer[CallPart]
    duration: _duration_pb2.Duration
    idempotency_key: str
    owner_id: str
    detached: bool
    trace_context: _containers.ScalarMap[str, str]
    stream: bool
    def __init__(self, task_id: _Optional[str] = ..., agent_name: _Optional[str] = ..., parts: _Optional[_Iterable[_Union[CallPart, _Mapping]]] = ..., duration: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., idempotency_key: _Optional[str] = ..., owner_id: _Optional[str] = ..., detached: bool = ..., trace_context: _Optional[_Mapping[str, str]] = ..., stream: bool = ...) -> None: ...

class CallPart(_message.Message):
    __slots__ = ("part_id", "content_type", "text", "file")
    PART_ID_FIELD_NUMBER: _ClassVar[int]
    CONTENT_TYPE_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    FILE_FIELD_NUMBER: _ClassVar[int]
    part_id: str
    content_type: str
    text: str
    file: _task_pb2.File
    def __init__(self, part_id: _Optional[str] = ..., content_type: _Optional[str] = ..., text: _Optional[str] = ..., file: _Optional[_Union[_task_pb2.File, _Mapping]] = ...) -> None: ...

class CallAgentResponse(_message.Message):
    __slots__ = ("submitted", "event_json", "streams")
    SUBMITTED_FIELD_NUMBER: _ClassVar[int]
    EVENT_JSON_FIELD_NUMBER: _ClassVar[int]
    STREAMS_FIELD_NUMBER: _ClassVar[int]
    submitted: SubmittedCall
    event_json: bytes
    streams: _containers.RepeatedCompositeFieldContainer[CalledStream]
    def __init__(self, submitted: _Optional[_Union[SubmittedCall, _Mapping]] = ..., event_json: _Optional[bytes] = ..., streams: _Optional[_Iterable[_Union[CalledStream, _Mapping]]] = ...) -> None: ...

class CalledStream(_message.Message):
    __slots__ = ("stream_id", "declared_stream", "direction", "format", "shared", "metadata_json")
    STREAM_ID_FIELD_NUMBER: _ClassVar[int]
    DECLARED_STREAM_FIELD_NUMBER: _ClassVar[int]
    DIRECTION_FIELD_NUMBER: _ClassVar[int]
    FORMAT_FIELD_NUMBER: _ClassVar[int]
    SHARED_FIELD_NUMBER: _ClassVar[int]
    METADATA_JSON_FIELD_NUMBER: _ClassVar[int]
    stream_id: str
    declared_stream: str
    direction: StreamDirection
    format: StreamFormat
    shared: bool
    metadata_json: bytes
    def __init__(self, stream_id: _Optional[str] = ..., declared_stream: _Optional[str] = ..., direction: _Optional[_Union[StreamDirection, str]] = ..., format: _Optional[_Union[StreamFormat, str]] = ..., shared: bool = ..., metadata_json: _Optional[bytes] = ...) -> None: ...

class OpenCallStreamRequest(_message.Message):
    __slots__ = ("task_id", "called_task_id", "stream_id")
    TASK_ID_FIELD_NUMBER: _ClassVar[int]
    CALLED_TASK_ID_FIELD_NUMBER: _ClassVar[int]
    STREAM_ID_FIELD_NUMBER: _ClassVar[int]
    task_id: str
    called_task_id: str
    stream_id: str
    def __init__(self, task_id: _Optional[str] = ..., called_task_id: _Optional[str] = ..., stream_id: _Optional[str] = ...) -> None: ...

class OpenCallStreamResponse(_message.Message):
    __slots__ = ("stream",)
    STREAM_FIELD_NUMBER: _ClassVar[int]
    stream: CalledStream
    def __init__(self, stream: _Optional[_Union[CalledStream, _Mapping]] = ...) -> None: ...

class SubmittedCall(_message.Message):
    __slots__ = ("task_id", "queued", "idempotent")
    TASK_ID_FIELD_NUMBER: _ClassVar[int]
    QUEUED_FIELD_NUMBER: _ClassVar[int]
    IDEMPOTENT_FIELD_NUMBER: _ClassVar[int]
    task_id: str
    queued: bool
    idempotent: bool
    def __init__(self, task_id: _Optional[str] = ..., queued: bool = ..., idempotent: bool = ...) -> None: ...

class ControlCallRequest(_message.Message):
    __slots__ = ("task_id", "called_task_id", "verb")
    TASK_ID_FIELD_NUMBER: _ClassVar[int]
    CALLED_TASK_ID_FIELD_NUMBER: _ClassVar[int]
    VERB_FIELD_NUMBER: _ClassVar[int]
    task_id: str
    called_task_id: str
    verb: str
    def __init__(self, task_id: _Optional[str] = ..., called_task_id: _Optional[str] = ..., verb: _Optional[str] = ...) -> None: ...

class ControlCallResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class DownloadCallArtifactRequest(_message.Message):
    __slots__ = ("task_id", "called_task_id", "artifact_index")
    TASK_ID_FIELD_NUMBER: _ClassVar[int]
    CALLED_TASK_ID_FIELD_NUMBER: _ClassVar[int]
    ARTIFACT_INDEX_FIELD_NUMBER: _ClassVar[int]
    task_id: str
    called_task_id: str
    artifact_index: int
    def __init__(self, task_id: _Optional[str] = ..., called_task_id: _Optional[str] = ..., artifact_index: _Optional[int] = ...) -> None: ...

class DownloadCallArtifactResponse(_message.Message):
    __slots__ = ("info", "data")
    INFO_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    info: _task_pb2.ArtifactInfo
    data: bytes
    def __init__(self, info: _Optional[_Union[_task_pb2.ArtifactInfo, _Mapping]] = ..., data: _Optional[bytes] = ...) -> None: ...

class EndTaskRequest(_message.Message):
    __slots__ = ("task_id", "error")
    TASK_ID_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    task_id: str
    error: _handler_pb2.Error
    def __init__(self, task_id: _Optional[str] = ..., error: _Optional[_Union[_handler_pb2.Error, _Mapping]] = ...) -> None: ...

class EndTaskResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...
