"""Calls to other agents by the package's own handlers."""

from __future__ import annotations

import json
import os
import time
from typing import Any

import grpc
import pytest
from daemon import PATIENCE, Host, text

EVENTS = [
    {"type": "progress", "state": "running", "taskId": "called-1"},
    {"type": "artifact", "artifactRef": {"kind": "inline", "data": "aGk="}},
    {"type": "artifact", "artifactRef": {"kind": "file", "fileId": "f"}},
    {"type": "terminal", "state": "completed"},
]


def test_call(start: Any, tmp_path: Any) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(bytes(300_000))
    host = Host()
    host.called = EVENTS
    p = start(
        f"""
        from pathlib import Path
        def handler(task):
            parts = {{"request": {{"a": 1}}, "note": "ü", "raw": b"xyz", "file": Path("{path}")}}
            with task.call("adder", parts, minutes=5, idempotency_key="k", trace_context={{"traceparent": "00-1"}}) as call:
                kinds = [e["type"] for e in call.events()]
                return [call.task_id, str(call.queued), " ".join(kinds), call.wait().state, call.text(), *call.result()]
        """,
        host=host,
    )
    answer = p.start().artifacts()
    assert [d.decode() for _, d in answer] == [
        "called-1", "True", "progress artifact artifact terminal", "completed", "result 0", "result 0", "result 1",
    ]
    assert (answer[-1][0].mime_type, answer[-1][0].file_name) == ("text/plain", "r.txt")
    first, *pieces = host.all("CallAgent")
    assert (first.call.task_id, first.call.agent_name, first.call.duration.seconds, first.call.detached) == ("t1", "adder", 300, False)
    assert dict(first.call.trace_context) == {"traceparent": "00-1"}
    assert [(q.part_id, q.text) for q in first.call.parts[:2]] == [("request", '{"a": 1}'), ("note", "ü")]
    assert [(q.part_id, q.file.name, q.file.size) for q in first.call.parts[2:]] == [("raw", "attachment", 3), ("file", "a.bin", 300_000)]
    assert [(q.part_index, len(q.data)) for q in pieces] == [(2, 3), (3, 256 << 10), (3, 300_000 - (256 << 10))]


def test_a_call_that_does_not_complete(start: Any) -> None:
    host = Host()
    host.called = [{"type": "terminal", "state": "failed", "error": "no luck"}]
    p = start(
        """
        def handler(task):
            call = task.call("a", "text")
            try:
                call.result()
            except blocksd.CallFailed as err:
                return [str(err), err.outcome.state]
        """,
        host=host,
    )
    assert [d.decode() for _, d in p.start().artifacts()] == ["the called task called-1 ended as failed: no luck", "failed"]
    assert host.all("CallAgent")[0].call.parts[0].part_id == "request"


def test_waiting_ends(start: Any) -> None:
    host = Host()
    host.called = EVENTS
    host.hold.clear()
    p = start(
        """
        def handler(task):
            call = task.call("a", "text")
            try:
                call.wait(timeout=0.01)
            except TimeoutError as err:
                task.send(str(err))
            task.status("waits")
            call.wait()
        """,
        host=host,
    )
    call = p.start()
    while not call.next().HasField("status"):
        pass
    p.cancel()
    assert call.end().error.public_message == "the task was asked to end (user)"
    assert call.artifacts()[0][1] == b"task called-1 of the called agent has not ended after 0.01 s"


def test_cancel_of_a_call(start: Any) -> None:
    host = Host()
    host.called = [{"type": "terminal", "state": "canceled"}]
    host.hold.clear()
    p = start("def handler(task):\n    c = task.call('a', 'b')\n    c.cancel()\n    return c.wait().state", host=host)
    assert p.start().artifacts()[0][1] == b"canceled"
    assert [(c.called_task_id, c.verb) for c in host.all("ControlCall")] == [("called-1", "cancel")]


def test_a_refused_call(start: Any) -> None:
    host = Host()
    host.refuse = {"CallAgent": grpc.StatusCode.RESOURCE_EXHAUSTED}
    p = start("def handler(task): task.call('far', {})", host=host)
    # A call without requests still has the first message, which is refused.
    assert p.start().end().error.public_message == "call the agent 'far': CallAgent is refused"


def test_async_call(start: Any) -> None:
    host = Host()
    host.called = EVENTS
    p = start(
        """
        async def handler(task):
            async with await task.call("a", [blocksd.Input("x", text="y")]) as call:
                kinds = [e["type"] async for e in call.events()]
                return [str(len(kinds)), await call.text()]
        """,
        host=host,
    )
    assert [d.decode() for _, d in p.start().artifacts()] == ["4", "result 0"]


# The one without a reference has no number.
OUTPUTS = [
    {"type": "artifact", "artifactRef": {"kind": "inline", "fileName": "../../a.txt", "mimeType": "text/plain"}},
    {"type": "artifact"},
    {"type": "artifact", "artifactRef": {"kind": "inline", "fileName": "C:\\a.txt"}},
    {"type": "artifact", "artifactRef": {"kind": "file", "mimeType": "application/json"}},
    {"type": "terminal", "state": "completed"},
]

SAVES = {
    "plain": """
        def handler(task):
            with task.call("other", "hi") as call:
                call.wait()
                try:
                    paths = call.save(task.text("request"))
                except blocksd.SaveFailed as err:
                    return {"error": str(err), "paths": [str(p) for p in err.paths]}
                return {"paths": [str(p) for p in paths], "count": len(call.artifacts), "results": len(call.result())}
        """,
    "async": """
        async def handler(task):
            async with await task.call("other", "hi") as call:
                await call.wait()
                try:
                    paths = await call.save(task.text("request"))
                except blocksd.SaveFailed as err:
                    return {"error": str(err), "paths": [str(p) for p in err.paths]}
                return {"paths": [str(p) for p in paths], "count": len(call.artifacts), "results": len(await call.result())}
        """,
}


@pytest.mark.parametrize("way", SAVES)
def test_artifacts_are_saved(start: Any, tmp_path: Any, way: str) -> None:
    host = Host()
    host.called = OUTPUTS
    p = start(SAVES[way], host=host)
    out = tmp_path / "deep" / "out"

    def save(to: Any, id: str) -> Any:
        return json.loads(p.start(text(str(to)), id=id).artifacts()[0][1])

    names = ["a.txt", "a (2).txt", "artifact-2.json"]
    assert save(out, "t1") == {"paths": [str(out / n) for n in names], "count": 3, "results": 3}
    assert [(out / n).read_bytes() for n in names] == [b"result 0", b"result 1", b"result 2"]
    host.broken = 2
    got = save(out, "t2")
    assert got["error"] == (
        f"save the artifacts of the called task called-1 in {out}: "
        "download artifact number 3: its content does not have the hash that was announced"
    )
    assert got["paths"] == [str(out / "a (3).txt"), str(out / "a (4).txt")]
    assert len(os.listdir(out)) == 5, "nothing of the broken one is left"
    beneath = out / "a.txt" / "x"
    assert save(beneath, "t3") == {"error": f"save the artifacts of the called task called-1 in {beneath}: Not a directory", "paths": []}
    assert save(out / "a.txt", "t4")["error"].endswith("a.txt: Not a directory")


def test_an_async_function_that_is_canceled_leaves_no_part(start: Any, tmp_path: Any) -> None:
    host = Host()
    host.called = OUTPUTS
    host.held = 1
    p = start(
        """
        async def handler(task):
            call = await task.call("other", "hi")
            await call.wait()
            task.status("saves")
            await call.save(task.text("request"))
        """,
        host=host,
    )
    out = tmp_path / "out"
    call = p.start(text(str(out)))
    host.wait_for("DownloadCallArtifact", 2)
    p.cancel()
    assert call.end().HasField("error")
    host.go_on.set()
    limit = time.monotonic() + PATIENCE
    while os.listdir(out) != ["a.txt"]:
        assert time.monotonic() < limit, os.listdir(out)
        time.sleep(0.01)
