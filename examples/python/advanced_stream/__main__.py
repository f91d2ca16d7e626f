import threading
from datetime import datetime, timezone

import blocksd

PAUSE = 0.5


class Broadcast:
    """One writer for all tasks that share the stream, as long as there is one."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.streams: list[blocksd.Stream] = []
        self.writing = False
        self.tick = 0

    def join(self, stream: blocksd.Stream) -> None:
        with self.lock:
            self.streams.append(stream)
            if not self.writing:
                self.writing = True
                threading.Thread(target=self.write, daemon=True).start()

    def leave(self, stream: blocksd.Stream) -> None:
        with self.lock:
            self.streams.remove(stream)

    def write(self) -> None:
        pause = threading.Event()
        while True:
            with self.lock:
                if not self.streams:
                    self.writing = False
                    return
                stream = self.streams[0]
                self.tick += 1
            try:
                stream.write({"tick": self.tick, "kind": "broadcast"})
            except blocksd.HostError:
                pass  # its task has just ended; the next one goes on
            pause.wait(PAUSE)


broadcast = Broadcast()


def wanted(task: blocksd.Task) -> int:
    text = next((p.text.strip() for p in task.parts if p.text), "")
    if text and not (text.isdecimal() and int(text) > 0):
        raise blocksd.Failure("the request is not a number from 1 on")
    return int(text or 0)


def handler(task: blocksd.Task) -> None:
    count = wanted(task)
    with task.stream("events") as events, task.stream("bytes") as lines:
        shared = task.stream("broadcast")
        broadcast.join(shared)
        try:
            tick = 1
            while not count or tick <= count:
                events.write({"tick": tick, "label": f"event #{tick}", "at": datetime.now(timezone.utc).isoformat()})
                lines.write(f"chunk {tick}\n")
                if task.cancel_event.wait(PAUSE):
                    return
                tick += 1
        finally:
            broadcast.leave(shared)
    task.complete()


blocksd.serve(handler, card="agent-card.json")
