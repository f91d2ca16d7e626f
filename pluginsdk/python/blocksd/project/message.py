"""From the contract's task to the message that a handler of Blocks' own SDK gets."""

from __future__ import annotations

import json
import sys
from typing import Any, Dict, Tuple

from .._work import Work
from . import types


def classes() -> Tuple[Any, Any, Any]:
    """StartTaskMessage, RequestPart and ArtifactRef. Where the project has loaded Blocks' own package, ours are subclasses
    of those, so that isinstance holds."""
    ours = (types.StartTaskMessage, types.RequestPart, types.ArtifactRef)
    real = sys.modules.get("blocks_network.types")
    if real is None or getattr(real, "StartTaskMessage", None) in (None, ours[0]):
        return ours
    mixed = []
    for mine in ours:
        theirs = getattr(real, mine.__name__, None)
        try:
            mixed.append(type(mine.__name__, (mine, theirs), {}) if theirs is not None else mine)
        except TypeError:  # classes of another release that cannot be mixed
            return ours
    return mixed[0], mixed[1], mixed[2]


def message_of(work: Work) -> types.StartTaskMessage:
    start, part, ref = classes()
    m = work.message
    message = start(
        task_id=m.task_id,
        agent_name=m.agent_name,
        owner_id=m.owner_id,
        org_id=m.org_id or None,
        request_parts=[part_of(p, i, part, ref) for i, p in enumerate(m.parts)],
        caller_claims=json.loads(m.caller_claims_json) if m.caller_claims_json else {},
        request_summary=json.loads(m.request_summary_json) if m.request_summary_json else {},
        task_kind="pipe" if m.kind == 2 else "request",
        has_stream=m.has_stream,
        consumer_public_key=m.consumer_public_key or None,
    )
    if m.HasField("duration"):
        minutes = m.duration.seconds / 60
        message.duration = int(minutes) if minutes.is_integer() else minutes
        if m.HasField("deadline"):
            message.duration_expires_at_ms = m.deadline.seconds * 1000 + m.deadline.nanos // 1_000_000
    return message  # type: ignore[no-any-return]


# The members of a part that have a field of their own.
_FIELDS = frozenset(("partId", "text", "contentType", "artifactRef"))


def part_of(p: Any, index: int, part: Any, ref: Any) -> Any:
    raw: Any = json.loads(p.raw_json.decode()) if p.raw_json else described(p)
    if not isinstance(raw, dict):
        return raw
    extra = {name: value for name, value in raw.items() if name not in _FIELDS}
    made = part(part_id=raw.get("partId"), text=raw.get("text"), content_type=raw.get("contentType"), extra=extra)
    if isinstance(raw.get("artifactRef"), dict):
        made.artifact_ref = ref(**types.known(types.ArtifactRef, raw["artifactRef"]))
    made._index = index
    return made


def described(p: Any) -> Dict[str, Any]:
    """A part from the members of the contract, where the daemon does not pass on how it was received."""
    raw: Dict[str, Any] = {"partId": p.part_id}
    if p.content_type:
        raw["contentType"] = p.content_type
    if p.HasField("text"):
        raw["text"] = p.text
    if p.HasField("file"):
        raw["artifactRef"] = {"kind": "file", "fileName": p.file.name, "mimeType": p.file.mime_type, "size": p.file.size}
    return raw
