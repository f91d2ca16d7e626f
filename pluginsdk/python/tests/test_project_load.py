"""From a directory to a handler: imports, variables, and what is said when it does not work."""

from __future__ import annotations

import shlex
import sys
from typing import Any

import pytest
from daemon import text
from test_project import SAY, answers


def test_the_process_looks_as_the_project_expects(project: Any) -> None:
    p = project(
        {
            "data.txt": "beside",
            "helpers/__init__.py": "",
            "helpers/words.py": "WORD = 'from a package'",
            "handler.py": SAY
            + """
import threading, signal
from helpers.words import WORD
main = threading.current_thread() is threading.main_thread()
signal.signal(signal.SIGUSR1, signal.SIG_IGN)  # works in the main thread only
def handler(task, ctx):
    import helpers
    return say(WORD, open("data.txt").read(), main, __name__)
""",
        }
    )
    assert answers(p.start()) == ["from a package", "beside", "True", "handler"]


def test_a_handler_inside_a_package(project: Any) -> None:
    p = project(
        {
            "src/agent/__init__.py": "",
            "src/agent/words.py": "WORD = 'beside'",
            "src/agent/main.py": SAY + "from .words import WORD\ndef answer(task, ctx): return say(WORD, __name__)",
        },
        card={"runtime": {"handler": "src/agent/main.py", "handlerExport": "answer"}},
    )
    assert answers(p.start()) == ["beside", "agent.main"]


def test_the_command_line_is_that_of_the_file(project: Any) -> None:
    p = project(SAY + "import argparse, sys\nargparse.ArgumentParser().parse_args()\ndef handler(task, ctx): return say(len(sys.argv), sys.argv[0][-10:])")
    assert answers(p.start()) == ["1", "handler.py"]


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
@pytest.mark.parametrize("serve", ["", "blocksd.serve(lambda task: handler(task, None)['artifacts'][0]['data'])"])
def test_processes_of_multiprocessing_are_no_handlers(project: Any, method: str, serve: str) -> None:
    p = project(
        SAY
        + f"""
import multiprocessing
import blocksd
def square(n): return n * n
def handler(task, ctx):
    with multiprocessing.get_context("{method}").Pool(1) as pool: return say(pool.map(square, [1, 2, 3]))
{serve}
"""
    )
    assert answers(p.start()) == ["[1, 4, 9]"]


def test_a_handler_called_like_a_module_of_python(project: Any) -> None:
    p = project({"json.py": SAY + "def handler(task, ctx): return say(1)"}, card={"runtime": {"handler": "./json.py"}})
    assert answers(p.start()) == ["1"]


def test_nothing_compiled_is_left_beside_the_project(project: Any) -> None:
    # Python would take it for a source of the same size that is edited within the same second.
    p = project(
        {
            "helper.py": "",
            "handler.py": SAY + "import os, helper\ndef handler(task, ctx): return say(os.path.exists('__pycache__'))",
        },
        env={"PYTHONDONTWRITEBYTECODE": ""},
    )
    assert answers(p.start()) == ["False"]


def test_what_handlers_import(project: Any) -> None:
    p = project(
        SAY
        + """
from blocks_network import SendMessageRequestPart, StartTaskMessage, TaskContext, text_part
from blocks_network.types import ArtifactRef, RequestPart
from blocks_network.task_client import TaskClient
from blocks_network.stream_context import StreamObject

def handler(task: StartTaskMessage, ctx: TaskContext):
    made = StartTaskMessage(task_id="x", request_parts=[RequestPart(part_id="a", text="b")])
    by_hand = TaskContext(task_id="x", report_status=print)
    by_hand.report_status("works")
    return say(isinstance(task, StartTaskMessage), isinstance(ctx, TaskContext), isinstance(task.request_parts[0], RequestPart),
               isinstance(ctx.task_client, TaskClient), made.request_parts[0].text, by_hand.is_cancelled, by_hand.create_stream())
"""
    )
    assert answers(p.start(text("x"))) == ["True", "True", "True", "True", "b", "False", "None"]


REAL = """
from dataclasses import dataclass, field
from typing import Any
@dataclass
class ArtifactRef:
    kind: str = "inline"
@dataclass
class RequestPart:
    part_id: Any = None
    text: Any = None
    content_type: Any = None
    artifact_ref: Any = None
    extra: Any = field(default_factory=dict)
@dataclass
class StartTaskMessage:
    task_id: str = ""
"""


def test_where_the_package_of_blocks_is_installed_its_types_hold(project: Any) -> None:
    p = project(
        {
            "blocks_network/__init__.py": "class RpcError(Exception): pass\nWHOSE = 'theirs'",
            "blocks_network/types.py": REAL,
            "handler.py": SAY
            + """
from blocks_network import WHOSE, RpcError
from blocks_network.types import RequestPart, StartTaskMessage
def handler(task, ctx):
    try:
        ctx.task_client.get_task("x")
    except RpcError:
        caught = True
    return say(WHOSE, isinstance(task, StartTaskMessage), isinstance(task.request_parts[0], RequestPart), task.request_parts[0].text, caught)
""",
        }
    )
    assert answers(p.start(text("hi"))) == ["theirs", "True", "True", "hi", "True"]


@pytest.mark.parametrize(
    "files, card, sentences",
    [
        ({}, "none", ["agent-card.json cannot be read (No such file or directory)"]),
        ({}, "{", ["agent-card.json is not JSON"]),
        ({}, {"runtime": {}}, ["names no handler: set runtime.handler to the file"]),
        ({}, None, ["handler.py is not there: correct runtime.handler in"]),
        ({"handler.py": "def handle(task, ctx): pass"}, None, ["has no function 'handler': set runtime.handlerExport to 'handle'"]),
        ({"handler.py": "x = 1"}, None, ["has no function 'handler': define it, or correct runtime.handlerExport"]),
        ({"handler.py": "handler = 3"}, None, ["'handler' in", "is no function but int"]),
        ({"handler.py": "def handler(task, ctx)\n    pass"}, None, ["handler.py cannot be loaded because of a syntax error in line 1: expected ':'"]),
        ({"handler.py": "import helper", "helper.py": "x ="}, None, ["syntax error in", "helper.py, line 1: invalid syntax"]),
        ({"handler.py": "import absent_package.x"}, None, ["the module 'absent_package' is not installed for", f"run {shlex.quote(sys.executable)} -m pip install absent_package (or with the name of another package"]),
        ({"handler.py": "import absent", "requirements.txt": ""}, None, [f"run {shlex.quote(sys.executable)} -m pip install -r '", "project 0/requirements.txt'"]),
        ({"handler.py": "import absent", "pyproject.toml": ""}, None, [f"run {shlex.quote(sys.executable)} -m pip install '", "project 0'"]),
        ({"handler.py": "import helpers.wrods", "helpers/words.py": ""}, None, ["handler.py cannot be loaded because there is no module 'helpers.wrods' in the project: correct the import in", "handler.py, line 1"]),
        ({"handler.py": "\n\nraise ValueError('two\\nlines')"}, None, ["it raised ValueError: two lines", "handler.py, line 3)"]),
        ({"handler.py": "from blocks_network import Unheard"}, None, ["Unheard of blocks_network is not known to blocksd: install the package blocks-network"]),
        ({"handler.py": "import sys; sys.exit('not today')"}, None, ["it raised SystemExit: not today"]),
    ],
)
def test_what_cannot_start_says_why(project: Any, files: dict[str, str], card: Any, sentences: list[str]) -> None:
    p = project(files, card=card, connect=False)
    assert p.wait() == 78
    assert p.stdout == []
    for sentence in sentences:
        assert sentence in p.log[-1]


def test_a_project_that_loads_slowly_is_served_in_time(project: Any, tmp_path: Any) -> None:
    p = project(SAY + f"""
import os, time
while not os.path.exists("{tmp_path}/go"): time.sleep(0.01)
def handler(task, ctx): return say("at last")
""")
    call = p.start()
    (tmp_path / "go").write_text("")
    assert answers(call) == ["at last"]


def test_the_command_by_hand(tmp_path: Any) -> None:
    import subprocess

    from daemon import PACKAGE

    for argv, code, sentence in (([], 2, "usage: "), (["DIR"], 1, 'try it with "blocksd dev --project DIR"')):
        command = [sys.executable, "-m", "blocksd.project", *argv]
        done = subprocess.run(command, env={"PYTHONPATH": str(PACKAGE)}, capture_output=True, text=True)
        assert done.returncode == code and sentence in done.stderr


def test_what_the_package_needs_is_said(project: Any, tmp_path: Any) -> None:
    """With a Python that has no packages: -S leaves them out."""
    import subprocess

    from daemon import PACKAGE

    environment = {"BLOCKS_HANDLER_COOKIE": "blocks.handler.v1"}
    done = subprocess.run([sys.executable, "-S", PACKAGE / "run.py", "/a b"], env=environment, capture_output=True, text=True)
    assert done.returncode == 78
    last = done.stderr.splitlines()[-1]
    assert last.startswith(f"the package protobuf is not installed for {sys.executable}: ")
    python = shlex.quote(sys.executable)
    assert last.endswith(f": {python} -m venv '/a b/.venv' && '/a b/.venv/bin/python' -m pip install 'protobuf>=6.31.1,<8'")


def test_what_a_project_needs_is_not_installed_into_the_python_of_the_system(monkeypatch: pytest.MonkeyPatch) -> None:
    from blocksd import _needs

    monkeypatch.setattr(sys, "executable", "/the python")
    monkeypatch.setattr(sys, "prefix", "/environment")
    assert _needs.command("/a b", "-r", "/a b/r.txt") == "'/the python' -m pip install -r '/a b/r.txt'"
    monkeypatch.setattr(sys, "prefix", sys.base_prefix)
    made = "'/the python' -m venv '/a b/.venv' && '/a b/.venv/bin/python' -m pip install 'protobuf>=6.31.1,<8'"
    assert _needs.command("/a b", "-r", "/a b/r.txt") == made + " -r '/a b/r.txt'"


def test_requirements_are_those_of_the_package() -> None:
    from daemon import PACKAGE

    from blocksd import _needs

    project = (PACKAGE / "pyproject.toml").read_text()
    assert f"dependencies = {list(_needs.REQUIREMENTS)}".replace("'", '"') in project


@pytest.mark.parametrize("guard", ["", "if __name__ == '__main__': "])
def test_the_file_may_serve_a_handler_of_this_package(project: Any, guard: str) -> None:
    p = project(
        f"""
        import blocksd
        def handler(task):
            task.status(f"as {{type(task).__name__}}")
            return task.text().upper()
        {guard}blocksd.serve(handler, idempotent=True)
        print("serve does not return") if not {bool(guard)} else None
        """
    )
    if guard:  # then it is a file of Blocks' own SDK, whose function takes two arguments
        assert "2 were given" in p.start(text("x")).end().error.public_message
        return
    assert p.describe().capabilities.idempotent
    call = p.start(text("x"))
    assert call.artifacts()[0][1] == b"X" and call.responses[0].status == "as Task"
    assert p.log == []


def test_the_file_may_serve_an_async_handler_of_this_package(project: Any) -> None:
    p = project("import blocksd\nasync def shout(task):\n    return task.text().upper()\nblocksd.serve(shout)\n")
    assert p.start(text("x")).artifacts()[0][1] == b"X"


def test_modules_of_the_project_may_be_called_like_those_of_python(project: Any) -> None:
    p = project({"handler.py": "def handler(task, ctx): return {'artifacts': [{'data': 'x'}]}", "queue.py": "raise RuntimeError('not this one')"})
    assert p.start().artifacts()[0][1] == b"x"


@pytest.mark.parametrize(
    "body, says", [("yield 1", "is a generator"), ("return 'text'", "returned str without artifacts"), ("return {'data': 1}", "returned dict without"), ("return {}", "")]
)
def test_a_result_without_artifacts_is_noticed(project: Any, body: str, says: str) -> None:
    p = project(f"def handler(task, ctx): {body}")
    assert p.start().end().HasField("result")
    p.shutdown()
    assert [says in r["msg"] for r in p.records()] == ([True] if says else [])
