"""Streams of called tasks: in handlers of this package, and in projects of Blocks' own SDK."""

from __future__ import annotations

import json
from typing import Any

import grpc
import pytest
from daemon import Host

from blocksd._pb import host_pb2 as op

STARTED = {"type": "progress", "streamEvent": "stream_started"}
DONE = {"type": "terminal", "state": "completed"}


def calling() -> Host:
    """A daemon whose called task has a stream to read, of events, and one to write, of bytes."""
    host = Host()
    host.called = [STARTED, DONE]
    host.hold.clear()
    host.announced = [
        op.CalledStream(stream_id="c-1", declared_stream="quotes", direction=2, format=2, metadata_json=b'{"a": 1}'),
        op.CalledStream(stream_id="c-2", declared_stream="words", direction=1, format=1, shared=True),
    ]
    host.incoming = [
        op.ReadStreamResponse(items=[op.StreamItem(event_json=b'{"px": 1}'), op.StreamItem(event_json=b"2")]),
        op.ReadStreamResponse(end=op.StreamEnd(reason="ended")),
    ]
    return host


def check(host: Host) -> None:
    assert [r.stream_id for r in host.all("OpenCallStream")] == ["c-1", "c-2"]
    assert {(r.task_id, r.called_task_id) for r in host.all("OpenCallStream")} == {("t1", "called-1")}
    (read,) = host.all("ReadStream")
    assert (read.task_id, read.called_task_id, read.stream_id) == ("t1", "called-1", "c-1")
    (write,) = host.all("WriteStream")
    assert (write.called_task_id, write.stream_id, write.items[0].text) == ("called-1", "c-2", "hello")
    assert ("called-1", "c-2") in [(e.called_task_id, e.stream_id) for e in host.all("EndStream")]


def test_they_are_waited_for_read_and_written(start: Any) -> None:
    host = calling()
    p = start(
        """
        def handler(task):
            with task.call("other", "hi", stream=True) as call:
                with call.stream("quotes") as quotes, call.stream("c-2") as words:
                    got = [quotes.direction, quotes.format, list(quotes)]
                    words.write("hello")
                got.append([(s.name, s.direction, s.shared, s.metadata) for s in call.streams])
                call.cancel()
                got.append(call.wait().state)
            return {"got": got}
        """,
        host=host,
    )
    (_, got), = p.start().artifacts()
    assert got == (
        b'{"got": ["inbound", "events", [{"px": 1}, 2], '
        b'[["quotes", "inbound", false, {"a": 1}], ["words", "outbound", true, null]], "completed"]}'
    )
    assert host.all("CallAgent")[0].call.stream
    check(host)


def test_an_async_function_reads_them_too(start: Any) -> None:
    host = calling()
    p = start(
        """
        async def handler(task):
            async with await task.call("other", "hi", stream=True) as call:
                got = [item async for item in await call.stream("quotes")]
                async with await call.stream("words") as words:
                    await words.write("hello")
                return {"got": got}
        """,
        host=host,
    )
    assert p.start().artifacts()[0][1] == b'{"got": [{"px": 1}, 2]}'
    check(host)


@pytest.mark.parametrize(
    "wait, says",
    [
        ("call.stream()", "the called task called-1 has several streams: name one of quotes, words"),
        ("call.stream('none')", "the called task called-1 has ended without the stream 'none'"),
        ("call.stream('none', timeout=0.01)", "the called task called-1 has not announced the stream after 0.01 s"),
    ],
)
def test_what_is_not_there_is_said(start: Any, wait: str, says: str) -> None:
    host = calling()
    if "timeout" not in wait:
        host.hold.set()
    p = start(
        f"""
        def handler(task):
            call = task.call("other", "hi")
            next(call.events())
            {wait}
        """,
        host=host,
    )
    assert p.start().end().error.public_message == says


def test_a_project_has_the_verbs_of_its_sdk(project: Any) -> None:
    host = calling()
    p = project(
        """
        import threading
        from blocks_network import SendMessageRequestPart, StreamUnavailableError
        def handler(task, ctx):
            part = SendMessageRequestPart(part_id="request", text="hi")
            session = ctx.task_client.send_message(agent_name="other", request_parts=[part], stream=True)
            seen, order, both = [], [], threading.Event()
            session.on_progress(lambda e: order.append("progress"))
            def on_stream(ref):
                order.append(ref.descriptor.declared_stream)
                if len(order) >= 2: both.set()
            session.on_stream(on_stream)
            quotes = session.wait_for_stream("quotes", timeout=180)
            assert not quotes.is_open
            stream = quotes.open()
            assert stream is quotes.open() and quotes.is_open
            d = quotes.descriptor
            seen.append([d.agent_direction, d.local_direction, d.format, d.affinity, d.metadata, d.agent_name])
            seen.append(list(stream.events()))
            words = session.wait_for_stream_where(lambda r: r.descriptor.affinity == "shared", timeout=180).open()
            words.write("hello")
            words.end()
            both.wait(180)
            late = []
            session.on_stream(lambda ref: late.append(ref.descriptor.stream_id))
            seen.append([late, [r.descriptor.stream_id for r in session.list_streams()]])
            try:
                session.list_streams()[1].open()
            except RuntimeError as err:
                seen.append(str(err))
            session.cancel()
            session.wait_for_terminal(180)
            try:
                session.wait_for_stream("none")
            except RuntimeError as err:
                seen.append("ended without" in str(err) or "without this stream" in str(err))
            fresh = session.list_streams()[0]
            session.close()
            return {"artifacts": [{"data": repr(seen)}]}
        """,
        host=host,
    )
    (_, got), = p.start().artifacts()
    assert eval(got) == [
        ["outbound", "inbound", "events", "dedicated", {"a": 1}, "other"],
        [{"px": 1}, 2],
        [["c-1", "c-2"], ["c-1", "c-2"]],
        "the stream c-2 was opened and has ended already",
        True,
    ]
    assert host.all("CallAgent")[0].call.stream
    check(host)


def test_a_stream_of_a_task_that_has_ended_is_unavailable(project: Any) -> None:
    host = calling()
    host.hold.set()
    p = project(
        """
        from blocks_network import StreamUnavailableError
        def handler(task, ctx):
            session = ctx.task_client.send_message(agent_name="other", request_parts=[])
            session.wait_for_terminal(180)
            try:
                session.list_streams()[0].open()
            except StreamUnavailableError as err:
                return {"artifacts": [{"data": repr((err.task_id, err.stream_id, err.declared_stream, err.terminal_state, session.open_all_streams()))}]}
        """,
        host=host,
    )
    assert eval(p.start().artifacts()[0][1]) == ("called-1", "c-1", "quotes", "completed", [])


def test_streams_are_consumed_and_written_in_the_background(project: Any) -> None:
    host = calling()
    p = project(
        """
        def handler(task, ctx):
            session = ctx.task_client.send_message(agent_name="other", request_parts=[], stream=True)
            got = []
            quotes = session.wait_for_stream("quotes").open()
            reader = quotes.consume_in_background(got.append)
            words = session.wait_for_stream("words").open()
            def next_word(count):
                if count == 2: words.end()
                return "hello"
            words.write_periodic(0.001, next_word).join(180)
            reader.join(180)
            return {"artifacts": [{"data": repr(got)}]}
        """,
        host=host,
    )
    assert eval(p.start().artifacts()[0][1]) == [{"px": 1}, 2]
    assert [w.items[0].text for w in host.all("WriteStream")] == ["hello"]


NEWS = op.CalledStream(stream_id="c-3", declared_stream="news", direction=3, format=2)


@pytest.mark.parametrize(
    "source",
    [
        """
        def handler(task):
            with task.call("other", "hi", stream=True) as call:
                seen = []
                def fits(s):
                    seen.append(s.name)
                    return s.shared and len(call.streams) == 2  # whoever looks may ask the call
                words = call.stream_where(fits)
                quotes = call.stream_where(lambda s: s.metadata == {"a": 1})
                got = [words.name, seen, list(quotes), call.stream("quotes").id]
                try:
                    call.stream_where(lambda s: False, timeout=0.01)
                except TimeoutError as err:
                    got.append(str(err))
                call.cancel()
                try:
                    call.stream_where(lambda s: False)
                except blocksd.Error as err:
                    got.append(str(err))
                try:
                    call.stream_where(lambda s: s.none)
                except AttributeError:
                    got.append("its own")
            return {"got": got}
        """,
        """
        async def handler(task):
            async with await task.call("other", "hi", stream=True) as call:
                seen = []
                def fits(s):
                    seen.append(s.name)
                    return s.shared and len(call.streams) == 2
                words = await call.stream_where(fits)
                quotes = await call.stream_where(lambda s: s.metadata == {"a": 1})
                got = [words.name, seen, [item async for item in quotes], (await call.stream("quotes")).id]
                try:
                    await call.stream_where(lambda s: False, timeout=0.01)
                except TimeoutError as err:
                    got.append(str(err))
                await call.cancel()
                try:
                    await call.stream_where(lambda s: False)
                except blocksd.Error as err:
                    got.append(str(err))
                try:
                    await call.stream_where(lambda s: s.none)
                except AttributeError:
                    got.append("its own")
            return {"got": got}
        """,
    ],
    ids=["plain", "async"],
)
def test_one_is_waited_for_by_what_it_is(start: Any, source: str) -> None:
    host = calling()
    p = start(source, host=host)
    assert json.loads(p.start().artifacts()[0][1])["got"] == [
        "words", ["quotes", "words"], [{"px": 1}, 2], "c-1",
        "the called task called-1 has not announced the stream after 0.01 s",
        "the called task called-1 has ended without a stream that fits", "its own",
    ]
    assert [r.stream_id for r in host.all("OpenCallStream")] == ["c-2", "c-1"]


@pytest.mark.parametrize(
    "source",
    [
        """
        def handler(task):
            with task.call("other", "hi", stream=True) as call:
                got = []
                for stream in call.open_all():
                    got.append([stream.name, stream.direction])
                    task.status(stream.name)
                return {"got": got, "again": [s.name for s in call.open_all()]}
        """,
        """
        async def handler(task):
            async with await task.call("other", "hi", stream=True) as call:
                got = []
                async for stream in call.open_all():
                    got.append([stream.name, stream.direction])
                    task.status(stream.name)
                return {"got": got, "again": [s.name async for s in call.open_all()]}
        """,
    ],
    ids=["plain", "async"],
)
def test_all_are_opened_as_they_are_announced(start: Any, source: str) -> None:
    host = calling()
    host.later = [NEWS]
    host.over = {"c-4"}
    host.announced.append(op.CalledStream(stream_id="c-4", direction=2, format=1))
    p = start(source, host=host)
    call = p.start()
    while not call.next().HasField("status"):
        pass
    assert [r.stream_id for r in host.all("OpenCallStream")][:1] == ["c-1"], "before the others are announced"
    host.hold.set()
    assert json.loads(call.artifacts()[0][1]) == {
        "got": [["quotes", "inbound"], ["news", "bidirectional"]],
        "again": ["quotes", "news"],
    }
    assert [r.stream_id for r in host.all("OpenCallStream")] == ["c-1", "c-4", "c-3", "c-4"]


def test_opening_all_says_what_is_refused(start: Any) -> None:
    host = calling()
    host.refuse = {"OpenCallStream": grpc.StatusCode.RESOURCE_EXHAUSTED}
    p = start("def handler(task):\n    list(task.call('other', 'hi', stream=True).open_all())", host=host)
    assert p.start().end().error.public_message == "open the stream c-1 of the called task: OpenCallStream is refused"


@pytest.mark.parametrize("wait", ["list(call.open_all())", "call.stream_where(lambda s: False)"])
def test_a_cancel_wakes_who_waits_for_streams(start: Any, wait: str) -> None:
    host = calling()
    p = start(f"def handler(task):\n    call = task.call('other', 'hi', stream=True)\n    task.status('waits')\n    {wait}", host=host)
    call = p.start()
    host.wait_for("CallAgent")
    while not call.next().HasField("status"):
        pass
    p.cancel()
    assert call.end().error.public_message == "the task was asked to end (user)"
