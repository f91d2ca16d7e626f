"""Counts until it is told to pause, to go on, or to stop, by a stream that both sides write. A request fails once."""

import threading
import time

seen: set[str] = set()
lock = threading.Lock()


def count(ctx, stream) -> None:
    paused, n = threading.Event(), 0

    def listen() -> None:
        for event in stream.events():
            command = event.get("command") if isinstance(event, dict) else None
            if command == "pause":
                paused.set()
                stream.write({"state": "paused", "at": n})
            elif command == "resume":
                paused.clear()
                stream.write({"state": "resumed"})

    threading.Thread(target=listen, daemon=True).start()
    while not ctx.cancel_event.wait(0.02):
        if not paused.is_set():
            n += 1
            stream.write({"n": n})
    stream.end()
    print("stopped at", n)


def handler(task, ctx):
    if task.task_kind == "pipe":
        stream = ctx.create_stream(declared_stream="control", direction="bidirectional", format="events")
        threading.Thread(target=count, args=(ctx, stream), daemon=True).start()
        ctx.report_status("counting")

        def later() -> None:
            time.sleep(1.5)
            ctx.report_status("still counting")

        threading.Thread(target=later, daemon=True).start()
        return None  # the task goes on
    text = task.request_parts[0].text
    with lock:
        first = text not in seen
        seen.add(text)
    if first:
        raise RuntimeError("The first attempt always fails.")
    return {"artifacts": [{"data": "second attempt", "mimeType": "text/plain"}]}
