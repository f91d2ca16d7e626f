"""Standard output and the log of a handler process.

The daemon reads one line from standard output, the handshake, and from then on log lines. So that nothing that a handler
prints comes before it, the real standard output is set aside and everything else goes to standard error, which the daemon
reads as log lines from the start.
"""

from __future__ import annotations

import contextvars
import io
import json
import logging
import os
import sys
import threading
import time
from typing import Any

COOKIE_VARIABLE = "BLOCKS_HANDLER_COOKIE"
COOKIE_VALUE = "blocks.handler.v1"

# The id of the task that the running code belongs to, for log records.
current_task: contextvars.ContextVar[str] = contextvars.ContextVar("blocksd_task", default="")

_aside: int | None = None


def take_over() -> bool:
    """Sets the real standard output aside if the daemon started this process. True when it did, now or before."""
    global _aside
    if _aside is not None:
        return True
    if os.environ.get(COOKIE_VARIABLE) != COOKIE_VALUE:
        return False
    # Programs that this one starts are not handlers.
    del os.environ[COOKIE_VARIABLE]
    _aside = os.dup(1)
    os.dup2(2, 1)
    # What is not on file descriptor 1 was put there by somebody who wants it so.
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout is sys.__stdout__:
        sys.stdout = Lines(sys.stdout)
    if isinstance(sys.stderr, io.TextIOWrapper):
        sys.stderr.reconfigure(errors="backslashreplace")
    logging.lastResort = _handler()
    return True


def handshake(line: str) -> None:
    """Writes the one line that the daemon waits for."""
    assert _aside is not None, "the process was not started by the daemon"
    data = (line + "\n").encode()
    while data:
        data = data[os.write(_aside, data) :]


class Lines(io.TextIOWrapper):
    """Standard output whose lines arrive whole, whatever other threads print at the same time."""

    def __init__(self, before: io.TextIOWrapper) -> None:
        before.flush()
        super().__init__(before.buffer, encoding="utf-8", errors="backslashreplace", newline="\n", line_buffering=False)
        self._before = before  # it would close the buffer at its end
        self._lock = threading.RLock()
        self._held = threading.local()

    def write(self, text: str) -> int:
        held = getattr(self._held, "text", "") + text
        end = held.rfind("\n") + 1
        self._held.text = held[end:]
        if end:
            self._emit(held[:end])
        return len(text)

    def flush(self) -> None:
        held, self._held.text = getattr(self._held, "text", ""), ""
        self._emit(held)

    def close(self) -> None:
        """Other tasks print to it, too."""
        self.flush()

    def _emit(self, text: str) -> None:
        with self._lock:
            super().write(text)
            super().flush()


class JSONLines(logging.Formatter):
    """One JSON object a record: the daemon takes level, time and attributes from it."""

    _own = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}

    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, Any] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z",
            "level": level_word(record.levelno),
            "msg": record.getMessage(),
        }
        if record.name != "root":
            entry["logger"] = record.name
        if task := current_task.get():
            entry["task"] = task
        if record.exc_info:
            entry["traceback"] = self.formatException(record.exc_info)
        if record.stack_info:
            entry["stack"] = self.formatStack(record.stack_info)
        for key, value in vars(record).items():
            if key not in self._own and key not in entry:
                entry[key] = value
        return json.dumps(entry, default=str, ensure_ascii=False)


def level_word(number: int) -> str:
    """A level as a word that the daemon knows; Python's levels between the named ones are those below them."""
    for least, word in ((logging.ERROR, "error"), (logging.WARNING, "warn"), (logging.INFO, "info")):
        if number >= least:
            return word
    return "debug"


def _handler() -> logging.Handler:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JSONLines())
    return handler


def adopt_logging() -> None:
    """Makes the records of logging arrive with their levels: those of a program that has not set logging up, from level
    info or LOG_LEVEL on, and those that it writes as text to standard output or error."""
    root = logging.getLogger()
    if not root.handlers:
        root.addHandler(_handler())
        if root.level == logging.WARNING:  # as Python starts
            level = logging.getLevelName(os.environ.get("LOG_LEVEL", "").upper())
            root.setLevel(level if isinstance(level, int) else logging.INFO)
        return
    streams = (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__)
    loggers = [root, *(x for x in logging.root.manager.loggerDict.values() if isinstance(x, logging.Logger))]
    for handler in (h for logger in loggers for h in logger.handlers):
        if type(handler) is logging.StreamHandler and handler.stream in streams:
            if handler.formatter is None or type(handler.formatter) is logging.Formatter:
                handler.setFormatter(JSONLines())
