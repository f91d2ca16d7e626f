"""Tasks: results, errors, order, files, cancel."""

from __future__ import annotations

import json
from typing import Any

import grpc
import pytest
from daemon import Host, file, text
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp


@pytest.mark.parametrize(
    "value, artifacts",
    [
        ("None", []),
        ("'ü'", [("text/plain", "ü".encode())]),
        ("b'ab'", [("", b"ab")]),
        ("{'a': 'ü'}", [("application/json", '{"a": "ü"}'.encode())]),
        ("['a', blocksd.Artifact(b'b', 'x/y')]", [("text/plain", b"a"), ("x/y", b"b")]),
        ("''", [("text/plain", b"")]),
    ],
)
def test_what_a_handler_returns(start: Any, value: str, artifacts: list[tuple[str, bytes]]) -> None:
    call = start(f"def handler(task): return {value}").start()
    assert [(i.mime_type, d) for i, d in call.artifacts()] == artifacts
    assert call.end().HasField("result")


def test_errors(start: Any) -> None:
    p = start(
        """
        import sys
        def handler(task):
            what = task.text()
            if what == "failure":
                try:
                    open("/nowhere")
                except OSError as err:
                    raise blocksd.Failure("No such picture.") from err
            if what == "plain":
                raise ValueError("too large")
            if what == "silent":
                raise KeyError()
            if what == "long":
                raise ValueError("ü" * 10000)
            if what == "exit":
                sys.exit("enough")
            if what == "wrong":
                return 3
            return task.json("request")
        """
    )

    def error(what: str) -> Any:
        return p.start(text(what)).end().error

    failure = error("failure")
    assert failure.public_message == "No such picture." and "FileNotFoundError" in failure.private_message
    assert error("plain").public_message == "too large"
    assert error("silent").public_message == "The handler failed with an error without a text (KeyError)."
    assert len(error("long").public_message.encode()) <= 8 << 10
    assert error("exit").public_message == "enough"
    assert "not int" in error("wrong").public_message
    assert error("{").public_message.startswith("the input 'request' is not the JSON document that was expected")
    assert p.start(text("7", id="other")).end().error.public_message == "the input 'request' is missing"
    assert p.health() == b"\x08\x01"


def test_what_a_task_knows(start: Any) -> None:
    p = start(
        """
        def handler(task):
            part = task.parts[0]
            task.complete()
            return {
                "task": [task.id, task.agent_name, task.pipe, task.owner_id, task.org_id, task.has_stream, task.caller_claims,
                         task.deadline.isoformat(), task.duration.total_seconds(), task.trace_context, task.consumer_public_key],
                "part": [part.id, part.content_type, part.text, part.raw],
            }
        """
    )
    call = p.start(
        text("hi"),
        kind=2,
        owner_id="o",
        org_id="g",
        has_stream=True,
        caller_claims_json=b'{"sub": "x"}',
        deadline=Timestamp(seconds=1_800_000_000),
        duration=Duration(seconds=300),
        trace_context={"traceparent": "00"},
        consumer_public_key="k",
    )
    answer = json.loads(call.artifacts()[0][1])
    assert answer["task"] == ["t1", "agent", True, "o", "g", True, {"sub": "x"}, "2027-01-15T08:00:00+00:00", 300.0, {"traceparent": "00"}, "k"]
    assert answer["part"] == ["request", "", "hi", {"partId": "request", "text": "hi"}]


def test_artifacts_come_in_pieces_and_in_order(start: Any) -> None:
    host = Host()
    p = start(
        """
        import io
        def handler(task):
            task.status("one")
            task.send(blocksd.Artifact(bytes(600_000), "x/y", "zero.bin", "out"))
            task.publish("meanwhile")
            task.status("two")
            task.send(blocksd.Artifact(io.BytesIO(b"1" * (256 << 10))), blocksd.Artifact(io.BytesIO(b"")))
        """,
        host=host,
    )
    call = p.start()
    artifacts = call.artifacts()
    assert [(i.file_name, i.output_id, len(d)) for i, d in artifacts] == [("zero.bin", "out", 600_000), ("", "", 256 << 10), ("", "", 0)]
    kinds = [r.WhichOneof("event") for r in call.responses]
    assert kinds == ["status", "artifact", "artifact", "artifact", "status", "artifact", "artifact", "result"]
    (published,) = host.all("PublishArtifact")
    assert (published.after_responses, published.chunk.data, published.task_id) == (4, b"meanwhile", "t1")


def test_a_flood_of_statuses_keeps_the_first_and_the_last(start: Any) -> None:
    p = start("def handler(task):\n    for i in range(100_000): task.status(str(i))")
    statuses = [r.status for r in p.start().rest() if r.HasField("status")]
    assert (statuses[0], statuses[-1]) == ("0", "99999")
    assert len(statuses) < 1_000


def test_files(start: Any, tmp_path: Any) -> None:
    host = Host()
    host.files = {1: b"first" * 100_000, 2: b"second"}
    p = start(
        f"""
        import hashlib
        def handler(task):
            with task.open("b") as f:
                head = f.read(3)
            task.save("{tmp_path}/saved", "a")
            return [task.bytes(), task.bytes("b"), task.bytes(2), head, open("{tmp_path}/saved", "rb").read()]
        """,
        host=host,
    )
    call = p.start(text("x"), file("a.png", 500_000, "a"), file("b.png", 6, "b"))
    first = b"first" * 100_000
    assert [d for _, d in call.artifacts()] == [first, b"second", b"second", b"sec", first]
    host.refuse["DownloadInput"] = grpc.StatusCode.NOT_FOUND
    refused = p.start(text("x"), file("b.png", 1, "b")).end().error
    assert refused.public_message == "download input number 2: DownloadInput is refused"
    assert p.start(text("x")).end().error.public_message == "the input 'b' has no file"


def test_tasks_run_at_the_same_time(start: Any) -> None:
    p = start(
        """
        import threading
        together = threading.Barrier(100)
        def handler(task):
            together.wait(50)
        """
    )
    calls = [p.start(id=f"t{i}") for i in range(100)]
    assert all(c.end().HasField("result") for c in calls)


CANCEL = [(1, "user"), (2, "expired"), (3, "terminated"), (4, "deadline"), (5, "drain"), (6, "shutdown"), (99, "ended")]


@pytest.mark.parametrize("reason, word", CANCEL)
def test_cancel(start: Any, reason: int, word: str) -> None:
    p = start(
        """
        def handler(task):
            task.status("waits")
            task.cancel_event.wait()
            task.send("partial")
            return task.cancel_reason + str(task.canceled)
        """
    )
    call = p.start()
    call.next()
    p.cancel(reason=reason)
    p.cancel(reason=1)  # the first one counts
    assert [d.decode() for _, d in call.artifacts()] == ["partial", word + "True"]
    p.cancel()  # of a task that has ended


def test_cancel_ends_what_waits(start: Any) -> None:
    p = start("def handler(task):\n    task.status('waits')\n    task.sleep(1000)")
    call = p.start()
    call.next()
    p.cancel()
    assert call.end().error.public_message == "the task was asked to end (user)"


def test_a_cancel_that_overtakes_its_task(start: Any) -> None:
    p = start("def handler(task):\n    task.cancel_event.wait()\n    return task.cancel_reason")
    p.cancel("late", reason=5)
    assert p.start(id="late").artifacts()[0][1] == b"drain"


def test_the_daemon_ends_the_call(start: Any, tmp_path: Any) -> None:
    p = start(
        f"""
        def handler(task):
            task.status("waits")
            task.cancel_event.wait()
            try:
                task.send("too late")
            except blocksd.TaskEnded:
                task.status("nobody hears")
                open("{tmp_path}/told", "w").write(task.cancel_reason)
                print("written")
        """
    )
    call = p.start()
    call.next()
    call.cancel()
    p.start(id="t2").cancel()
    p.wait_for_line("written")
    assert (tmp_path / "told").read_text() == "ended"


def test_a_task_that_runs_already_is_refused(start: Any) -> None:
    p = start("def handler(task):\n    task.status('runs')\n    task.cancel_event.wait()")
    call = p.start()
    call.next()
    with pytest.raises(grpc.RpcError) as err:
        p.start().next()
    assert err.value.code() == grpc.StatusCode.ALREADY_EXISTS
    with pytest.raises(grpc.RpcError) as err:
        p.start(id="").next()
    assert err.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    p.cancel()
    assert call.end().HasField("result")


def test_a_pipe_task_ends_with_its_handler_if_that_says_so(start: Any) -> None:
    p = start("def handler(task): task.complete()")
    assert p.start(text("x"), kind=2).end().result.final


@pytest.mark.parametrize("end, says", [("task.end('broken')", "broken"), ("task.end()", ""), ("task.end(ValueError('odd'))", "odd")])
def test_a_pipe_task_goes_on_until_it_ends_itself(start: Any, end: str, says: str) -> None:
    host = Host()
    p = start(
        f"""
        import threading
        def handler(task):
            def later():
                task.status("still here")
                task.publish("the last word")
                {end}
                try:
                    task.end()
                except blocksd.TaskEnded:
                    print("once only", flush=True)
            thread = threading.Thread(target=later)
            thread.start()
            if task.parts: thread.join()  # it has ended itself before the handler returns
        """,
        host=host,
    )
    for i, parts in enumerate([[], [text("x")]]):
        call = p.start(*parts, kind=2, id=f"t{i}")
        last = call.end()
        assert last.error.public_message == says if says else last.result.final
        assert [r.status for r in call.responses[:-1]] == ["still here"]
    assert [r.chunk.data for r in host.all("PublishArtifact")] == [b"the last word"] * 2


def test_a_pipe_task_that_goes_on_hears_of_a_cancel(start: Any) -> None:
    p = start(
        """
        import threading
        def handler(task):
            def later():
                task.cancel_event.wait()
                print("told:", task.cancel_reason, flush=True)
            threading.Thread(target=later).start()
            return "left"
        """
    )
    call = p.start(kind=2)
    assert call.next().artifact.data == b"left"
    p.cancel(reason=2)
    last = call.end()
    assert last.HasField("result") and not last.result.final
    p.wait_for_line("told: expired")


def test_only_a_pipe_task_is_ended_so(start: Any) -> None:
    p = start("def handler(task): task.end()")
    assert "only a pipe task" in p.start().end().error.public_message
