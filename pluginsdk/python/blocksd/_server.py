"""Calls that this process answers. Everything about the calls of one connection happens on the loop, but for what ServerCall
says may be done in any thread."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from typing import Callable, Optional
from urllib.parse import quote

from . import _http2
from ._grpc import STATUS, Messages, Refused, framed
from ._hpack import encoded
from ._http2 import Came, Event, Free, Opened, Reset
from ._peer import Peer

log = logging.getLogger("blocksd")

_ANSWER = encoded((":status", "200"), ("content-type", "application/grpc"))
_OK = encoded(("grpc-status", "0"))


class ServerCall:
    """A call that is answered here: one request, any number of answers. send, end and reply may be called in any thread;
    after the end, or when the call was canceled, they do nothing. on_cancel and on_room are called on the loop, on_end in any
    thread."""

    def __init__(self, peer: Peer, stream: int, path: str, ended: Callable[[int], None]) -> None:
        self.path = path
        self.on_cancel: Optional[Callable[[], None]] = None
        self.on_room: Optional[Callable[[], None]] = None
        self.on_end: Optional[Callable[[], None]] = None  # also when it was canceled
        self._peer = peer
        self._ended = ended
        self._stream = stream
        self._began = False
        self._messages = Messages()
        self._requests: list[bytes] = []

    @property
    def has_room(self) -> bool:
        """False while something that was sent has to wait; on_room says when it has gone."""
        return not self._peer.core.waits(self._stream)

    def send(self, *messages: bytes, last: bool = False) -> None:
        """Sends answers, and the end behind the last one."""
        frames = b"".join(framed(m) for m in messages)
        peer, core = self._peer, self._peer.core
        with peer.lock:
            if not self._began:
                self._began = True
                core.headers(self._stream, _ANSWER)
            if frames:
                core.data(self._stream, frames)
            if last:
                core.end(self._stream, _OK)
            peer.flush()
        if last:
            self._ended(self._stream)

    def refuse(self, code: str, detail: str) -> None:
        trailers = ("grpc-status", str(STATUS.index(code))), ("grpc-message", quote(detail, safe=" !\"#$&'()*+,/:;<=>?@[]^_`{|}~"))
        first = () if self._began else ((":status", "200"), ("content-type", "application/grpc"))
        with self._peer.lock:
            self._began = True
            self._peer.core.end(self._stream, encoded(*first, *trailers))
            self._peer.flush()
        self._ended(self._stream)

    def _came(self, event: Came) -> Optional[bytes]:
        """The request, once it is whole."""
        self._requests += self._messages.take(event.data)
        if not event.ended:
            with self._peer.lock:
                self._peer.core.read(self._stream, len(event.data))
                self._peer.flush()
            return None
        if len(self._requests) != 1 or self._messages.partial:
            raise Refused("INTERNAL", "a call with one request came with another number of them")
        return self._requests[0]


Method = Callable[[ServerCall, bytes], None]


class Server:
    """Answers calls on a Unix socket. Methods are called on the loop and must not block."""

    def __init__(self, methods: dict[str, Method], tls: Optional[ssl.SSLContext] = None) -> None:
        self._methods = methods
        self._tls = tls
        self._loop = asyncio.get_running_loop()
        self._listener: Optional[socket.socket] = None
        self._connections: set[_Serving] = set()
        self._idle = asyncio.Event()

    def listen(self, path: str) -> None:
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.setblocking(False)
        self._listener.bind(path)
        self._listener.listen()
        self._loop.add_reader(self._listener, self._accept)

    def _accept(self) -> None:
        assert self._listener is not None
        try:
            sock = self._listener.accept()[0]
            if self._tls is not None:
                sock = self._tls.wrap_socket(sock, server_side=True, do_handshake_on_connect=False)
            connection = _Serving(sock, self._methods, self._loop, self._ended)
        except (OSError, ssl.SSLError):
            return  # whoever called has gone
        self._connections.add(connection)
        connection.peer.start()

    def _ended(self, connection: _Serving) -> None:
        self._connections.discard(connection)

    def forget(self) -> None:
        """In a process that was forked."""
        if self._listener is not None:
            self._listener.close()
        for connection in self._connections:
            connection.peer.forget()

    async def stop(self, grace: float) -> None:
        """Takes no further calls, and lets those under way end within grace seconds."""
        assert self._listener is not None
        self._loop.remove_reader(self._listener)
        self._listener.close()
        ending = [c.leave() for c in self._connections]
        if ending:
            await asyncio.wait([asyncio.ensure_future(e.wait()) for e in ending], timeout=grace)
        for connection in list(self._connections):
            connection.peer.close()


class _Serving:
    """One connection of a server."""

    def __init__(
        self, sock: socket.socket, methods: dict[str, Method], loop: asyncio.AbstractEventLoop, ended: Callable[[_Serving], None]
    ) -> None:
        self.peer = Peer(sock, False, loop, self._take, self._lost)
        self._methods = methods
        self._loop = loop
        self._ended = ended
        self._calls: dict[int, ServerCall] = {}
        self._done = asyncio.Event()
        self._leaving = False

    def leave(self) -> asyncio.Event:
        """Says that no further calls are taken; the event is set when there are none."""
        self._leaving = True
        with self.peer.lock:
            self.peer.core.leave()
            self.peer.flush()
        if not self._calls:
            self._done.set()
        return self._done

    def _call_ended(self, stream: int) -> None:
        """In any thread."""
        call = self._calls.pop(stream, None)
        if call is not None and call.on_end is not None:
            call.on_end()
        if self._leaving and not self._calls:
            self._loop.call_soon_threadsafe(self._done.set)

    def _take(self, event: Event) -> None:
        if isinstance(event, Opened):
            path = next((value for name, value in event.headers if name == ":path"), "")
            call = ServerCall(self.peer, event.stream, path, self._call_ended)
            self._calls[event.stream] = call
            if path not in self._methods:
                self._refuse(event.stream, call, "UNIMPLEMENTED", f"there is no method {path}")
            elif event.ended:
                self._refuse(event.stream, call, "INTERNAL", "a call without a request")
        elif isinstance(event, Came):
            if (known := self._calls.get(event.stream)) is not None:
                self._came(event, known)
        elif isinstance(event, Reset):
            if (known := self._calls.get(event.stream)) is not None:
                if known.on_cancel is not None:
                    known.on_cancel()
                self._call_ended(event.stream)
        elif isinstance(event, Free):
            if (known := self._calls.get(event.stream)) is not None and known.on_room is not None:
                known.on_room()

    def _came(self, event: Came, call: ServerCall) -> None:
        try:
            request = call._came(event)
            if request is not None:
                self._methods[call.path](call, request)
        except Refused as err:
            self._refuse(event.stream, call, err.code, err.detail)
        except Exception as err:
            log.exception("the method %s failed", call.path)
            self._refuse(event.stream, call, "INTERNAL", f"{type(err).__name__}: {err}")

    def _refuse(self, stream: int, call: ServerCall, code: str, detail: str) -> None:
        call.refuse(code, detail)
        with self.peer.lock:  # whatever else the caller was going to send
            self.peer.core.reset(stream, _http2.NO_ERROR)
            self.peer.flush()

    def _lost(self) -> None:
        for stream, call in list(self._calls.items()):
            if call.on_cancel is not None:
                call.on_cancel()
            self._call_ended(stream)
        self._done.set()
        self._ended(self)
