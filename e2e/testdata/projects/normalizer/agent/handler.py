"""Tidies a text. The handler sits in a package folder, with a package of its own beside it."""

from __future__ import annotations

import json
from typing import Any, Optional

from blocks_network import StartTaskMessage, TaskContext
from blocks_network.types import RequestPart  # noqa: F401  for the annotation

from .text.tidy import tidy


def text_of(part: "RequestPart | dict[str, Any]") -> Optional[str]:
    if isinstance(part, dict):
        return part.get("text")
    return getattr(part, "text", None)


def handler(task: StartTaskMessage, ctx: Optional[TaskContext] = None) -> dict:
    if ctx is not None:
        ctx.report_status("tidying")
    raw = next((t for t in map(text_of, task.request_parts) if t), "")
    try:
        fields = json.loads(raw)
        raw = fields["text"] if isinstance(fields, dict) else raw
    except ValueError:
        pass
    print("tidied", len(raw), "characters")
    return {"artifacts": [{"data": tidy(raw), "mimeType": "text/plain", "outputId": "result"}]}
