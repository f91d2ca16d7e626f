"""A connection with its socket. Reading happens on a loop; any thread may write, and does so itself where the socket has
room: to have the loop do it costs more than all the rest of a small answer."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from typing import Callable

from . import _http2
from ._http2 import Connection, Event

# What is asked for at once, in bytes. From 128 KiB on the C library maps memory for each read, which takes longer than the rest.
READ = 64 << 10

_LATER = (BlockingIOError, InterruptedError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class Peer:
    """core is used with lock held, and flush called afterwards with it still held. take gets the events, on the loop and
    without the lock; lost is called there once, when the connection is over."""

    def __init__(
        self,
        sock: socket.socket,
        client: bool,
        loop: asyncio.AbstractEventLoop,
        take: Callable[[Event], None],
        lost: Callable[[], None],
    ) -> None:
        sock.setblocking(False)
        self.lock = threading.Lock()
        self.core = Connection(client)
        self.over = False
        self._socket = sock
        self._loop = loop
        self._take = take
        self._lost = lost
        self._writing = False  # the loop watches for room

    def start(self) -> None:
        """On the loop."""
        self._loop.add_reader(self._socket, self._readable)
        with self.lock:
            self.flush()

    def flush(self) -> None:
        """Sends what there is room for, the rest later. The lock is held."""
        out = self.core.out
        try:
            while out:
                del out[: self._socket.send(out)]
        except ssl.SSLWantReadError:
            pass  # TLS waits for the other side; what comes then brings us here again
        except _LATER:
            if not self._writing:
                self._writing = True
                self._on_loop(self._watch)
        except (OSError, ssl.SSLError):
            out.clear()
            self._on_loop(self.close)

    def close(self) -> None:
        """On the loop."""
        if self.over:
            return
        self.over = True
        self._loop.remove_reader(self._socket)
        self._loop.remove_writer(self._socket)
        with self.lock:
            self._socket.close()
        self._lost()

    def forget(self) -> None:
        """In a process that was forked. The loop there is the parent's, and locks may be held by threads that are gone."""
        self.over = True
        self._socket.close()

    def _on_loop(self, call: Callable[[], None]) -> None:
        try:
            self._loop.call_soon_threadsafe(call)
        except RuntimeError:  # the loop is closed: the process ends
            pass

    def _watch(self) -> None:
        if not self.over:
            self._loop.add_writer(self._socket, self._writable)

    def _writable(self) -> None:
        with self.lock:
            self._writing = False
            self._loop.remove_writer(self._socket)
            self.flush()

    def _readable(self) -> None:
        while not self.over:
            try:
                with self.lock:
                    data = self._socket.recv(READ)
                    events = self.core.receive(data)
                    self.flush()
            except _LATER:
                with self.lock:
                    self.flush()
                return
            except _http2.Broken as err:
                with self.lock:
                    self.core.leave(err.code, str(err))
                    self.flush()
                return self.close()
            except (OSError, ssl.SSLError):
                return self.close()
            if not data:
                return self.close()
            for event in events:
                self._take(event)
            if not isinstance(self._socket, ssl.SSLSocket):  # TLS may hold bytes that nobody is woken for
                return
