"""The daemon's side of the contract, small: starts a handler process as the daemon does, talks to it, and answers the
calls of its host service from a script. The whole way through the real daemon is tested in e2e/python."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc

from blocksd import _rpc
from blocksd._pb import handler_pb2 as hp
from blocksd._pb import host_pb2 as op
from blocksd._pb import task_pb2 as tp

PACKAGE = Path(__file__).parent.parent
# Bounds hangs; nothing is measured with it.
PATIENCE = 180
TOKEN = "token of a test"
# As the daemon's.
OPTIONS = [("grpc.max_receive_message_length", 16 << 20), ("grpc.max_send_message_length", 16 << 20)]


class Host:
    """The host service. What it was asked is in asked; answers that differ from test to test are its attributes."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, Any]] = []
        self.news = threading.Condition()
        self.files: dict[int, bytes] = {}
        self.streams: dict[str, dict[str, Any]] = {}  # what CreateStream answers, by declared name
        self.incoming: list[op.ReadStreamResponse] = []
        self.never_ends = False  # ReadStream says no end
        self.refuse: dict[str, grpc.StatusCode] = {}
        self.called: list[dict[str, Any]] = []  # events of a called task
        self.announced: list[op.CalledStream] = []  # its streams, with the first event
        self.later: list[op.CalledStream] = []  # those that come with the last event
        self.over: set[str] = set()  # the ids of those that cannot be opened any more
        self.broken = -1  # the index of an artifact whose download breaks off
        self.held = -1  # that of one which goes on in the middle when go_on is set
        self.go_on = threading.Event()
        self.hold = threading.Event()  # held back before the last of them
        self.hold.set()

    def _note(self, name: str, request: Any, context: Any) -> None:
        if dict(context.invocation_metadata()).get("blocksd-host-token") != TOKEN:
            context.abort(grpc.StatusCode.PERMISSION_DENIED, "no token")
        with self.news:
            self.asked.append((name, request))
            self.news.notify_all()
        if name in self.refuse:
            context.abort(self.refuse[name], f"{name} is refused")

    def all(self, name: str) -> list[Any]:
        return [r for n, r in self.asked if n == name]

    def wait_for(self, name: str, count: int = 1) -> list[Any]:
        with self.news:
            assert self.news.wait_for(lambda: len(self.all(name)) >= count, PATIENCE), f"no {name}"
        return self.all(name)

    def DownloadInput(self, request: Any, context: Any) -> Any:
        self._note("DownloadInput", request, context)
        if request.part_index not in self.files:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "the part has no file")
        data = self.files[request.part_index]
        yield op.DownloadInputResponse(file=tp.File(name="f", size=len(data)))
        for i in range(0, len(data), 100_000):
            yield op.DownloadInputResponse(data=data[i : i + 100_000])

    def PublishArtifact(self, requests: Any, context: Any) -> Any:
        for request in requests:
            self._note("PublishArtifact", request, context)
        return op.PublishArtifactResponse()

    def CreateStream(self, request: Any, context: Any) -> Any:
        self._note("CreateStream", request, context)
        given = {"direction": 1, "format": 1, "stream_id": "s1", "created": True, **self.streams.get(request.declared_stream, {})}
        answer = op.CreateStreamResponse(declared_stream=request.declared_stream, channel="stream.a.s1", **given)
        if request.external:
            answer.external.token = "write token"
        return answer

    def ActivateStream(self, request: Any, context: Any) -> Any:
        self._note("ActivateStream", request, context)
        return op.ActivateStreamResponse()

    def WriteStream(self, request: Any, context: Any) -> Any:
        self._note("WriteStream", request, context)
        return op.WriteStreamResponse()

    def ReadStream(self, request: Any, context: Any) -> Any:
        self._note("ReadStream", request, context)
        yield from self.incoming
        if self.never_ends:
            over = threading.Event()
            context.add_callback(over.set)
            over.wait(PATIENCE)

    def EndStream(self, request: Any, context: Any) -> Any:
        self._note("EndStream", request, context)
        return op.EndStreamResponse()

    def CallAgent(self, requests: Any, context: Any) -> Any:
        for request in requests:
            self._note("CallAgent", request, context)
        yield op.CallAgentResponse(submitted=op.SubmittedCall(task_id="called-1", queued=True))
        for i, event in enumerate(self.called):
            if i == len(self.called) - 1:
                self.hold.wait(PATIENCE)
            yield op.CallAgentResponse(event_json=json.dumps(event).encode(), streams=self._announced(i))

    def _announced(self, event: int) -> list[op.CalledStream]:
        return self.announced if event == 0 else self.later if event == len(self.called) - 1 else []

    def ControlCall(self, request: Any, context: Any) -> Any:
        self._note("ControlCall", request, context)
        self.hold.set()
        return op.ControlCallResponse()

    def DownloadCallArtifact(self, request: Any, context: Any) -> Any:
        self._note("DownloadCallArtifact", request, context)
        yield op.DownloadCallArtifactResponse(info=tp.ArtifactInfo(mime_type="text/plain", file_name="r.txt"))
        yield op.DownloadCallArtifactResponse(data=b"result ")
        if request.artifact_index == self.held:
            self.go_on.wait(PATIENCE)
        if request.artifact_index == self.broken:
            context.abort(grpc.StatusCode.UNAVAILABLE, "its content does not have the hash that was announced")
        yield op.DownloadCallArtifactResponse(data=b"%d" % request.artifact_index)

    def OpenCallStream(self, request: Any, context: Any) -> Any:
        self._note("OpenCallStream", request, context)
        if request.stream_id in self.over:
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, "it has ended")
        return op.OpenCallStreamResponse(stream=next(s for s in self.announced + self.later if s.stream_id == request.stream_id))

    def serve(self, socket: Path) -> grpc.Server:
        server = grpc.server(futures.ThreadPoolExecutor(32), options=OPTIONS)
        methods = {}
        for name, (request, response) in _rpc.HOST_METHODS.items():
            ways = op.DESCRIPTOR.services_by_name["HostService"].methods_by_name[name]
            kind = "_".join("stream" if way else "unary" for way in (ways.client_streaming, ways.server_streaming))
            make = getattr(grpc, f"{kind}_rpc_method_handler")
            methods[name] = make(getattr(self, name), request_deserializer=request.FromString, response_serializer=response.SerializeToString)
        server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(_rpc.HOST_SERVICE, methods)])
        server.add_insecure_port(f"unix:{socket}")
        server.start()
        return server


class Call:
    """One StartTask."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self.responses: list[hp.StartTaskResponse] = []

    def next(self) -> hp.StartTaskResponse:
        response = next(self._stream)
        self.responses.append(response)
        return response

    def rest(self) -> list[hp.StartTaskResponse]:
        self.responses.extend(self._stream)
        return self.responses

    def end(self) -> hp.StartTaskResponse:
        return self.rest()[-1]

    def artifacts(self) -> list[tuple[tp.ArtifactInfo, bytes]]:
        """Those of the whole answer, put together."""
        out: list[tuple[tp.ArtifactInfo, bytes]] = []
        begun: tuple[tp.ArtifactInfo, bytes] | None = None
        for chunk in (r.artifact for r in self.rest() if r.HasField("artifact")):
            assert chunk.HasField("info") == (begun is None)
            assert len(chunk.data) <= 256 << 10
            begun = (chunk.info, chunk.data) if begun is None else (begun[0], begun[1] + chunk.data)
            if chunk.last:
                out.append(begun)
                begun = None
        assert begun is None
        return out

    def cancel(self) -> None:
        self._stream.cancel()


class Process:
    """A handler process, and the connection to it once it has said where it listens."""

    def __init__(self, argv: list[str], directory: Path, host: Host | None = None, env: dict[str, str] | None = None) -> None:
        self.directory = directory
        self.host = host or Host()
        self._server = self.host.serve(directory / "host.sock")
        environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(PACKAGE),
            "BLOCKS_HANDLER_COOKIE": "blocks.handler.v1",
            "PLUGIN_UNIX_SOCKET_DIR": str(directory),
            "PLUGIN_PROTOCOL_VERSIONS": "1",
            "BLOCKSD_HOST_SOCKET": str(directory / "host.sock"),
            "BLOCKSD_HOST_TOKEN": TOKEN,
            **(env or {}),
        }
        self.popen = subprocess.Popen(
            [sys.executable, *argv], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment
        )
        self.log: list[str] = []
        self._news = threading.Condition()
        self._line: queue.Queue[str] = queue.Queue()
        self.stdout: list[str] = []
        self._readers = [threading.Thread(target=f) for f in (self._read_out, self._read_err)]
        for reader in self._readers:
            reader.start()
        self._channel: grpc.Channel | None = None

    def _read_out(self) -> None:
        for line in self.popen.stdout:  # type: ignore[union-attr]
            self.stdout.append(line.decode().rstrip("\n"))
            self._line.put(self.stdout[-1])
        self._line.put("")

    def _read_err(self) -> None:
        for line in self.popen.stderr:  # type: ignore[union-attr]
            with self._news:
                self.log.append(line.decode().rstrip("\n"))
                self._news.notify_all()

    def wait_for_line(self, line: str) -> None:
        with self._news:
            assert self._news.wait_for(lambda: line in self.log, PATIENCE), self.log

    def connect(self) -> Process:
        line = self._line.get(timeout=PATIENCE)
        fields = line.split("|")
        assert len(fields) == 6 and fields[:3] == ["1", "1", "unix"] and fields[4:] == ["grpc", ""], (line, self.log)
        self._channel = grpc.insecure_channel("unix:" + fields[3], options=OPTIONS)
        return self

    def _unary(self, path: str, request: bytes) -> bytes:
        assert self._channel is not None
        return self._channel.unary_unary(path)(request, timeout=PATIENCE)  # type: ignore[no-any-return]

    def health(self, service: str = "plugin") -> bytes:
        return self._unary("/grpc.health.v1.Health/Check", b"\n" + bytes([len(service)]) + service.encode())

    def describe(self) -> hp.DescribeResponse:
        return hp.DescribeResponse.FromString(self._unary("/blocks.handler.v1.HandlerService/Describe", b""))

    def start(self, *parts: tp.Part, id: str = "t1", **task: Any) -> Call:
        assert self._channel is not None
        method = self._channel.unary_stream(
            "/blocks.handler.v1.HandlerService/StartTask", response_deserializer=hp.StartTaskResponse.FromString
        )
        message = tp.Task(**{"task_id": id, "agent_name": "agent", "kind": 1, "parts": parts, **task})
        return Call(method(hp.StartTaskRequest(task=message).SerializeToString(), timeout=PATIENCE))

    def cancel(self, id: str = "t1", reason: int = 1) -> None:
        request = hp.CancelTaskRequest(task_id=id, reason=reason)
        self._unary("/blocks.handler.v1.HandlerService/CancelTask", request.SerializeToString())

    def shutdown(self) -> int:
        self._unary("/plugin.GRPCController/Shutdown", b"")
        return self.wait()

    def wait(self) -> int:
        code = self.popen.wait(PATIENCE)
        for reader in self._readers:
            reader.join(PATIENCE)
        return code

    def close(self) -> None:
        if self.popen.poll() is None:
            self.popen.send_signal(signal.SIGKILL)
        self.wait()
        if self._channel is not None:
            self._channel.close()
        self.host.hold.set()
        self.host.go_on.set()
        self._server.stop(None).wait()
        self.popen.stdout.close()  # type: ignore[union-attr]
        self.popen.stderr.close()  # type: ignore[union-attr]

    def records(self) -> list[dict[str, Any]]:
        """The lines of the log that are JSON."""
        return [json.loads(line) for line in self.log if line.startswith("{")]


def text(value: str, id: str = "request") -> tp.Part:
    raw = json.dumps({"partId": id, "text": value}).encode()
    return tp.Part(part_id=id, text=value, raw_json=raw)


def file(name: str, size: int, id: str = "file") -> tp.Part:
    ref = {"kind": "file", "mimeType": "image/png", "size": size, "channel": "c", "fileId": "f", "fileName": name}
    raw = json.dumps({"partId": id, "artifactRef": ref}).encode()
    return tp.Part(part_id=id, file=tp.File(name=name, mime_type="image/png", size=size), raw_json=raw)
