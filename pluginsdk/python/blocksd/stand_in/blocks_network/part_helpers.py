"""Short ways to make inputs of a called task."""

from pathlib import Path
from typing import Optional, Union

from blocksd.project.types import SendMessageRequestPart


def text_part(text: str, part_id: str = "text") -> SendMessageRequestPart:
    return SendMessageRequestPart(part_id=part_id, text=text)


def file_part(
    path_or_data: Union[str, Path, bytes, bytearray],
    *,
    part_id: str = "file",
    file_name: Optional[str] = None,
    content_type: str = "application/octet-stream",
) -> SendMessageRequestPart:
    if isinstance(path_or_data, (bytes, bytearray)):
        data, name = bytes(path_or_data), file_name or "file"
    else:
        path = Path(path_or_data)
        data, name = path.read_bytes(), file_name or path.name
    return SendMessageRequestPart(part_id=part_id, content_type=content_type, file=data, file_name=name)
