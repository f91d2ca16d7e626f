"""What handlers import from Blocks' own package, for projects that run under blocksd without it."""

from typing import Any

from blocksd.project.called_streams import StreamDescriptor, StreamRef, StreamUnavailableError
from blocksd.project.client import TaskClient
from blocksd.project.session import TaskSession
from blocksd.project.streams import ExternalStreamObject, StreamObject
from blocksd.project.types import (
    ArtifactRef,
    CallbackErrorContext,
    DownloadedArtifact,
    InboundMessage,
    ListTasksParams,
    ListTasksResult,
    RequestPart,
    RpcError,
    SendMessageRequestPart,
    StartTaskMessage,
    StreamError,
    TaskContext,
    TaskEvent,
    TaskInfo,
)

from .part_helpers import file_part, text_part


def start_agent_instance(options: Any = None) -> Any:
    raise RuntimeError("this project is served by blocksd: start_agent_instance needs the package blocks-network")


def create_task_client(*_: Any, **__: Any) -> Any:
    raise RuntimeError(
        "create_task_client needs the package blocks-network; a handler that blocksd serves calls agents with ctx.task_client"
    )


def __getattr__(name: str) -> Any:
    if name.startswith("__"):
        raise AttributeError(name)
    raise ImportError(
        f"{name} of blocks_network is not known to blocksd: install the package blocks-network for this Python", name="blocks_network"
    )


__all__ = [
    "ArtifactRef",
    "CallbackErrorContext",
    "DownloadedArtifact",
    "ExternalStreamObject",
    "InboundMessage",
    "ListTasksParams",
    "ListTasksResult",
    "RequestPart",
    "RpcError",
    "SendMessageRequestPart",
    "StartTaskMessage",
    "StreamDescriptor",
    "StreamError",
    "StreamObject",
    "StreamRef",
    "StreamUnavailableError",
    "TaskClient",
    "TaskContext",
    "TaskEvent",
    "TaskInfo",
    "TaskSession",
    "create_task_client",
    "file_part",
    "start_agent_instance",
    "text_part",
]
