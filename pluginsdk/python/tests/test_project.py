"""Projects of Blocks' own SDK: the message, the context, what a handler returns."""

from __future__ import annotations

import json
from typing import Any

import pytest
from daemon import Host, file, text
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from blocksd._pb import host_pb2 as op
from blocksd._pb import task_pb2 as tp


def answers(call: Any) -> list[str]:
    artifacts = [d.decode() for _, d in call.artifacts()]
    assert call.end().HasField("result"), call.end()
    return artifacts


def lasting(p: Any, call: Any, count: int, id: str = "t1") -> list[str]:
    """The same of a pipe task, which goes on after so many artifacts until it is asked to end."""
    while sum(r.HasField("artifact") and r.artifact.last for r in call.responses) < count:
        call.next()
    p.cancel(id)
    return answers(call)


# What handlers answer with, in the tests below.
SAY = """
def say(*texts):
    return {"artifacts": [{"data": str(t), "mimeType": "text/plain"} for t in texts]}
"""


def test_describe_is_the_card(project: Any) -> None:
    p = project("def handler(task, ctx): pass", card={"io": {"inputs": []}})
    d = p.describe()
    assert (d.name, d.version) == ("agent", "1.2.3")
    assert json.loads(d.agent_cards_json[0])["io"] == {"inputs": []}
    assert answers(p.start()) == []
    assert p.shutdown() == 0


def test_the_message(project: Any) -> None:
    p = project(
        SAY
        + """
def handler(task, ctx):
    a, b = task.request_parts[:2]
    return say(
        [task.type, task.task_id, task.agent_name, task.owner_id, task.org_id, task.task_kind, task.duration, task.has_stream],
        [task.caller_claims, task.request_summary, task.duration_expires_at_ms, task.consumer_public_key],
        [a.part_id, a.text, a.content_type, a.artifact_ref, a.extra],
        [a["part_id"], a["partId"], a.get("text"), a.get("nothing", 7), "text" in a, "artifactRef" in a, a["kind"]],
        [b.artifact_ref.file_name, b.artifact_ref.mime_type, b.artifact_ref["fileName"], b["artifactRef"]["size"], b.artifact_ref.kind],
        task.request_parts[2:],
        [task["taskId"], task.get("request_parts")[0].text, task.to_dict()["requestParts"][0]],
    )
"""
    )
    extra = json.dumps({"partId": "request", "text": "hi", "kind": "math_add"}).encode()
    call = p.start(
        tp.Part(part_id="request", text="hi", raw_json=extra),
        file("a.png", 3),
        tp.Part(raw_json=b"5"),
        kind=2,
        owner_id="o",
        org_id="g",
        has_stream=True,
        caller_claims_json=b'{"sub": "x"}',
        duration=Duration(seconds=300),
        deadline=Timestamp(seconds=1_800_000_000, nanos=5_000_000),
    )
    assert lasting(p, call, 7) == [
        "['StartTask', 't1', 'agent', 'o', 'g', 'pipe', 5, True]",
        "[{'sub': 'x'}, {}, 1800000000005, None]",
        "['request', 'hi', None, None, {'kind': 'math_add'}]",
        "['request', 'request', 'hi', 7, True, False, 'math_add']",
        "['a.png', 'image/png', 'a.png', 3, 'file']",
        "[5]",
        "['t1', 'hi', {'kind': 'math_add', 'partId': 'request', 'text': 'hi'}]",
    ]


@pytest.mark.parametrize(
    "value, artifacts",
    [
        ("None", []),
        ("'text'", []),
        ("{}", []),
        ("{'artifacts': 'x'}", []),
        ("{'artifacts': [{'data': 'a'}]}", [("application/octet-stream", "", "", b"a")]),
        ("{'artifacts': [{'data': b'a', 'mimeType': 'x/y', 'fileName': 'f', 'outputId': 'o'}]}", [("x/y", "f", "o", b"a")]),
        ("{'artifacts': [{'data': None}, 3, {'data': 4}, {'data': '', 'mimeType': ''}], 'more': 1}", [("application/octet-stream", "", "", b"")]),
        ("type('R', (), {'artifacts': [{'data': 'a'}]})()", [("application/octet-stream", "", "", b"a")]),
    ],
)
def test_what_a_handler_returns(project: Any, value: str, artifacts: list[Any]) -> None:
    call = project(f"def handler(task, ctx): return {value}").start()
    assert [(i.mime_type, i.file_name, i.output_id, d) for i, d in call.artifacts()] == artifacts
    assert call.end().HasField("result")


def test_an_async_handler_is_awaited(project: Any) -> None:
    p = project(SAY + "import asyncio\nasync def handler(task, ctx):\n    await asyncio.sleep(0)\n    return say('awaited')")
    assert answers(p.start()) == ["awaited"]


BLOCKS = """
import threading
both = threading.Barrier(2)

async def handler(task, ctx):
    both.wait(20)
    return say("both")
"""


def test_an_async_handler_that_blocks_holds_up_no_other_task(project: Any) -> None:
    p = project(SAY + BLOCKS)
    calls = [p.start(id=f"t{i}") for i in range(2)]
    assert [answers(call) for call in calls] == [["both"]] * 2


def test_an_async_handler_that_exits_ends_only_its_task(project: Any) -> None:
    p = project(SAY + "import sys\nasync def handler(task, ctx):\n    if task.request_parts: sys.exit('enough')\n    return say('here')")
    assert p.start(text("x")).end().error.public_message == "enough"
    assert answers(p.start(id="t2")) == ["here"]


FORKS = """
import os

async def handler(task, ctx):
    child = os.fork()
    if child:
        os.waitpid(child, 0)
    return say("parent" if child else "child")
"""


def test_a_process_that_an_async_handler_forks_ends(project: Any) -> None:
    assert answers(project(SAY + FORKS).start()) == ["parent"]


def test_errors(project: Any) -> None:
    p = project("def handler(task, ctx):\n    raise {'a': ValueError('broken'), 'b': KeyError()}[task.request_parts[0].text]")
    assert p.start(text("a")).end().error.public_message == "broken"
    error = p.start(text("b")).end().error
    assert error.public_message == "Agent instance error (KeyError)" and "handler.py" in error.private_message


def test_status_artifacts_inputs_and_prints(project: Any) -> None:
    host = Host()
    host.files = {1: b"file"}
    p = project(
        SAY
        + """
def handler(task, ctx):
    print("a print")
    ctx.report_status("half")
    ctx.publish_artifact("now", mime_type="text/plain", file_name="n", output_id="o")
    ctx.publish_artifact(b"bytes")
    try:
        ctx.publish_artifact(3)
    except TypeError as err:
        wrong = err
    t, f, i = task.request_parts
    try:
        ctx.download_input_artifact(t)
    except ValueError as err:
        no = err
    copy = {"partId": "file", "artifactRef": {"kind": "file"}}
    return say(wrong, no, ctx.download_input_artifact(f), ctx.download_input_artifact(i), ctx.download_input_artifact(copy), ctx.task_id)
""",
        host=host,
    )
    inline = {"partId": "i", "artifactRef": {"kind": "inline", "data": "aW5saW5l", "size": 6}}
    call = p.start(text("x"), file("f", 4), tp.Part(part_id="i", file=tp.File(size=6), raw_json=json.dumps(inline).encode()))
    assert answers(call) == [
        "publish_artifact takes a text or bytes, not int",
        "this input has no artifact reference: it is a text",
        "b'file'", "b'inline'", "b'file'", "t1",
    ]
    assert call.responses[0].status == "half"
    first, second = host.all("PublishArtifact")
    assert (first.chunk.info.mime_type, first.chunk.info.file_name, first.chunk.info.output_id, first.chunk.data) == ("text/plain", "n", "o", b"now")
    assert (second.chunk.info.mime_type, second.chunk.data) == ("application/octet-stream", b"bytes")
    p.shutdown()
    assert p.log == ["a print"]


def test_cancel_and_expiry(project: Any) -> None:
    p = project(
        SAY
        + """
def handler(task, ctx):
    before = ctx.is_cancelled
    ctx.report_status("waits")
    ctx.cancel_event.wait()
    return say(before, ctx.is_cancelled, ctx.is_expired)
"""
    )
    for reason, expired in ((1, "False"), (2, "True")):
        call = p.start()
        call.next()
        p.cancel(reason=reason)
        assert answers(call) == ["False", "True", expired]


def test_a_handler_that_blocks_hurts_only_its_task(project: Any) -> None:
    p = project(SAY + "import threading\ndef handler(task, ctx):\n    if task.request_parts: threading.Event().wait()\n    return say(1)")
    blocked = [p.start(text("x"), id=f"b{i}") for i in range(50)]
    assert answers(p.start(id="free")) == ["1"]
    assert p.health() == b"\x08\x01"
    for call in blocked:
        call.cancel()


def events(*values: Any) -> list[op.StreamItem]:
    return [op.StreamItem(event_json=json.dumps(v).encode()) for v in values]


def test_a_stream_that_is_written(project: Any) -> None:
    host = Host()
    p = project(
        SAY
        + """
def handler(task, ctx):
    ended = []
    s = ctx.create_stream(metadata={"a": 1}, subscribe_grace_ms=0, bundle_size_bytes=10, max_latency_ms=5)
    s.on_end(lambda: ended.append(1))
    s.write("text"); s.write(b"bytes")
    try:
        next(s.bytes())
    except RuntimeError as err:
        reading = err
    before = s.is_active
    s.end(); s.end()
    try:
        s.write("x")
    except RuntimeError as err:
        writing = err
    return say(s.stream_id, s.channel, before, s.is_active, ended, reading, writing, s.external, bool(s.uuid))
""",
        host=host,
        card={"streams": {"words": {"direction": "outbound", "format": "bytes"}}},
    )
    assert answers(p.start(has_stream=True)) == [
        "s1", "stream.a.s1", "True", "False", "[1]", "the stream s1 can only be written",
        "the stream s1 has ended: nothing can be written to it", "False", "True",
    ]
    (created,) = host.all("CreateStream")
    assert (created.declared_stream, created.metadata_json, created.direction) == ("words", b'{"a": 1}', 0)
    assert len(host.all("EndStream")) == 1
    refused = p.start().end().error.public_message
    assert refused == "the caller of this task did not ask for streams: look at ctx.has_stream first"


def test_a_stream_that_is_left_open_ends_before_the_answer(project: Any) -> None:
    host = Host()
    p = project(SAY + "def handler(task, ctx):\n    ctx.create_stream(subscribe_grace_ms=0).write('x')\n    return say(1)", host=host)
    assert answers(p.start(has_stream=True)) == ["1"]
    assert len(host.all("EndStream")) == 1
    assert lasting(p, p.start(has_stream=True, kind=2, id="t2"), 1, "t2") == ["1"]
    assert len(host.all("EndStream")) == 1  # that of the pipe stays open


def test_a_stream_of_events_both_ways(project: Any) -> None:
    host = Host()
    host.streams = {"chat": {"direction": 3, "format": 2}}
    host.incoming = [op.ReadStreamResponse(items=events({"say": "hi"}, {"say": "bye"}, {"say": "unread"}))]
    host.never_ends = True
    p = project(
        SAY
        + """
def handler(task, ctx):
    s = ctx.create_stream(declared_stream="chat", direction="bidirectional", format="events", subscribe_grace_ms=0)
    heard = []
    for event in s.events():
        heard.append(event)
        if event == {"say": "bye"}: break
        s.write({"heard": event})
    s.write(b"raw")
    try:
        s.write("bare")
    except ValueError as err:
        refused = err
    message = next(s.inbound)
    s.end()
    return say(heard, refused, message.data, message.seq, message.format, list(s.events()))
""",
        host=host,
    )
    assert answers(p.start(has_stream=True)) == [
        "[{'say': 'hi'}, {'say': 'bye'}]", "a stream of events takes JSON values or bytes, not a bare text", "{'say': 'unread'}", "1", "events", "[]",
    ]
    assert [w.items[0].WhichOneof("item") for w in host.all("WriteStream")] == ["event_json", "event_data"]


def test_a_stream_that_is_read(project: Any) -> None:
    host = Host()
    host.streams = {"up": {"direction": 2}}
    host.incoming = [
        op.ReadStreamResponse(items=[op.StreamItem(text="ab"), op.StreamItem(data=b"cd")]),
        op.ReadStreamResponse(items=[op.StreamItem(text="ef")], end=op.StreamEnd(reason="revoked", detail="no more")),
    ]
    p = project(
        SAY
        + """
def handler(task, ctx):
    s = ctx.create_stream(declared_stream="up", direction="inbound")
    told = []
    s.on_error(lambda e: told.append((e.category, e.error, e.fatal)))
    s.on_end(lambda: told.append("end"))
    f = s.as_file()
    head = f.read(3)
    return say(head, f.read(), told)
""",
        host=host,
    )
    assert answers(p.start(has_stream=True)) == ["b'abc'", "b'def'", "[('access_denied', 'no more', True), 'end']"]


def test_a_reader_is_woken_by_a_cancel(project: Any) -> None:
    host = Host()
    host.streams = {"": {"direction": 2}}
    host.never_ends = True
    p = project(SAY + "def handler(task, ctx):\n    return say(list(ctx.create_stream(direction='inbound').bytes()), ctx.is_cancelled)", host=host)
    call = p.start(has_stream=True)
    host.wait_for("ReadStream")
    p.cancel()
    assert answers(call) == ["[]", "True"]


def test_on_activate(project: Any) -> None:
    host = Host()
    p = project(
        SAY
        + """
import threading
def handler(task, ctx):
    if not task.request_parts:
        done = threading.Event()
        s = ctx.create_stream(on_activate=lambda s: (s.write("x"), done.set()), subscribe_grace_ms=0)
        done.wait()
    else:
        ended = threading.Event()
        def crash(s):
            s.on_end(ended.set)
            raise ValueError("no")
        ctx.create_stream(on_activate=crash, subscribe_grace_ms=0)
        ended.wait()
    return say(1)
""",
        host=host,
    )
    assert answers(p.start(has_stream=True)) == ["1"]
    assert len(host.all("WriteStream")) == 1
    p.start(text("crash"), has_stream=True, id="t2").end()
    assert host.wait_for("EndStream", 2)[-1].failure == "stream_crashed"


def test_an_external_stream(project: Any) -> None:
    host = Host()
    p = project(
        SAY
        + """
def handler(task, ctx):
    s = ctx.create_stream(external=True, metadata={"a": 1})
    s.activate()
    try:
        s.write("x")
    except RuntimeError as err:
        s.end()
        return say(s.token, err, s.external, s.is_active)
""",
        host=host,
    )
    assert lasting(p, p.start(has_stream=True, kind=2), 4) == ["write token", "the stream s1 is written and read by another process", "True", "False"]
    assert host.all("ActivateStream")[0].metadata_json == b'{"a": 1}'


def test_a_pipe_task_goes_on_with_its_statuses(project: Any) -> None:
    p = project(
        """
import threading

def handler(task, ctx):
    def later():
        ctx.report_status("later")
        ctx.cancel_event.wait()
        ctx.publish_artifact("told", "text/plain")

    threading.Thread(target=later).start()
    return {"artifacts": [{"data": "returned", "mimeType": "text/plain"}]}
"""
    )
    call = p.start(kind=2)
    while not any(r.status == "later" for r in call.responses) or not any(r.artifact.last for r in call.responses):
        call.next()
    p.cancel()
    assert call.end().HasField("result")
