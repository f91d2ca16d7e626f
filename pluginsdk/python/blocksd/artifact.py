"""What goes out of a task and what comes in."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Union


@dataclass
class Artifact:
    """One output. data are bytes, a text, or a file that is open for reading bytes."""

    data: Union[bytes, bytearray, memoryview, str, BinaryIO]
    mime_type: str = ""
    file_name: str = ""
    output_id: str = ""

    def __post_init__(self) -> None:
        if isinstance(self.data, str):
            self.data = self.data.encode()
            self.mime_type = self.mime_type or "text/plain"
        elif not isinstance(self.data, (bytes, bytearray, memoryview)) and not hasattr(self.data, "read"):
            raise TypeError(f"an artifact holds bytes, a text or an open file, not {type(self.data).__name__}")


def json_artifact(value: Any, output_id: str = "") -> Artifact:
    """A JSON document."""
    return Artifact(json.dumps(value, ensure_ascii=False).encode(), "application/json", output_id=output_id)


def file_artifact(path: Union[str, os.PathLike[str]], mime_type: str = "", output_id: str = "") -> Artifact:
    """A file of this machine, read as it is sent."""
    import mimetypes

    path = Path(path)
    guessed = mime_type or mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    return Artifact(open(path, "rb"), guessed, path.name, output_id)


def artifacts_of(result: Any) -> list[Artifact]:
    """The artifacts that a handler returned: nothing, one value or a list of them. A text becomes text, bytes become
    bytes, and a dict a JSON document."""
    if result is None:
        return []
    if isinstance(result, (list, tuple)):
        return [a for entry in result for a in artifacts_of(entry)]
    if isinstance(result, Artifact):
        return [result]
    if isinstance(result, (str, bytes, bytearray, memoryview)):
        return [Artifact(result)]
    if isinstance(result, dict):
        return [json_artifact(result)]
    raise TypeError(
        f"a handler returns None, a text, bytes, a dict, an Artifact or a list of these, not {type(result).__name__}"
    )


def read_some(file: Any, size: int) -> bytes:
    """Up to size bytes, fewer only at the end of the file."""
    data = bytearray()
    while len(data) < size:
        piece = file.read(size - len(data))
        if not piece:
            break
        if isinstance(piece, str):
            raise TypeError("the file of an artifact must be open for reading bytes, not text")
        data += piece
    return bytes(data)
