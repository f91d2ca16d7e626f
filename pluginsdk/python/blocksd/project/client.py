"""The task client that handlers of Blocks' own SDK call other agents with."""

from __future__ import annotations

import logging
import sys
import threading
from typing import Any, Dict, List, Optional

from .._calls import CallCore, Input, control
from .._work import Work
from ..errors import HostError
from .session import TaskSession
from .types import ListTasksResult, TaskInfo

log = logging.getLogger("blocksd")


class TaskClient:
    """Calls are made by the daemon, with the credentials of the agent's owner, and only for the task that this client
    belongs to: it knows the tasks that it has submitted and no others."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self._lock = threading.Lock()
        self._calls: Dict[str, tuple[CallCore, str]] = {}  # with the agent's name

    def send_message(
        self,
        *,
        agent_name: str = "",
        request_parts: Optional[List[Any]] = None,
        idempotency_key: Optional[str] = None,
        owner_id: str = "",
        task_kind: Optional[str] = None,
        duration: Optional[int] = None,
        consumer_public_key: Optional[str] = None,
        stream: Optional[bool] = None,
        push_notification_config: Optional[Dict[str, Any]] = None,
        retry_policy: Optional[Dict[str, Any]] = None,
        auto_drain: Optional[bool] = None,
        drain_window_s: Optional[float] = None,
    ) -> TaskSession:
        for name, value in (
            ("consumer_public_key", consumer_public_key),
            ("push_notification_config", push_notification_config),
            ("retry_policy", retry_policy),
        ):
            if value:
                log.warning("send_message: %s has no effect on a call that the daemon makes", name)
        if task_kind == "pipe":
            if isinstance(duration, bool) or not isinstance(duration, int):
                raise ValueError("a pipe task needs a duration in whole minutes, from 1 to 43200")
        elif duration is not None:
            raise ValueError("only a pipe task has a duration")
        inputs = [input_of(p) for p in request_parts or []]
        # A called task goes on when this one ends, as with Blocks' own client; session.cancel() ends it.
        key, wanted = idempotency_key or "", bool(stream)
        submit = CallCore.submit(self._work, agent_name, inputs, duration, key, owner_id or "", True, None, wanted)
        core = self._ask(submit)
        with self._lock:
            self._calls[core.task_id] = (core, agent_name)
        return TaskSession(core, owner_id, agent_name)

    def connect(
        self, task_id: str, auto_drain: bool = True, drain_window_s: Optional[float] = None, role: str = "consumer"
    ) -> TaskSession:
        core, agent_name = self._known(task_id)
        return TaskSession(core, "", agent_name)

    def get_task(self, task_id: str) -> TaskInfo:
        core, agent_name = self._known(task_id)
        terminal = core.terminal
        state = str(terminal.get("state")) if terminal else "running" if core.events else "pending"
        return TaskInfo(task_id=task_id, agent_name=agent_name, state=state)

    def list_tasks(self, params: Any = None) -> ListTasksResult:
        with self._lock:
            known = list(self._calls)
        return ListTasksResult(tasks=[self.get_task(id) for id in known], total_count=len(known))

    def cancel_task(self, task_id: str) -> None:
        self._ask(control(self._work, task_id, "cancel"))

    def terminate_task(self, task_id: str) -> None:
        self._ask(control(self._work, task_id, "terminate"))

    def pause_task(self, task_id: str) -> None:
        self._ask(control(self._work, task_id, "pause"))

    def resume_task(self, task_id: str) -> None:
        self._ask(control(self._work, task_id, "resume"))

    def retry_task(self, task_id: str) -> None:
        self._ask(control(self._work, task_id, "retry"))

    def get_user_id(self) -> Optional[str]:
        """The daemon does not tell a handler who owns the agent."""
        return None

    def get_agent_card(self, agent_name: str) -> Optional[Dict[str, Any]]:
        raise RuntimeError("get_agent_card is not available to a handler: the daemon makes calls and does not read the registry")

    def destroy(self) -> None:
        """Nothing to do: sessions end with their tasks."""

    def __enter__(self) -> TaskClient:
        return self

    def __exit__(self, *_: Any) -> None:
        self.destroy()

    def _known(self, task_id: str) -> tuple[CallCore, str]:
        with self._lock:
            if task_id in self._calls:
                return self._calls[task_id]
        raise rpc_error(f"the task {task_id} was not submitted by this one")

    def _ask(self, coroutine: Any) -> Any:
        try:
            return self._work.wait(coroutine)
        except HostError as err:
            raise rpc_error(str(err)) from err


def rpc_error(text: str) -> Exception:
    """An error of the class that handlers catch, from whichever package they have it."""
    from .types import RpcError

    return getattr(sys.modules.get("blocks_network"), "RpcError", RpcError)(text)  # type: ignore[no-any-return,unused-ignore]


def input_of(part: Any) -> Input:
    """An input from a part object or a dict."""

    def member(*names: str) -> Any:
        values = (part.get(n) if isinstance(part, dict) else getattr(part, n, None) for n in names)
        return next((v for v in values if v is not None), None)

    id, text, file = member("part_id", "partId"), member("text"), member("file")
    content_type, file_name = member("content_type", "contentType"), member("file_name", "fileName")
    if file is None:
        return Input(id or "", text="" if text is None else str(text), content_type=content_type or "")
    if not id:
        raise ValueError("a part with a file needs a part id")
    if not isinstance(file, (bytes, bytearray, memoryview)):
        raise ValueError(f"the file of the part {id!r} must be bytes, not {type(file).__name__}")
    content_type = content_type or "application/octet-stream"
    return Input(id, file=bytes(file), file_name=file_name or "attachment", content_type=content_type)
