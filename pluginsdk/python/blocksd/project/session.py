"""A called task, as handlers of Blocks' own SDK follow it."""

from __future__ import annotations

import base64
import os
import queue
import threading
import time
from typing import Any, Callable, Dict, List, Optional

from .._calls import CallCore
from ..errors import HostError
from .called_streams import StreamRef
from .streams import call
from .types import ArtifactRef, CallbackErrorContext, DownloadedArtifact, TaskEvent, known

TERMINAL = ("completed", "failed", "canceled")
# Which registration an event belongs to, by its type.
KINDS = ("progress", "artifact", "terminal", "cancel_requested")


class TaskSession:
    """Callbacks run one at a time, on a thread of the session."""

    def __init__(self, core: CallCore, owner_id: str, agent_name: str) -> None:
        self._core = core
        self._owner_id = owner_id
        self._agent_name = agent_name
        self._refs: List[StreamRef] = []
        self._lock = threading.Lock()
        self._closed = False
        self._callbacks: Dict[str, List[Callable[..., None]]] = {}
        self._dispatched = 0  # events that callbacks have been given, or that came before the first one was registered
        self._announced = 0  # the same of streams
        self._news: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._thread: Optional[threading.Thread] = None

    @property
    def task_id(self) -> str:
        return self._core.task_id

    @property
    def owner_id(self) -> str:
        return self._owner_id

    @property
    def read_token(self) -> Optional[str]:
        """A handler gets no token of the network."""
        return None

    status_channel = push_config_id = read_token

    @property
    def idempotent(self) -> bool:
        return self._core.idempotent

    @property
    def queued(self) -> bool:
        return self._core.queued

    @property
    def state(self) -> Optional[str]:
        terminal = self._core.terminal
        return terminal.get("state") if terminal else None

    @property
    def is_closed(self) -> bool:
        return self._closed or self._core.terminal is not None

    def on_event(self, cb: Callable[[TaskEvent], None]) -> Callable[[], None]:
        return self._register("event", cb)

    def on_progress(self, cb: Callable[[TaskEvent], None]) -> Callable[[], None]:
        return self._register("progress", cb)

    def on_artifact(self, cb: Callable[[TaskEvent], None]) -> Callable[[], None]:
        return self._register("artifact", cb)

    def on_terminal(self, cb: Callable[[TaskEvent], None]) -> Callable[[], None]:
        return self._register("terminal", cb)

    def on_cancel_requested(self, cb: Callable[[TaskEvent], None]) -> Callable[[], None]:
        return self._register("cancel_requested", cb)

    def on_error(self, cb: Callable[[Exception, CallbackErrorContext], None]) -> Callable[[], None]:
        return self._register("error", cb)

    def on_stream(self, cb: Callable[[Any], None]) -> Callable[[], None]:
        """Gets each stream as a StreamRef, those that are known already at once."""
        return self._register("stream", cb)

    def _register(self, kind: str, cb: Callable[..., None]) -> Callable[[], None]:
        """What the callback has missed is given to it at once, but for progress."""
        with self._lock:
            if self._thread is None:
                self._dispatched, self._announced = len(self._core.events), len(self._core.streams)
                self._core.on_news = lambda: self._news.put(None)
                self._thread = threading.Thread(target=self._dispatch, name=f"session {self.task_id}", daemon=True)
                self._thread.start()
                self._news.put(None)
            missed = [e for e in self._core.events[: self._dispatched] if e.get("type") == kind != "progress"]
            refs = self._known_streams()[: self._announced] if kind == "stream" else []
            if not self._closed:
                self._callbacks.setdefault(kind, []).append(cb)
        for event in missed[:1] if kind in ("terminal", "cancel_requested") else missed:
            self._call(kind, cb, TaskEvent(event))
        for ref in refs:
            self._call(kind, cb, ref)

        def unsubscribe() -> None:
            with self._lock:
                if cb in self._callbacks.get(kind, []):
                    self._callbacks[kind].remove(cb)

        return unsubscribe

    def _dispatch(self) -> None:
        while True:
            self._news.get()
            while True:
                with self._lock:
                    if self._dispatched >= len(self._core.events):
                        break
                    event = TaskEvent(self._core.events[self._dispatched])
                    self._dispatched += 1
                    general = list(self._callbacks.get("event", []))
                    typed = list(self._callbacks.get(event.type, [])) if event.type in KINDS else []
                for cb in general:
                    self._call("event", cb, event)
                for cb in typed:
                    self._call(event.type, cb, event)
                if event.type == "progress":
                    self._announce()
            self._announce()
            if self._closed or self._core.closed or self._core.terminal is not None:
                return

    def _announce(self) -> None:
        """Gives the callbacks for streams those that are new."""
        while True:
            with self._lock:
                if self._announced >= len(self._core.streams):
                    return
                ref = self._known_streams()[self._announced]
                self._announced += 1
                callbacks = list(self._callbacks.get("stream", []))
            for cb in callbacks:
                self._call("stream", cb, ref)

    def _call(self, kind: str, cb: Callable[..., None], event: Any) -> None:
        try:
            cb(event)
        except Exception as err:
            self._report("on" + "".join(w.capitalize() for w in kind.split("_")), err, event)

    def _report(self, what: str, err: Exception, event: Any) -> None:
        context = CallbackErrorContext("taskSession", what, event)
        handlers = self._callbacks.get("error", [])
        for handler in list(handlers):
            call(handler, err, context)
        if not handlers:
            call(_again, err)

    def wait_for_terminal(self, timeout: Optional[float] = 60) -> TaskEvent:
        return TaskEvent(self._core.work.wait(self._core.end(timeout)))

    def list_events(self) -> List[TaskEvent]:
        return [TaskEvent(e) for e in list(self._core.events)]

    def list_artifacts(self) -> List[ArtifactRef]:
        from .message import classes

        ref = classes()[2]
        out = []
        for index, event in enumerate(self._core.artifacts):
            made = ref(**known(ArtifactRef, event["artifactRef"]))
            made._index = index
            out.append(made)
        return out

    def download_artifact(self, ref: Any) -> DownloadedArtifact:

        def read(key: str) -> Any:
            return ref.get(key) if isinstance(ref, dict) else getattr(ref, key, None)

        mime_type = read("mimeType") or read("mime_type") or "application/octet-stream"
        file_name = read("fileName") or read("file_name")
        if isinstance(data := read("data"), str):
            return DownloadedArtifact(base64.b64decode(data), mime_type, file_name)
        index = getattr(ref, "_index", None)
        if index is None:
            file_id = read("fileId") or read("file_id")
            matching = [getattr(r, "_index") for r in self.list_artifacts() if file_id and r.file_id == file_id]
            if not matching:
                raise ValueError("this is no artifact of the called task")
            index = matching[0]
        try:
            info, whole = self._core.work.wait(self._core.whole(index))
        except HostError as err:
            raise RuntimeError(str(err)) from err
        return DownloadedArtifact(whole, info.mime_type or mime_type, info.file_name or file_name)

    def save_artifacts(self, directory: str) -> List[str]:
        """Each file gets the base name that its sender gave it; a name that was there before gets a number."""
        os.makedirs(directory, exist_ok=True)
        paths: List[str] = []
        for index, ref in enumerate(self.list_artifacts()):
            artifact = self.download_artifact(ref)
            name = os.path.basename((artifact.file_name or "").replace("\\", "/"))
            path = os.path.join(directory, name if name not in ("", ".", "..") else f"artifact-{index}")
            if path in paths:
                path = os.path.join(directory, f"{index}-{os.path.basename(path)}")
            with open(path, "wb") as file:
                file.write(artifact.data)
            paths.append(path)
        return paths

    def _known_streams(self) -> List[StreamRef]:
        """With the lock held."""
        for announced in self._core.streams[len(self._refs) :]:
            self._refs.append(StreamRef(self._core, self._agent_name, announced))
        return self._refs

    def list_streams(self) -> List[StreamRef]:
        with self._lock:
            return list(self._known_streams())

    def open_all_streams(self, *, reorder_timeout_ms: Optional[int] = None) -> List[Any]:
        """Opens what can be read; what cannot be opened is left out."""
        opened = []
        for ref in self.list_streams():
            if ref.descriptor.local_direction == "outbound":
                continue
            try:
                opened.append(ref.open())
            except RuntimeError:
                pass
        return opened

    def wait_for_stream(self, stream_id: Optional[str] = None, timeout: Optional[float] = None) -> StreamRef:
        """By the key in the agent's card, or by id; without either the only one, or the first that comes."""

        def find(refs: List[StreamRef]) -> Optional[StreamRef]:
            if stream_id is None:
                if len(refs) > 1:
                    raise RuntimeError(f"the task {self.task_id} has several streams: say which one")
                return refs[0] if refs else None
            named = [r for r in refs if r.descriptor.declared_stream == stream_id]
            return next(iter(named or [r for r in refs if r.descriptor.stream_id == stream_id]), None)

        return self._wait_for_stream(find, timeout)

    def wait_for_stream_where(self, predicate: Callable[[StreamRef], Any], timeout: Optional[float] = None) -> StreamRef:
        tried: Dict[str, bool] = {}

        def fits(ref: StreamRef) -> bool:
            try:
                return bool(predicate(ref))
            except Exception as err:
                self._report("streamPredicate", err, ref)
                return False

        def find(refs: List[StreamRef]) -> Optional[StreamRef]:
            for ref in refs:
                if tried.setdefault(ref.descriptor.stream_id, False) is False:
                    tried[ref.descriptor.stream_id] = True
                    if fits(ref):
                        return ref
            return None

        return self._wait_for_stream(find, timeout)

    def _wait_for_stream(self, find: Callable[[List[StreamRef]], Optional[StreamRef]], timeout: Optional[float]) -> StreamRef:
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            if self._closed:
                raise RuntimeError("the session is closed")
            refs = self.list_streams()
            if (ref := find(refs)) is not None:
                return ref
            try:
                more = self._core.work.wait(self._core.more_streams(len(refs), deadline, timeout))
            except HostError as err:
                raise RuntimeError(str(err)) from err
            if not more and len(refs) == len(self.list_streams()):
                raise RuntimeError(f"the task {self.task_id} has ended, or is followed no more, without this stream")

    def cancel(self) -> None:
        self._core.work.wait(self._core.control("cancel"))

    def terminate(self) -> None:
        self._core.work.wait(self._core.control("terminate"))

    def close(self) -> None:
        """Follows the called task no more, and ends its streams here; the task itself goes on."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self._callbacks = {}
            opened = [ref.opened for ref in self._refs if ref.opened is not None]
        for stream in opened:
            call(stream.end)
        self._news.put(None)
        self._core.work._on_loop(self._core.close)

    def __enter__(self) -> TaskSession:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()


def _again(err: Exception) -> None:
    raise err
