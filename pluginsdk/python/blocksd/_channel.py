"""Calls that this process makes."""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from typing import Callable, Optional
from urllib.parse import unquote

from . import _http2
from ._grpc import STATUS, Messages, Refused, framed
from ._hpack import encoded
from ._http2 import Came, Event, Free, Leaving, Opened, Reset
from ._peer import Peer


class Channel:
    """Makes calls to a server on a Unix socket. It connects when it is first needed, and again when the connection was
    lost. Everything happens on one loop."""

    def __init__(self, path: str, metadata: tuple[tuple[str, str], ...] = ()) -> None:
        self._path = path
        self._metadata = metadata
        self._peer: Optional[Peer] = None
        self._calls: dict[int, ClientCall] = {}
        self._blocks: dict[str, bytes] = {}

    def call(self, method: str) -> ClientCall:
        """Begins a call."""
        peer = self._connected()
        block = self._blocks.get(method)
        if block is None:
            fixed = (":method", "POST"), (":scheme", "http"), (":path", method), (":authority", "localhost")
            block = encoded(*fixed, ("te", "trailers"), ("content-type", "application/grpc"), *self._metadata)
            self._blocks[method] = block
        with peer.lock:
            stream = peer.core.open(block)
            peer.flush()
        call = ClientCall(peer, stream, self._forget)
        self._calls[stream] = call
        return call

    def close(self) -> None:
        if self._peer is not None:
            self._peer.close()

    def forget(self) -> None:
        """In a process that was forked."""
        if self._peer is not None:
            self._peer.forget()

    def _connected(self) -> Peer:
        if self._peer is None:
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                sock.connect(self._path)
            except OSError as err:
                sock.close()
                raise Refused("UNAVAILABLE", f"connect to {self._path}: {err.strerror or err}") from None
            self._peer = Peer(sock, True, asyncio.get_running_loop(), self._take, self._lost)
            self._peer.start()
        return self._peer

    def _forget(self, stream: int) -> None:
        self._calls.pop(stream, None)

    def _take(self, event: Event) -> None:
        if isinstance(event, Leaving):
            return  # the daemon ends; what is asked of it from now on is refused or lost
        if (call := self._calls.get(event.stream)) is not None:
            call._take(event)

    def _lost(self) -> None:
        self._peer = None
        calls, self._calls = self._calls, {}
        for call in calls.values():
            call._end(Refused("UNAVAILABLE", "the connection to the daemon was lost"))


class ClientCall:
    """A call that is made from here: any number of requests, any number of answers."""

    def __init__(self, peer: Peer, stream: int, forget: Callable[[int], None]) -> None:
        self._peer = peer
        self._stream = stream
        self._forget = forget
        self._messages = Messages()
        self._answers: deque[bytes] = deque()
        self._unread = 0  # bytes that came, and that the other side has not been told of
        self._news = asyncio.Event()
        self._room = asyncio.Event()
        self._end_of: Optional[Refused] = None  # OK as well

    async def send(self, message: bytes) -> None:
        """Returns when it is on its way. Once the call has ended nothing is sent: the end says why."""
        data = framed(message)
        self._room.clear()
        with self._peer.lock:
            self._peer.core.data(self._stream, data)
            self._peer.flush()
            waits = self._peer.core.waits(self._stream)
        if waits and self._end_of is None:
            await self._room.wait()

    def close(self) -> None:
        """There are no further requests."""
        with self._peer.lock:
            self._peer.core.end(self._stream)
            self._peer.flush()

    @property
    def ended(self) -> bool:
        return self._end_of is not None

    async def read(self) -> Optional[bytes]:
        """The next answer; None behind the last one. Raises Refused if the call has failed."""
        while not self._answers:
            if self._end_of is not None:
                if self._end_of.code != "OK":
                    raise Refused(self._end_of.code, self._end_of.detail)
                return None
            self._news.clear()
            await self._news.wait()
        answer = self._answers.popleft()
        self._make_room()
        return answer

    def _make_room(self) -> None:
        """What nobody has read takes room; the beginning of a message that nobody can read yet does not."""
        if not self._answers:
            with self._peer.lock:
                self._peer.core.read(self._stream, self._unread)
                self._peer.flush()
            self._unread = 0

    def cancel(self) -> None:
        if self._end_of is None:
            self._give_up(_http2.CANCEL, Refused("CANCELLED", "the call was canceled"))

    def _give_up(self, code: int, why: Refused) -> None:
        with self._peer.lock:
            self._peer.core.reset(self._stream, code)
            self._peer.flush()
        self._end(why)

    def _take(self, event: Event) -> None:
        if isinstance(event, Opened):
            headers = dict(event.headers)
            if event.ended or "grpc-status" in headers:
                self._give_up(_http2.CANCEL, _status(headers))  # also where requests were still to come
            elif headers.get(":status") != "200":
                self._give_up(_http2.CANCEL, Refused("UNKNOWN", f"the answer has the HTTP status {headers.get(':status')}"))
        elif isinstance(event, Came):
            try:
                answers = self._messages.take(event.data)
            except Refused as err:
                return self._give_up(_http2.CANCEL, err)
            self._unread += len(event.data)
            self._answers += answers
            self._make_room()
            self._news.set()
            if event.ended:
                self._end(Refused("INTERNAL", "the answer ended without a status"))
        elif isinstance(event, Free):
            self._room.set()
        elif isinstance(event, Reset):
            self._end(Refused("CANCELLED" if event.code == _http2.CANCEL else "UNAVAILABLE", f"the call was given up (HTTP/2 code {event.code})"))

    def _end(self, end: Refused) -> None:
        if self._end_of is None:
            self._end_of = end
            self._forget(self._stream)
            self._news.set()
            self._room.set()


def _status(headers: dict[str, str]) -> Refused:
    text = headers.get("grpc-status", "")
    code = STATUS[int(text)] if text.isdigit() and int(text) < len(STATUS) else "UNKNOWN"
    return Refused(code, unquote(headers.get("grpc-message", "")) or code)
