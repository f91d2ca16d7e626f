"""Handlers as users write them: mypy says whether the types of the package fit them."""

from pathlib import Path

import blocksd


def plain(task: blocksd.Task) -> str:
    task.status("at work")
    return task.text("request").upper()


def everything(task: blocksd.Task) -> list[blocksd.Artifact]:
    with task.open("picture") as file:
        head: bytes = file.read(10)
    with task.stream("words", grace=1.0) as stream:
        stream.write("a", b"b", flush=True)
        for item in stream:
            print(item)
    with task.call("adder", {"request": {"a": 1, "b": 2}}) as call:
        sum: str = call.text(timeout=30)
        saved: list[Path] = call.save(Path("out"))
        for other in call.open_all():
            print(other.name, saved)
        found: blocksd.Stream = call.stream_where(lambda s: s.format == "events", timeout=30)
        found.end()
    if task.cancel_event.wait(1):
        raise blocksd.Failure(f"Stopped: {task.cancel_reason}.")
    return [blocksd.Artifact(head, "image/png", "head.png"), blocksd.json_artifact({"sum": sum})]


async def later(task: blocksd.AsyncTask) -> bytes:
    async with await task.stream() as stream:
        await stream.write({"tick": 1})
        async for event in stream:
            print(event)
    async with await task.call("echo", "hello") as call:
        outcome: blocksd.Outcome = await call.wait()
        async for other in call.open_all():
            print(other.name, await call.save("out"))
        found: blocksd.AsyncStream = await call.stream_where(lambda s: s.shared)
        await found.end()
    await task.send(outcome.state)
    return await task.bytes("picture")


def main(which: int) -> None:
    if which == 0:
        blocksd.serve(plain, card="agent-card.json", idempotent=True)
    if which == 1:
        blocksd.serve(later, card={"identity": {}})
    blocksd.serve(everything)
