"""What can go wrong, as exceptions."""

from __future__ import annotations

from pathlib import Path


class Error(RuntimeError):
    """Base of what this package raises."""


class Canceled(Error):
    """The task was asked to end while something waited for the outside."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"the task was asked to end ({reason})")
        self.reason = reason


class TaskEnded(Error):
    """The task has ended, so nothing more can be said about it."""

    def __init__(self) -> None:
        super().__init__("the task has ended")


class HostError(Error):
    """The daemon refused something that the handler asked for. code is the name of the gRPC status, such as NOT_FOUND."""

    def __init__(self, what: str, code: str, detail: str) -> None:
        super().__init__(f"{what}: {detail}")
        self.code = code


class SaveFailed(Error):
    """Not all artifacts of a called task could be saved. paths are those of the complete files."""

    def __init__(self, text: str, paths: list[Path]) -> None:
        super().__init__(text)
        self.paths = paths


class Failure(Error):
    """Raised by a handler: the task failed. The consumer sees the text; what it was raised from goes to the daemon's log.

    raise Failure("The picture cannot be read.") from err
    """


# Bounds of texts for the consumer and for the log, in bytes. A whole message may hold 16 MiB.
MAX_TEXT = 8 << 10
MAX_PRIVATE = 64 << 10


def cut(text: str, limit: int = MAX_TEXT) -> str:
    """Text as a message can carry it: valid UTF-8, not longer than limit bytes."""
    data = text.encode("utf-8", "replace")
    if len(data) <= limit:
        return data.decode("utf-8")
    end = limit - len("…".encode())
    return data[:end].decode("utf-8", "ignore") + "…"


def texts(err: BaseException) -> tuple[str, str]:
    """What the consumer sees of an error of a handler, and what the daemon's log gets."""
    import traceback

    kind = type(err).__name__
    public = str(err).strip() or f"The handler failed with an error without a text ({kind})."
    private = "".join(traceback.format_exception(err))
    if len(private) > MAX_PRIVATE:
        # The end names the error; the beginning is how it was reached.
        private = "…" + private[-MAX_PRIVATE:]
    return cut(public), cut(private, 2 * MAX_PRIVATE)
