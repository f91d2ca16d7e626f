"""What ctx.task_client does."""

from __future__ import annotations

from typing import Any

import grpc
from daemon import Host
from test_project import SAY, answers

EVENTS = [
    {"type": "progress", "state": "running", "taskId": "called-1"},
    {"type": "progress", "message": "half", "taskId": "called-1"},
    {"type": "artifact", "taskId": "called-1", "artifactRef": {"kind": "inline", "mimeType": "text/plain", "data": "aGk=", "size": 2}},
    {"type": "artifact", "taskId": "called-1", "artifactRef": {"kind": "file", "fileId": "f", "fileName": "../r.txt", "size": 9}},
    {"type": "terminal", "state": "completed", "taskId": "called-1"},
]


def test_a_session(project: Any, tmp_path: Any) -> None:
    host = Host()
    host.called = EVENTS
    host.hold.clear()
    p = project(
        SAY
        + f"""
import threading
from blocks_network import SendMessageRequestPart, text_part, file_part

def handler(task, ctx):
    seen, over = [], threading.Event()
    parts = [SendMessageRequestPart(part_id="request", text="x"), text_part("y", part_id="b"), {{"partId": "c", "text": "z"}},
             file_part(b"data", part_id="d", file_name="d.bin")]
    with ctx.task_client.send_message(agent_name="other", request_parts=parts, task_kind="pipe", duration=5) as session:
        stop = session.on_event(lambda e: seen.append(e.type))
        session.on_artifact(lambda e: seen.append(e.artifact_ref.kind))
        session.on_terminal(lambda e: (seen.append(e.state), over.set()))
        session.cancel()
        end = session.wait_for_terminal(timeout=180)
        over.wait(30)
        stop()
        late = []
        session.on_terminal(lambda e: late.append(e["state"]))
        session.on_artifact(lambda e: late.append(e.artifact_ref.kind))
        inline, file = session.list_artifacts()
        return say(
            session.task_id, session.queued, session.is_closed, session.state, end.state,
            [s for s in seen if s in ("inline", "file")], seen[-2:], late, session.download_artifact(inline).data, session.download_artifact(file),
            [p.rsplit("/", 1)[1] for p in session.save_artifacts("{tmp_path}/saved")],
            ctx.task_client.get_task("called-1").state, [t.agent_name for t in ctx.task_client.list_tasks().tasks],
        )
""",
        host=host,
    )
    assert answers(p.start()) == [
        "called-1", "True", "True", "completed", "completed",
        "['inline', 'file']", "['terminal', 'completed']", "['completed', 'inline', 'file']", "b'hi'",
        "DownloadedArtifact(data=b'result 1', mime_type='text/plain', file_name='r.txt')",
        "['artifact-0', 'r.txt']", "completed", "['other']",
    ]
    first, *pieces = host.all("CallAgent")
    assert first.call.detached and first.call.duration.seconds == 300
    assert [(q.part_id, q.text, q.file.name) for q in first.call.parts] == [("request", "x", ""), ("b", "y", ""), ("c", "z", ""), ("d", "", "d.bin")]
    assert [q.data for q in pieces] == [b"data"]
    assert host.all("ControlCall")[0].verb == "cancel"


def test_several_calls_from_several_threads(project: Any) -> None:
    host = Host()
    host.called = EVENTS
    p = project(
        SAY
        + """
from concurrent.futures import ThreadPoolExecutor
from blocks_network import text_part
def handler(task, ctx):
    def one(i):
        session = ctx.task_client.send_message(agent_name=f"a{i}", request_parts=[text_part("x", part_id="request")])
        try:
            return session.wait_for_terminal(timeout=180).state
        finally:
            session.close()
    with ThreadPoolExecutor(8) as pool:
        return say(*pool.map(one, range(8)))
""",
        host=host,
    )
    assert answers(p.start()) == ["completed"] * 8
    assert sorted(r.call.agent_name for r in host.all("CallAgent")) == [f"a{i}" for i in range(8)]


def test_errors(project: Any) -> None:
    host = Host()
    host.called = EVENTS
    host.hold.clear()
    p = project(
        SAY
        + """
from blocks_network import RpcError
def handler(task, ctx):
    said = []
    for ask in (
        lambda: ctx.task_client.get_task("another"),
        lambda: ctx.task_client.send_message(agent_name="a", duration=5),
        lambda: ctx.task_client.send_message(agent_name="a", task_kind="pipe"),
        lambda: ctx.task_client.send_message(agent_name="a", request_parts=[{"file": b"x"}]),
        lambda: ctx.task_client.send_message(agent_name="a").wait_for_terminal(timeout=0.01),
    ):
        try:
            ask()
        except (RpcError, ValueError, TimeoutError) as err:
            said.append(f"{type(err).__name__}: {err}")
    return say(*said)
""",
        host=host,
    )
    assert answers(p.start()) == [
        "RpcError: the task another was not submitted by this one",
        "ValueError: only a pipe task has a duration",
        "ValueError: a pipe task needs a duration in whole minutes, from 1 to 43200",
        "ValueError: a part with a file needs a part id",
        "TimeoutError: task called-1 of the called agent has not ended after 0.01 s",
    ]
    host.refuse = {"CallAgent": grpc.StatusCode.RESOURCE_EXHAUSTED}
    p = project("def handler(task, ctx): ctx.task_client.send_message(agent_name='a')", host=host)
    assert p.start().end().error.public_message == "call the agent 'a': CallAgent is refused"


def test_an_error_in_a_callback_is_told(project: Any) -> None:
    host = Host()
    host.called = EVENTS
    host.hold.clear()
    p = project(
        SAY
        + """
import threading
def handler(task, ctx):
    told, over = [], threading.Event()
    session = ctx.task_client.send_message(agent_name="a")
    session.on_error(lambda err, context: (told.append((str(err), context.callback_type, context.event.state)), over.set()))
    session.on_terminal(lambda e: 1 / 0)
    session.terminate()
    over.wait(30)
    return say(told)
""",
        host=host,
    )
    assert answers(p.start()) == ["[('division by zero', 'onTerminal', 'completed')]"]


def test_an_artifact_without_a_reference_has_no_number(project: Any) -> None:
    host = Host()
    host.called = [{"type": "artifact", "taskId": "called-1"}, *EVENTS[3:]]
    p = project(
        SAY
        + """
def handler(task, ctx):
    session = ctx.task_client.send_message(agent_name="a", request_parts=[])
    session.wait_for_terminal(30)
    return say(*[session.download_artifact(ref).data for ref in session.list_artifacts()])
""",
        host=host,
    )
    assert answers(p.start()) == ["b'result 0'"]
