"""The methods of the contract, without generated stubs: a name and the messages of each."""

from __future__ import annotations

from typing import Any

from ._pb import host_pb2 as op

HANDLER_SERVICE = "blocks.handler.v1.HandlerService"
HOST_SERVICE = "blocks.handler.v1.HostService"
HOST_SOCKET_VARIABLE = "BLOCKSD_HOST_SOCKET"
HOST_TOKEN_VARIABLE = "BLOCKSD_HOST_TOKEN"
HOST_TOKEN_KEY = "blocksd-host-token"

# Limits of the contract, in bytes.
MAX_MESSAGE = 16 << 20
CHUNK = 256 << 10
OPTIONS = [("grpc.max_receive_message_length", MAX_MESSAGE), ("grpc.max_send_message_length", MAX_MESSAGE)]

# How each method of the host is called, and its messages.
HOST_METHODS: dict[str, tuple[str, Any, Any]] = {
    "DownloadInput": ("unary_stream", op.DownloadInputRequest, op.DownloadInputResponse),
    "PublishArtifact": ("stream_unary", op.PublishArtifactRequest, op.PublishArtifactResponse),
    "CreateStream": ("unary_unary", op.CreateStreamRequest, op.CreateStreamResponse),
    "ActivateStream": ("unary_unary", op.ActivateStreamRequest, op.ActivateStreamResponse),
    "WriteStream": ("unary_unary", op.WriteStreamRequest, op.WriteStreamResponse),
    "ReadStream": ("unary_stream", op.ReadStreamRequest, op.ReadStreamResponse),
    "EndStream": ("unary_unary", op.EndStreamRequest, op.EndStreamResponse),
    "CallAgent": ("stream_stream", op.CallAgentRequest, op.CallAgentResponse),
    "ControlCall": ("unary_unary", op.ControlCallRequest, op.ControlCallResponse),
    "DownloadCallArtifact": ("unary_stream", op.DownloadCallArtifactRequest, op.DownloadCallArtifactResponse),
    "EndTask": ("unary_unary", op.EndTaskRequest, op.EndTaskResponse),
}

# CancelReason in words; "ended" also when the daemon ended the call, or is gone.
REASONS = ("ended", "user", "expired", "terminated", "deadline", "drain", "shutdown")
