"""One connection of HTTP/2 (RFC 9113), as far as gRPC needs it: bytes that came become events, and what is to be said
becomes bytes. Pure: it knows no socket, no clock and no thread."""

from __future__ import annotations

import struct
from collections import deque
from dataclasses import dataclass, field
from typing import NamedTuple, Union

from ._hpack import MAX_HEADERS, Decoder, HeaderError, Headers

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM, ACK, END_HEADERS, PADDED, WITH_PRIORITY = 0x1, 0x1, 0x4, 0x8, 0x20
NO_ERROR, PROTOCOL_ERROR, INTERNAL_ERROR, FLOW_CONTROL, STREAM_CLOSED, FRAME_SIZE = 0, 1, 2, 3, 5, 6
CANCEL, COMPRESSION_ERROR = 8, 9
ENABLE_PUSH, INITIAL_WINDOW, MAX_FRAME = 2, 4, 5

# How much the other side may send before it hears that it was read: on one stream, and on all together.
STREAM_WINDOW = 1 << 20
CONNECTION_WINDOW = 1 << 24
# The size of a frame, and the windows, that both sides begin with.
FRAME = 16384
WINDOW = 65535
MAX_WINDOW = (1 << 31) - 1

_head = struct.Struct(">HBBBL")
_long = struct.Struct(">L")


class Broken(Exception):
    """The other side does not speak HTTP/2 as it must; the connection cannot go on."""

    def __init__(self, code: int, why: str) -> None:
        super().__init__(why)
        self.code = code


class Opened(NamedTuple):
    """The headers of a stream: the first ones, or those at its end."""

    stream: int
    headers: Headers
    ended: bool


class Came(NamedTuple):
    stream: int
    data: bytes
    ended: bool


class Reset(NamedTuple):
    """The other side has given up a stream."""

    stream: int
    code: int


class Free(NamedTuple):
    """All that was to be sent on a stream is on its way, after some had to wait."""

    stream: int


class Leaving(NamedTuple):
    """The other side takes no streams beyond last."""

    last: int


Event = Union[Opened, Came, Reset, Free, Leaving]


@dataclass
class _Stream:
    window: int  # what may be sent
    waiting: deque[bytes] = field(default_factory=deque)
    # What follows when nothing waits: headers at the end, or nothing but the end; None while there is more to come.
    end: bytes | None = None
    sent_end: bool = False
    came_end: bool = False
    unacknowledged: int = 0  # bytes that were read, and that the other side has not heard of


class Connection:
    """out holds what is to be sent; whoever sends it removes it."""

    def __init__(self, client: bool) -> None:
        self.out = bytearray(PREFACE if client else b"")
        self._client = client
        self._expects = b"" if client else PREFACE
        self._rest = b""
        self._decoder = Decoder()
        self._streams: dict[int, _Stream] = {}
        self._newest = 0  # of the streams that the client has opened
        self._window = WINDOW
        self._first_window = WINDOW
        self._frame = FRAME
        self._unacknowledged = 0
        self._greeted = False
        # A block of headers that has not ended: its stream, and whether that ends with it.
        self._block: bytearray | None = None
        self._block_of = 0
        self._block_ends = False
        settings = [(INITIAL_WINDOW, STREAM_WINDOW), *([(ENABLE_PUSH, 0)] if client else [])]
        self._put(SETTINGS, 0, 0, b"".join(struct.pack(">HL", *setting) for setting in settings))
        self._put(WINDOW_UPDATE, 0, 0, _long.pack(CONNECTION_WINDOW - WINDOW))

    # What is to be sent.

    def open(self, block: bytes) -> int:
        """Begins a stream of a client, with these headers."""
        self._newest += 2 if self._newest else 1
        self._streams[self._newest] = _Stream(self._first_window)
        self._put_headers(self._newest, block, 0)
        return self._newest

    def headers(self, stream: int, block: bytes) -> None:
        """The first headers of an answer."""
        if stream in self._streams:
            self._put_headers(stream, block, 0)

    def data(self, stream: int, data: bytes) -> None:
        """What the other side has no room for yet, waits. A stream that is over takes nothing."""
        s = self._streams.get(stream)
        if s is None or s.end is not None:
            return
        if s.waiting or len(data) > min(s.window, self._window, self._frame):
            s.waiting.append(data)
            self._send(stream, s)
            return
        s.window -= len(data)
        self._window -= len(data)
        self._put(DATA, 0, stream, data)

    def end(self, stream: int, block: bytes = b"") -> None:
        """Nothing more is sent on the stream, but for headers, when what waits has gone."""
        s = self._streams.get(stream)
        if s is not None and s.end is None:
            s.end = block
            self._send(stream, s)

    def reset(self, stream: int, code: int) -> None:
        if self._streams.pop(stream, None) is not None:
            self._put(RST_STREAM, 0, stream, _long.pack(code))

    def waits(self, stream: int) -> bool:
        """Whether something has to wait until the other side has room."""
        s = self._streams.get(stream)
        return s is not None and bool(s.waiting)

    def read(self, stream: int, size: int) -> None:
        """So many bytes that came on the stream need no room any more."""
        s = self._streams.get(stream)
        if s is None or s.came_end:
            return
        s.unacknowledged += size
        if s.unacknowledged >= STREAM_WINDOW // 4:
            self._put(WINDOW_UPDATE, 0, stream, _long.pack(s.unacknowledged))
            s.unacknowledged = 0

    def leave(self, code: int = NO_ERROR, why: str = "") -> None:
        """No further streams are taken."""
        self._put(GOAWAY, 0, 0, _long.pack(0 if self._client else self._newest) + _long.pack(code) + why.encode())

    @property
    def idle(self) -> bool:
        return not self._streams

    def _put(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        size = len(payload)
        self.out += _head.pack(size >> 8, size & 0xFF, kind, flags, stream)
        self.out += payload

    def _put_headers(self, stream: int, block: bytes, flags: int) -> None:
        kind = HEADERS
        while len(block) > self._frame:
            self._put(kind, flags, stream, block[: self._frame])
            kind, flags, block = CONTINUATION, 0, block[self._frame :]
        self._put(kind, flags | END_HEADERS, stream, block)

    def _send(self, stream: int, s: _Stream) -> None:
        """As much of what waits as there is room for."""
        while s.waiting:
            data = s.waiting[0]
            size = min(len(data), s.window, self._window, self._frame)
            if size <= 0 < len(data):
                return
            last = size == len(data) and len(s.waiting) == 1 and s.end == b""
            self._put(DATA, END_STREAM if last else 0, stream, data[:size])
            s.sent_end = last
            s.window -= size
            self._window -= size
            if size < len(data):
                s.waiting[0] = data[size:]
            else:
                s.waiting.popleft()
        if s.end is not None:
            if s.end:
                self._put_headers(stream, s.end, END_STREAM)
            elif not s.sent_end:
                self._put(DATA, END_STREAM, stream, b"")
            s.sent_end = True
            self._forget(stream, s)

    def _forget(self, stream: int, s: _Stream) -> None:
        if s.sent_end and s.came_end:
            self._streams.pop(stream, None)

    # What comes.

    def receive(self, data: bytes) -> list[Event]:
        events: list[Event] = []
        if self._rest:
            data = self._rest + data
        at = 0
        if self._expects:
            got = data[: len(self._expects)]
            if not self._expects.startswith(got):
                raise Broken(PROTOCOL_ERROR, "this is no HTTP/2")
            if len(got) < len(self._expects):
                self._rest = data
                return events
            at, self._expects = len(got), b""
        while len(data) - at >= 9:
            high, low, kind, flags, stream = _head.unpack_from(data, at)
            size = high << 8 | low
            if size > FRAME:
                raise Broken(FRAME_SIZE, f"a frame of {size} bytes")
            if len(data) - at - 9 < size:
                break
            at += 9 + size
            self._take(kind, flags, stream & MAX_WINDOW, data[at - size : at], events)
        self._rest = data[at:]
        return events

    def _take(self, kind: int, flags: int, stream: int, payload: bytes, events: list[Event]) -> None:
        if not self._greeted and kind != SETTINGS:
            raise Broken(PROTOCOL_ERROR, "the settings do not come first")
        if (self._block is None) == (kind == CONTINUATION) or self._block is not None and stream != self._block_of:
            raise Broken(PROTOCOL_ERROR, "headers that do not follow each other")
        if kind == DATA:
            self._take_data(flags, stream, payload, events)
        elif kind == HEADERS:
            payload = _unpadded(flags, payload)
            if flags & WITH_PRIORITY:
                payload = payload[5:]
            self._block, self._block_of, self._block_ends = bytearray(), stream, bool(flags & END_STREAM)
            self._take_block(flags, payload, events)
        elif kind == CONTINUATION:
            self._take_block(flags, payload, events)
        elif kind == WINDOW_UPDATE:
            self._take_window(stream, _number(payload, 4) & MAX_WINDOW, events)
        elif kind == PING:
            if len(payload) != 8:
                raise Broken(FRAME_SIZE, "a ping of the wrong size")
            if not flags & ACK:
                self._put(PING, ACK, 0, payload)
        elif kind == SETTINGS:
            self._greeted = True
            if not flags & ACK:
                self._take_settings(payload)
                self._put(SETTINGS, ACK, 0, b"")  # first: only then does the other side expect what they allow
                self._send_waiting(events)
        elif kind == RST_STREAM:
            code = _number(payload, 4)
            if self._streams.pop(stream, None) is not None:
                events.append(Reset(stream, code))
        elif kind == GOAWAY:
            events.append(Leaving(_number(payload, 8) >> 32 & MAX_WINDOW))
        elif kind == PUSH_PROMISE:
            raise Broken(PROTOCOL_ERROR, "an answer that nobody asked for")

    def _take_data(self, flags: int, stream: int, payload: bytes, events: list[Event]) -> None:
        size = len(payload)
        self._unacknowledged += size
        if self._unacknowledged >= CONNECTION_WINDOW // 4:
            self._put(WINDOW_UPDATE, 0, 0, _long.pack(self._unacknowledged))
            self._unacknowledged = 0
        s = self._streams.get(stream)
        if s is None:
            if stream == 0 or stream > self._newest:
                raise Broken(PROTOCOL_ERROR, "data of a stream that was never opened")
            return
        if s.came_end:
            raise Broken(STREAM_CLOSED, "data behind the end of a stream")
        data = _unpadded(flags, payload)
        if len(data) < size:
            self.read(stream, size - len(data))
        self._end_if(flags & END_STREAM, stream, s)
        events.append(Came(stream, data, bool(flags & END_STREAM)))

    def _take_block(self, flags: int, payload: bytes, events: list[Event]) -> None:
        assert self._block is not None
        self._block += payload
        if len(self._block) > MAX_HEADERS:
            raise Broken(PROTOCOL_ERROR, "the headers are too long")
        if not flags & END_HEADERS:
            return
        block, self._block = bytes(self._block), None
        try:
            headers = self._decoder.decode(block)
        except HeaderError as err:
            raise Broken(COMPRESSION_ERROR, str(err)) from None
        stream = self._block_of
        s = self._streams.get(stream)
        if s is None:
            if self._client or stream <= self._newest:
                if stream == 0 or stream > self._newest:
                    raise Broken(PROTOCOL_ERROR, "an answer on a stream that was never opened")
                return
            if stream % 2 == 0:
                raise Broken(PROTOCOL_ERROR, "a stream with the number of a server")
            self._newest = stream
            s = self._streams[stream] = _Stream(self._first_window)
        elif s.came_end:
            raise Broken(STREAM_CLOSED, "headers behind the end of a stream")
        self._end_if(self._block_ends, stream, s)
        events.append(Opened(stream, headers, self._block_ends))

    def _end_if(self, ends: int, stream: int, s: _Stream) -> None:
        if ends:
            s.came_end = True
            self._forget(stream, s)

    def _take_window(self, stream: int, more: int, events: list[Event]) -> None:
        if stream == 0:
            self._window += more
            if more == 0 or self._window > MAX_WINDOW:
                raise Broken(FLOW_CONTROL, "a window that cannot be")
            self._send_waiting(events)
            return
        s = self._streams.get(stream)
        if s is None:
            return
        s.window += more
        if more == 0 or s.window > MAX_WINDOW:
            self.reset(stream, FLOW_CONTROL)
            events.append(Reset(stream, FLOW_CONTROL))
        elif s.waiting:
            self._send_waiting(events, stream)

    def _send_waiting(self, events: list[Event], only: int = 0) -> None:
        for stream in [only] if only else [number for number, s in self._streams.items() if s.waiting]:
            s = self._streams[stream]
            self._send(stream, s)
            if not s.waiting:
                events.append(Free(stream))

    def _take_settings(self, payload: bytes) -> None:
        if len(payload) % 6:
            raise Broken(FRAME_SIZE, "settings of the wrong size")
        for key, value in struct.iter_unpack(">HL", payload):
            if key == INITIAL_WINDOW:
                if value > MAX_WINDOW:
                    raise Broken(FLOW_CONTROL, "a window that cannot be")
                for s in self._streams.values():
                    s.window += value - self._first_window
                self._first_window = value
            elif key == MAX_FRAME:
                if not FRAME <= value < 1 << 24:
                    raise Broken(PROTOCOL_ERROR, "a size of frames that cannot be")
                self._frame = value


def _number(payload: bytes, size: int) -> int:
    if len(payload) < size:
        raise Broken(FRAME_SIZE, "a frame that is too short")
    return int.from_bytes(payload[:size], "big")


def _unpadded(flags: int, payload: bytes) -> bytes:
    if not flags & PADDED:
        return payload
    if not payload or payload[0] >= len(payload):
        raise Broken(PROTOCOL_ERROR, "a padding that is longer than its frame")
    return payload[1 : len(payload) - payload[0]]
