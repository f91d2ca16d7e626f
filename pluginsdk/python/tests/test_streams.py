"""Streams of the package's own handlers."""

from __future__ import annotations

import json
from typing import Any

import grpc
from daemon import Host
from google.protobuf.json_format import MessageToDict

from blocksd._pb import host_pb2 as op


def items(*values: Any) -> list[op.StreamItem]:
    return [op.StreamItem(event_json=json.dumps(v).encode()) for v in values]


def test_write(start: Any) -> None:
    host = Host()
    p = start(
        """
        def handler(task):
            with task.stream("words", metadata={"a": 1}, grace=0.5) as s:
                s.write("text", b"bytes")
                s.write("more", flush=True)
                s.write("now", wait=False)
            s.end()
            return [s.id, s.name, s.direction, s.format, s.channel]
        """,
        host=host,
    )
    call = p.start(has_stream=True)
    assert [d.decode() for _, d in call.artifacts()] == ["s1", "words", "outbound", "bytes", "stream.a.s1"]
    (created,) = host.all("CreateStream")
    assert (created.task_id, created.declared_stream, created.metadata_json, created.grace.nanos) == ("t1", "words", b'{"a": 1}', 500_000_000)
    writes = host.all("WriteStream")
    assert [i.WhichOneof("item") for i in writes[0].items] == ["text", "data"]
    assert [(len(w.items), w.flush, w.no_wait) for w in writes] == [(2, False, False), (1, False, False), (0, True, False), (1, False, True)]
    assert len(host.all("EndStream")) == 1


def test_write_is_cut_to_what_a_message_holds(start: Any) -> None:
    host = Host()
    p = start("def handler(task):\n    task.stream().write(*[bytes(3 << 20)] * 7)", host=host)
    assert p.start().end().HasField("result")
    sizes = [sum(len(i.data) for i in w.items) for w in host.all("WriteStream")]
    assert sum(sizes) == 21 << 20 and max(sizes) <= 4 << 20
    p = start("def handler(task):\n    task.stream().write('ü' * 5_000_000)", host=host)
    assert p.start().end().HasField("result")
    assert "".join(i.text for w in host.all("WriteStream") for i in w.items) == "ü" * 5_000_000


def test_events(start: Any) -> None:
    host = Host()
    host.streams = {"": {"direction": 3, "format": 2}}
    host.incoming = [
        op.ReadStreamResponse(items=items({"a": 1}, "text", None)),
        op.ReadStreamResponse(items=[op.StreamItem(event_data=b"x")], gap=op.StreamGap(messages=3)),
        op.ReadStreamResponse(end=op.StreamEnd(reason="drained")),
    ]
    p = start(
        """
        def handler(task):
            s = task.stream(direction="bidirectional", format="events")
            s.write({"ü": [1, None]}, b"y")
            got = [repr(e) for e in s]
            assert list(s) == []
            return [", ".join(got), s.end_reason, str(s.gaps)]
        """,
        host=host,
    )
    assert [d.decode() for _, d in p.start().artifacts()] == ["{'a': 1}, 'text', None, b'x'", "drained", "3"]
    written = MessageToDict(host.all("WriteStream")[0])["items"]
    assert list(written[0]) == ["eventJson"] and list(written[1]) == ["eventData"]
    assert (host.all("CreateStream")[0].direction, host.all("CreateStream")[0].format) == (3, 2)


def test_reading_ends_with_a_cancel_and_loses_nothing(start: Any) -> None:
    host = Host()
    host.streams = {"": {"direction": 2}}
    host.incoming = [op.ReadStreamResponse(items=[op.StreamItem(text="a"), op.StreamItem(data=b"b")])]
    host.never_ends = True
    p = start(
        """
        def handler(task):
            got = []
            try:
                for piece in task.stream():
                    got.append(piece)
                    task.status("got")
            except blocksd.Canceled as err:
                return [b"".join(got), err.reason]
        """,
        host=host,
    )
    call = p.start()
    call.next(), call.next()
    p.cancel()
    assert [d for _, d in call.artifacts()] == [b"ab", b"user"]


def test_what_the_daemon_refuses(start: Any) -> None:
    host = Host()
    host.refuse = {"WriteStream": grpc.StatusCode.RESOURCE_EXHAUSTED, "EndStream": grpc.StatusCode.FAILED_PRECONDITION}
    p = start(
        """
        def handler(task):
            s = task.stream()
            try:
                s.write("x", wait=False)
            except blocksd.HostError as err:
                task.send(err.code + " " + str(err))
            s.end()
            try:
                s.write(3)
            except TypeError as err:
                task.send(str(err))
            try:
                task.stream(direction="sideways")
            except ValueError as err:
                task.send(str(err))
        """,
        host=host,
    )
    assert [d.decode() for _, d in p.start().artifacts()] == [
        "RESOURCE_EXHAUSTED write the stream: WriteStream is refused",
        "a stream of bytes takes bytes or text, not int",
        "the direction of a stream is outbound or inbound or bidirectional, not 'sideways'",
    ]


def test_external(start: Any) -> None:
    host = Host()
    p = start(
        """
        def handler(task):
            s = task.external_stream("far", metadata={"a": 1})
            s.activate({"b": 2})
            task.complete()
            return s.token
        """,
        host=host,
    )
    assert p.start(kind=2).artifacts()[0][1] == b"write token"
    assert host.all("CreateStream")[0].external and host.all("ActivateStream")[0].metadata_json == b'{"b": 2}'


def test_async_streams(start: Any) -> None:
    host = Host()
    host.streams = {"": {"direction": 3, "format": 2}}
    host.incoming = [op.ReadStreamResponse(items=items(1, 2)), op.ReadStreamResponse(end=op.StreamEnd(reason="ended"))]
    p = start(
        """
        async def handler(task):
            async with await task.stream() as s:
                async for event in s:
                    await s.write(event * 2)
            return s.end_reason
        """,
        host=host,
    )
    assert p.start().artifacts()[0][1] == b"ended"
    assert [w.items[0].event_json for w in host.all("WriteStream")] == [b"2", b"4"]
    assert len(host.all("EndStream")) == 1


def test_async_reading_ends_with_a_cancel(start: Any) -> None:
    host = Host()
    host.streams = {"": {"direction": 2}}
    host.never_ends = True
    p = start(
        """
        async def handler(task):
            s = await task.stream()
            task.status("reads")
            async for _ in s: pass
        """,
        host=host,
    )
    call = p.start()
    call.next()
    host.wait_for("ReadStream")
    p.cancel()
    assert call.end().error.public_message == "the task was asked to end (user)"
