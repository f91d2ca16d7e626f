"""The methods of the contract, without generated stubs: a name and the messages of each."""

from __future__ import annotations

from typing import Any

from ._pb import host_pb2 as op

HANDLER_SERVICE = "blocks.handler.v1.HandlerService"
HOST_SERVICE = "blocks.handler.v1.HostService"
HOST_SOCKET_VARIABLE = "BLOCKSD_HOST_SOCKET"
HOST_TOKEN_VARIABLE = "BLOCKSD_HOST_TOKEN"
HOST_TOKEN_KEY = "blocksd-host-token"

# What one message carries of a file, in bytes.
CHUNK = 256 << 10

# The messages of each method of the host.
HOST_METHODS: dict[str, tuple[Any, Any]] = {
    "DownloadInput": (op.DownloadInputRequest, op.DownloadInputResponse),
    "PublishArtifact": (op.PublishArtifactRequest, op.PublishArtifactResponse),
    "CreateStream": (op.CreateStreamRequest, op.CreateStreamResponse),
    "ActivateStream": (op.ActivateStreamRequest, op.ActivateStreamResponse),
    "WriteStream": (op.WriteStreamRequest, op.WriteStreamResponse),
    "ReadStream": (op.ReadStreamRequest, op.ReadStreamResponse),
    "EndStream": (op.EndStreamRequest, op.EndStreamResponse),
    "CallAgent": (op.CallAgentRequest, op.CallAgentResponse),
    "ControlCall": (op.ControlCallRequest, op.ControlCallResponse),
    "DownloadCallArtifact": (op.DownloadCallArtifactRequest, op.DownloadCallArtifactResponse),
    "OpenCallStream": (op.OpenCallStreamRequest, op.OpenCallStreamResponse),
}

# CancelReason in words; "ended" also when the daemon ended the call, or is gone.
REASONS = ("ended", "user", "expired", "terminated", "deadline", "drain", "shutdown")
