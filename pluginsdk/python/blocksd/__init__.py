"""Handlers of blocksd in Python.

    import blocksd

    def handler(task):
        task.status("shouting")
        return task.text("request").upper()

    blocksd.serve(handler, card="agent-card.json")

A handler is a function, which gets a Task in a thread of its own, or an async function, which gets an AsyncTask. What it
returns becomes artifacts: a text, bytes, a dict (as JSON), an Artifact, or a list of them. What it raises fails the task:
the consumer sees the text of the exception, the daemon's log its traceback.

Importing this package in a process that the daemon has started moves standard output aside: what is printed becomes
lines of the daemon's log.
"""

from . import _needs, _output, _process

if _output.take_over() and (_package := _needs.missing()):
    _process.give_up(_needs.sentence(_package))

from ._calls import Input
from ._version import VERSION as __version__
from .artifact import Artifact, file_artifact, json_artifact
from .calls import AsyncCall, Call, CalledStream, CallFailed, Outcome
from .errors import Canceled, Error, Failure, HostError, SaveFailed, TaskEnded
from .serve import serve
from .streams import AsyncStream, ExternalStream, Stream
from .task import AsyncTask, FileInfo, Part, Task

__all__ = [
    "Artifact",
    "AsyncCall",
    "AsyncStream",
    "AsyncTask",
    "Call",
    "CallFailed",
    "CalledStream",
    "Canceled",
    "Error",
    "ExternalStream",
    "Failure",
    "FileInfo",
    "HostError",
    "Input",
    "Outcome",
    "Part",
    "SaveFailed",
    "Stream",
    "Task",
    "TaskEnded",
    "file_artifact",
    "json_artifact",
    "serve",
    "__version__",
]
