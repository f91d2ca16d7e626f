"""Header compression of HTTP/2 (RFC 7541): reading of all of it. What is written here needs no table of its own."""

from __future__ import annotations

import functools
from collections import deque

Headers = list[tuple[str, str]]

TABLE_SIZE = 4096  # the size that both sides begin with; nothing else is offered here
# What one block may come to. It bounds a sender that refers to the same long entry again and again.
MAX_HEADERS = 64 << 10

_STATIC: Headers = [
    (name, value)
    for line in """
        :authority|:method=GET|:method=POST|:path=/|:path=/index.html|:scheme=http|:scheme=https|:status=200|:status=204
        :status=206|:status=304|:status=400|:status=404|:status=500|accept-charset|accept-encoding=gzip, deflate
        accept-language|accept-ranges|accept|access-control-allow-origin|age|allow|authorization|cache-control
        content-disposition|content-encoding|content-language|content-length|content-location|content-range|content-type
        cookie|date|etag|expect|expires|from|host|if-match|if-modified-since|if-none-match|if-range|if-unmodified-since
        last-modified|link|location|max-forwards|proxy-authenticate|proxy-authorization|range|referer|refresh|retry-after
        server|set-cookie|strict-transport-security|transfer-encoding|user-agent|vary|via|www-authenticate
        """.strip().splitlines()
    for name, _, value in (entry.partition("=") for entry in line.strip().split("|"))
]

# The code of RFC 7541 follows from how many bits each byte has: codes of one length follow each other.
_BITS = bytes.fromhex(
    "0d171c1c1c1c1c1c1c181e1c1c1e1c1c1c1c1c1c1c1c1e1c1c1c1c1c1c1c1c1c060a0a0c0d06080b0a0a080b080606060505050606060606060607080f060c0a"
    "0d06070707070707070707070707070707070707070707070807080d130d0e060f05060506050606060507070606060506070605050607070707070f0b0e0d1c"
    "14161414161616171617171717171817181816171817171717151617161717181615141616171715171616181516171715151615171617171416161617161617"
    "1a1a1413161716191a1a1a1b1b1a181913151a1b1b1a1b1815151a1a1c1b1b1b14181415161515171616191918181a171a1b1a1a1b1b1b1b1b1c1b1b1b1b1b1a"
)


class HeaderError(Exception):
    """A block that no sender may send."""


def _codes() -> dict[tuple[int, int], int]:
    """Bytes by the length and the value of their code."""
    codes = {}
    code = length = 0
    for byte in sorted(range(256), key=lambda b: (_BITS[b], b)):
        code <<= _BITS[byte] - length
        length = _BITS[byte]
        codes[length, code] = byte
        code += 1
    return codes


_CODES = _codes()


@functools.lru_cache(1024)
def _unpacked(data: bytes) -> str:
    """A text that was sent in that code."""
    out = bytearray()
    code = length = 0
    for byte in data:
        for shift in range(7, -1, -1):
            code = code << 1 | byte >> shift & 1
            length += 1
            if (found := _CODES.get((length, code))) is not None:
                out.append(found)
                code = length = 0
        if length > 30:
            raise HeaderError("a header is in no known code")
    if length > 7 or code != (1 << length) - 1:  # only the beginning of a code of ones may be left
        raise HeaderError("a header is cut off")
    return out.decode("latin-1")


class Decoder:
    """One for each connection: what is in its table depends on all blocks so far."""

    def __init__(self) -> None:
        self._added: deque[tuple[str, str]] = deque()  # the newest first
        self._size = 0
        self._limit = TABLE_SIZE
        # Blocks that only refer to what is in the table, until that changes.
        self._known: dict[bytes, Headers] = {}

    def decode(self, block: bytes) -> Headers:
        known = self._known.get(block)
        if known is None:
            known, changed = self._read(block)
            if not changed and len(self._known) < 64:
                self._known[block] = known
        return known

    def _read(self, block: bytes) -> tuple[Headers, bool]:
        headers: Headers = []
        at = size = 0
        changed = False
        while at < len(block):
            first = block[at]
            if first & 0x80:
                index, at = _number(block, at, 7)
                header = self._entry(index)
            elif first & 0xE0 == 0x20:
                self._limit, at = _number(block, at, 5)
                if self._limit > TABLE_SIZE:
                    raise HeaderError("the table of headers is made larger than was agreed")
                self._shrink()
                changed = True
                continue
            else:
                added = first & 0x40
                index, at = _number(block, at, 6 if added else 4)
                name, at = (self._entry(index)[0], at) if index else _text(block, at)
                value, at = _text(block, at)
                header = name, value
                if added:
                    self._added.appendleft(header)
                    self._size += _size(header)
                    self._shrink()
                    changed = True
            headers.append(header)
            size += _size(header)
            if size > MAX_HEADERS:
                raise HeaderError("the headers are too long")
        return headers, changed

    def _entry(self, index: int) -> tuple[str, str]:
        if 1 <= index <= len(_STATIC):
            return _STATIC[index - 1]
        if len(_STATIC) < index <= len(_STATIC) + len(self._added):
            return self._added[index - len(_STATIC) - 1]
        raise HeaderError(f"there is no header number {index}")

    def _shrink(self) -> None:
        self._known.clear()
        while self._size > self._limit:
            self._size -= _size(self._added.pop())


def _size(header: tuple[str, str]) -> int:
    return len(header[0]) + len(header[1]) + 32


def _number(block: bytes, at: int, bits: int) -> tuple[int, int]:
    """A number that begins in the last bits of a byte, and where it ends."""
    most = (1 << bits) - 1
    if at >= len(block):
        raise HeaderError("a header is cut off")
    value = block[at] & most
    at += 1
    if value < most:
        return value, at
    for shift in range(0, 28, 7):
        if at >= len(block):
            raise HeaderError("a header is cut off")
        value += (block[at] & 0x7F) << shift
        at += 1
        if block[at - 1] < 0x80:
            return value, at
    raise HeaderError("a number in a header is too large")


def _text(block: bytes, at: int) -> tuple[str, int]:
    packed = at < len(block) and block[at] & 0x80
    length, at = _number(block, at, 7)
    data = block[at : at + length]
    if len(data) < length:
        raise HeaderError("a header is cut off")
    return _unpacked(data) if packed else data.decode("latin-1"), at + length


def encoded(*headers: tuple[str, str]) -> bytes:
    """A block that changes no table: the name by its number where it has one, the value as it is."""
    out = bytearray()
    for name, value in headers:
        if (name, value) in _STATIC:
            out.append(0x80 | _STATIC.index((name, value)) + 1)
            continue
        index = next((i for i, (known, _) in enumerate(_STATIC, 1) if known == name), 0)
        _put_number(out, 0, 4, index)
        for text in (value,) if index else (name, value):
            data = text.encode("latin-1")
            _put_number(out, 0, 7, len(data))
            out += data
    return bytes(out)


def _put_number(out: bytearray, first: int, bits: int, value: int) -> None:
    most = (1 << bits) - 1
    if value < most:
        out.append(first | value)
        return
    out.append(first | most)
    value -= most
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
