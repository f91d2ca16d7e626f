"""The handler process: handshake, server, stop.

The server runs in a thread of its own, so that the main thread is free for what belongs to it: loading a project, signals.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from typing import Any, Callable, NoReturn, Optional

from . import _output

# How long calls under way may take to end after the daemon has asked the process to stop, and how long the rest of the
# process may take after that: threads of the handler, functions registered with atexit.
STOP_GRACE = 0.2
EXIT_GRACE = 2.0
# The daemon waits 10 s for the handshake. What takes longer to load gets its first tasks a little later instead.
LOAD_BEFORE_HANDSHAKE = 7.0

# The exit code of a handler that knows why it cannot work.
UNUSABLE = 78


# A project that is being loaded takes over what its file serves.
adopts = False


class Adopted(BaseException):
    """Ends the loading of a project whose file has called serve, which does not return."""

    def __init__(self, served: Any) -> None:
        super().__init__()
        self.served = served


def give_up(sentence: str) -> NoReturn:
    """Ends the process with a reason that the daemon shows, the last line of its output. It does not start it again before
    something changes."""
    sys.stdout.flush()
    print(" ".join(sentence.split()), file=sys.stderr, flush=True)
    os._exit(UNUSABLE)


def of_multiprocessing() -> bool:
    """Whether this is a process that multiprocessing has started by the methods spawn or forkserver: it loads the program of its
    parent again, or the module of a function, and is no handler."""
    module = sys.modules.get("multiprocessing.process")
    if module is None:
        return False
    return module.parent_process() is not None or getattr(module.current_process(), "_inheriting", False)


def run(served: Any, load: Optional[Callable[[], None]] = None) -> NoReturn:
    """Serves until the daemon asks the process to stop. load prepares what served needs; it ends the process itself when it
    fails."""
    if adopts and load is None:
        raise Adopted(served)
    directory = os.environ.get("PLUGIN_UNIX_SOCKET_DIR")
    if not directory:
        give_up("PLUGIN_UNIX_SOCKET_DIR is not set, so there is no place for the handler's socket: start it by blocksd")
    # The kernel may give a signal to any thread; what Python writes here then wakes the main one, which runs the functions.
    wake, waker = os.pipe()
    os.set_blocking(waker, False)
    signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
    server = _Server(served, os.path.join(directory, f"python-{os.getpid()}.sock"), waker)
    # Ctrl-C in a terminal is for the daemon. A function and not SIG_IGN, which programs started here would inherit.
    ours = {signal.SIGTERM: lambda *_: server.stop(), signal.SIGINT: lambda *_: None}
    for number, handler in ours.items():
        signal.signal(number, handler)

    # A process that the handler forks ends by signals, as others do, and has no part in the connection. A signal that comes
    # to it before it can know that waits.
    masks = threading.local()

    def before() -> None:
        masks.saved = signal.pthread_sigmask(signal.SIG_BLOCK, ours)

    def in_parent() -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, masks.saved)

    def in_child() -> None:
        signal.set_wakeup_fd(-1)
        for number, default in ((signal.SIGTERM, signal.SIG_DFL), (signal.SIGINT, signal.default_int_handler)):
            if signal.getsignal(number) is ours[number]:
                signal.signal(number, default)
        server.forget()
        signal.pthread_sigmask(signal.SIG_SETMASK, masks.saved)

    os.register_at_fork(before=before, after_in_parent=in_parent, after_in_child=in_child)
    threading.Thread(target=server.run, name="blocksd server", daemon=True).start()
    if load is not None:
        load()
    _output.adopt_logging()
    server.loaded.set()
    while not server.over.is_set():
        os.read(wake, 1024)
    _end()


class _Server:
    def __init__(self, served: Any, socket: str, waker: int) -> None:
        self._served = served
        self._socket = socket
        self._waker = waker  # to be written to at the end
        self._loop: Optional[asyncio.AbstractEventLoop] = None
        self._stopping: Optional[asyncio.Event] = None
        self._parts: list[Any] = []  # what has sockets
        self.loaded = threading.Event()
        self.over = threading.Event()

    def run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as err:
            give_up(f"the handler cannot be served on {self._socket}: {err}")
        self.over.set()
        os.write(self._waker, b"\0")

    def stop(self) -> None:
        if self._loop is None or self._stopping is None:  # nobody calls yet
            os._exit(0)
        self._loop.call_soon_threadsafe(self._stopping.set)

    def forget(self) -> None:
        """In a process that was forked: its copies of the sockets are closed, and nothing is said on them."""
        for part in self._parts:
            part.forget()

    async def _serve(self) -> None:
        from ._server import Server
        from ._host import Host
        from ._service import Service

        self._loop = asyncio.get_running_loop()
        self._stopping = asyncio.Event()
        host = Host.from_environment()
        tls, certificate = None, ""
        if client := os.environ.get("PLUGIN_CLIENT_CERT"):
            from ._certificate import server_context

            tls, certificate = server_context(client)
        server = Server(Service(self._served, host, self._stopping.set).methods(), tls)
        self._parts = [server, host]
        server.listen(self._socket)
        self.loaded.wait(LOAD_BEFORE_HANDSHAKE)
        _output.handshake(f"1|1|unix|{self._socket}|grpc|{certificate}")
        await self._stopping.wait()
        await server.stop(STOP_GRACE)
        await host.close()


def _end() -> NoReturn:
    """Lets the interpreter end as usual, but not for longer than EXIT_GRACE: a handler may hang."""
    sys.stdout.flush()
    timer = threading.Timer(EXIT_GRACE, os._exit, [0])
    timer.daemon = True
    timer.start()
    sys.exit(0)
