"""What both sides of gRPC over HTTP/2 have in common: the frame of a message, and how a call ends."""

from __future__ import annotations

# One message, in bytes.
MAX_MESSAGE = 16 << 20

STATUS = (
    "OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS", "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE",
    "DATA_LOSS", "UNAUTHENTICATED",
)  # fmt: skip


class Refused(Exception):
    """A call that was answered with a status. code is its name."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail


def framed(message: bytes) -> bytes:
    if len(message) > MAX_MESSAGE:
        raise Refused("RESOURCE_EXHAUSTED", f"a message of {len(message)} bytes is longer than the limit of {MAX_MESSAGE}")
    return b"\0" + len(message).to_bytes(4, "big") + message


class Messages:
    """Puts the messages of one direction together."""

    def __init__(self) -> None:
        self._data = bytearray()

    def take(self, data: bytes) -> list[bytes]:
        self._data += data
        out = []
        while len(self._data) >= 5:
            if self._data[0] != 0:
                raise Refused("UNIMPLEMENTED", "a compressed message")
            size = int.from_bytes(self._data[1:5], "big")
            if size > MAX_MESSAGE:
                raise Refused("RESOURCE_EXHAUSTED", f"a message of {size} bytes is longer than the limit of {MAX_MESSAGE}")
            if len(self._data) < 5 + size:
                break
            out.append(bytes(self._data[5 : 5 + size]))
            del self._data[: 5 + size]
        return out

    @property
    def partial(self) -> bool:
        return bool(self._data)
