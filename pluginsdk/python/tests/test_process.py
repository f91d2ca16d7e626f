"""Start, output, stop."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import Any

import grpc
import pytest
from daemon import PACKAGE, PATIENCE, text


def test_what_is_printed_never_breaks_the_handshake(start: Any) -> None:
    p = start(
        """
        import os, subprocess, sys
        print("before the import, still in the buffer")
        import blocksd
        print("flushed", flush=True)
        os.write(1, b"past Python\\n")
        subprocess.run(["echo", "another program"])
        sys.stderr.write("to standard error\\n")

        def handler(task):
            print("in the task")
            print("a line without an end", end="")

        blocksd.serve(handler)
        """
    )
    assert p.start().end().HasField("result")
    assert p.shutdown() == 0
    assert len(p.stdout) == 1  # the handshake
    wanted = ["before the import, still in the buffer", "flushed", "past Python", "another program", "to standard error"]
    assert sorted(p.log) == sorted([*wanted, "in the task", "a line without an end"])


def test_lines_of_threads_are_not_mixed(start: Any) -> None:
    p = start(
        """
        import threading

        def handler(task):
            def many(word):
                for i in range(200):
                    print(word, i)
            threads = [threading.Thread(target=many, args=[w * 20]) for w in "abcd"]
            for t in threads: t.start()
            for t in threads: t.join()
        """
    )
    p.start().end()
    p.shutdown()
    assert sorted(p.log) == sorted(f"{w * 20} {i}" for w in "abcd" for i in range(200))


def test_standard_output_that_one_task_closes_is_there_for_the_next(start: Any) -> None:
    p = start("import sys\ndef handler(task):\n    print(task.id)\n    sys.stdout.close()")
    assert [p.start(id=id).end().HasField("result") for id in ("one", "two")] == [True, True]
    assert p.shutdown() == 0
    assert p.log == ["one", "two"]


def test_describe_and_health(start: Any, tmp_path: Any) -> None:
    (tmp_path / "card.json").write_text('{"identity": {}}')
    p = start(
        """
        def handler(task): pass
        blocksd.serve(handler, card=["card.json", {"a": 1}], name="n", version="2", idempotent=True)
        """
    )
    assert p.health() == b"\x08\x01"
    with pytest.raises(grpc.RpcError) as err:
        p.health("another")
    assert err.value.code() == grpc.StatusCode.NOT_FOUND
    d = p.describe()
    assert (d.name, d.version, d.sdk.split("/")[0]) == ("n", "2", "blocksd-python")
    assert list(d.agent_cards_json) == [b'{"identity": {}}', b'{"a": 1}']
    assert d.capabilities.cancel and d.capabilities.idempotent


def test_log_records_keep_their_level(start: Any) -> None:
    p = start(
        """
        import logging
        def handler(task):
            log = logging.getLogger("mine")
            log.debug("not shown")
            log.info("to %s", "you", extra={"size": 3})
            log.warning("careful")
            try:
                1 / 0
            except ZeroDivisionError:
                log.exception("two\\nlines")
        """
    )
    p.start(id="task-7").end()
    p.shutdown()
    info, warning, error = p.records()
    assert (info["level"], info["msg"], info["logger"], info["size"], info["task"]) == ("info", "to you", "mine", 3, "task-7")
    assert warning["level"] == "warn"
    assert error["level"] == "error" and error["msg"] == "two\nlines" and "ZeroDivisionError" in error["traceback"]


def test_logging_that_a_program_sets_up_keeps_its_level_too(start: Any) -> None:
    p = start(
        """
        import logging
        logging.basicConfig(level=logging.DEBUG, format="%(message)s")
        def handler(task):
            logging.debug("small")
            logging.error("large")
        """
    )
    p.start().end()
    p.shutdown()
    assert [(r["level"], r["msg"]) for r in p.records() if "logger" not in r] == [("debug", "small"), ("error", "large")]


def test_a_program_started_by_hand_says_what_it_is(tmp_path: Any) -> None:
    program = tmp_path / "shout"
    program.write_text("import blocksd\nblocksd.serve(lambda task: None)\n")
    done = subprocess.run([sys.executable, program], env={"PYTHONPATH": str(PACKAGE)}, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith("shout is a Blocks handler and does nothing by itself")


@pytest.mark.parametrize(
    "source, env, sentence",
    [
        ("def handler(task): pass\nblocksd.serve(handler, card='none.json')", {}, "none.json: No such file"),
        ("def handler(task): pass\nblocksd.serve(handler, card=b'{')", {}, "blocksd.serve is not JSON"),
        ("blocksd.serve(3)", {}, "is no function but 3"),
        ("def handler(task): pass", {"PLUGIN_CLIENT_CERT": "x"}, "cannot be served on"),
        ("def handler(task): pass", {"PLUGIN_UNIX_SOCKET_DIR": ""}, "PLUGIN_UNIX_SOCKET_DIR is not set"),
        ("def handler(task): pass", {"PLUGIN_UNIX_SOCKET_DIR": "/nowhere"}, "cannot be served on /nowhere"),
    ],
)
def test_what_cannot_start_says_why(start: Any, source: str, env: dict[str, str], sentence: str) -> None:
    p = start(source, env=env, connect=False)
    assert p.wait() == 78
    assert sentence in p.log[-1]


def test_only_the_daemon_may_open_an_encrypted_connection(start: Any, tmp_path: Any) -> None:
    """That it may is tested with the real one, in e2e."""
    import ssl
    import socket
    from base64 import b64decode

    from blocksd import _certificate

    certificate, _ = _certificate._made()
    pem = _certificate._pem("CERTIFICATE", certificate).decode()
    p = start("def handler(task): pass", env={"PLUGIN_CLIENT_CERT": pem}, connect=False)
    fields = p._line.get(timeout=PATIENCE).split("|")
    assert fields[4] == "grpc" and len(fields[5]) > 50 and "=" not in fields[5]
    served = ssl.DER_cert_to_PEM_cert(b64decode(fields[5] + "=" * (-len(fields[5]) % 4)))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=served)  # a stranger may see whom it talks to, and no more
    with socket.socket(socket.AF_UNIX) as plain:
        plain.connect(fields[3])
        with context.wrap_socket(plain, server_hostname="localhost") as connection:
            with pytest.raises((ssl.SSLError, ConnectionError)):
                while connection.recv(100):
                    pass
    with socket.socket(socket.AF_UNIX) as plain:
        plain.connect(fields[3])
        plain.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        with pytest.raises(ConnectionError):
            while plain.recv(100):
                pass
            raise ConnectionResetError  # closed is as good


def test_stop(start: Any) -> None:
    source = """
        import atexit
        atexit.register(lambda: print("tidied up"))
        def handler(task): pass
        """
    p = start(source)
    os.kill(p.popen.pid, signal.SIGINT)  # Ctrl-C in a terminal is for the daemon
    assert p.start(text("x")).end().HasField("result")
    assert p.shutdown() == 0
    assert p.log == ["tidied up"]
    p = start(source)
    os.kill(p.popen.pid, signal.SIGTERM)
    assert p.wait() == 0


def test_stop_does_not_wait_for_a_handler_that_hangs(start: Any) -> None:
    p = start(
        """
        import threading
        def handler(task):
            threading.Thread(target=threading.Event().wait, daemon=False).start()
            task.status("hangs")
            threading.Event().wait()
        """
    )
    call = p.start()
    assert call.next().status == "hangs"
    assert p.shutdown() == 0


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_processes_of_multiprocessing_load_the_program_and_are_no_handlers(start: Any, method: str) -> None:
    p = start(
        f"""
        import multiprocessing
        def square(n): return n * n
        def handler(task):
            with multiprocessing.get_context("{method}").Pool(1) as pool: return str(pool.map(square, [1, 2, 3]))
        """
    )
    assert p.start().artifacts()[0][1] == b"[1, 4, 9]"


def test_a_program_that_a_handler_starts_is_no_handler(start: Any) -> None:
    p = start(
        """
        import subprocess, sys
        import blocksd
        def handler(task):
            child = "import blocksd; print('for the parent')"
            return subprocess.run([sys.executable, "-c", child], capture_output=True, text=True).stdout
        """
    )
    assert p.start().artifacts()[0][1] == b"for the parent\n"


def test_a_process_that_a_handler_forks_has_no_part_in_the_task(start: Any) -> None:
    p = start(
        """
        import multiprocessing, os, signal, sys, time
        def square(n):
            return n * n
        def handler(task):
            out = []
            ready, tell = os.pipe()
            def wait():
                os.write(tell, b"x")
                time.sleep(600)
            for end in (lambda: None, lambda: sys.exit(3), lambda: 1 / 0, wait):
                pid = os.fork()
                if pid == 0:
                    end()
                    return "of the child"
                if not out or len(out) < 3:
                    out.append(os.waitpid(pid, 0)[1] >> 8)
            os.read(ready, 1)
            os.kill(pid, signal.SIGTERM)
            out.append(os.waitpid(pid, 0)[1])
            with multiprocessing.get_context("fork").Pool(2) as pool:
                out.append(pool.map(square, [1, 2, 3]))
            return {"out": out}
        """
    )
    assert p.start().artifacts() == [(p.start(id="t2").artifacts()[0][0], b'{"out": [0, 3, 1, 15, [1, 4, 9]]}')]
    assert p.health() == b"\x08\x01"
    assert p.shutdown() == 0


# Loading is most of what a handler's start takes. It is some 200 modules more than those of a bare Python, a few more or less
# with each version of it.
MOST_MODULES = 250
TELL = "import sys\ndef loaded(): return ' '.join(sys.modules)\n"


def test_a_handler_loads_little(start: Any) -> None:
    p = start(TELL + "def handler(task): return loaded()")
    loads_little(p.start(text("x")).artifacts()[0][1].decode())


def test_a_project_loads_little(project: Any) -> None:
    p = project(TELL + "def handler(task, ctx): return {'artifacts': [{'data': loaded(), 'mimeType': 'text/plain'}]}")
    loads_little(p.start(text("x")).artifacts()[0][1].decode())


def loads_little(modules: str) -> None:
    bare = subprocess.run([sys.executable, "-c", "import sys; print(*sys.modules)"], capture_output=True, text=True, check=True)
    loaded = set(modules.split()) - set(bare.stdout.split())
    assert "blocksd" in loaded
    assert len(loaded) <= MOST_MODULES, sorted(loaded)
    slow = {"grpc", "http", "urllib.request", "email", "multiprocessing", "unittest", "xml", "importlib.metadata"}
    assert not slow & loaded
