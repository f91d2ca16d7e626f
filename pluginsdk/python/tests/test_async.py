"""Async handlers."""

from __future__ import annotations

from typing import Any

from daemon import Host, file, text


def test_an_async_handler(start: Any) -> None:
    host = Host()
    host.files = {1: b"data"}
    p = start(
        """
        import asyncio, logging
        async def handler(task):
            task.status("one")
            await asyncio.sleep(0)
            logging.info("in the task")
            await task.publish("meanwhile")
            await task.send(await task.bytes())
            return task.text("request")
        """,
        host=host,
    )
    call = p.start(text("hi"), file("f", 4), id="a1")
    assert [d for _, d in call.artifacts()] == [b"data", b"hi"]
    assert call.end().HasField("result")
    assert host.all("PublishArtifact")[0].after_responses == 1
    p.shutdown()
    assert p.records()[0]["task"] == "a1"


def test_cancel_is_that_of_asyncio(start: Any) -> None:
    p = start(
        """
        import asyncio
        async def handler(task):
            task.status("waits")
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                if task.text() == "tidy":
                    await task.send("tidied up: " + task.cancel_reason)
                    return
                raise
        """
    )
    call = p.start(text("tidy"))
    call.next()
    p.cancel(reason=2)
    assert call.artifacts()[0][1] == b"tidied up: expired"
    call = p.start(text("raise"))
    call.next()
    p.cancel()
    assert call.end().error.public_message == "the task was asked to end (user)"


def test_the_end_of_the_process_ends_only_the_task(start: Any) -> None:
    p = start(
        """
        import asyncio, sys
        async def leave(): sys.exit("by the way")
        async def handler(task):
            if task.text() == "exit":
                sys.exit("enough")
            if task.text() == "aside":
                await asyncio.gather(leave(), return_exceptions=True)
            return "here"
        """
    )
    call = p.start(text("exit"))
    assert call.end().error.public_message == "enough"
    call = p.start(text("aside"))
    call.end()
    assert p.start(text("stay")).artifacts()[0][1] == b"here"
    assert p.shutdown() == 0


def test_an_async_handler_that_blocks_does_not_hold_up_the_process(start: Any) -> None:
    p = start(
        """
        import threading
        async def handler(task):
            task.status("blocks")
            threading.Event().wait()
        """
    )
    call = p.start()
    assert call.next().status == "blocks"
    assert p.health() == b"\x08\x01"
    p.cancel()
    assert p.shutdown() == 0


def test_errors_of_async_handlers(start: Any) -> None:
    p = start("async def handler(task):\n    raise blocksd.Failure('no')")
    error = p.start().end().error
    assert error.public_message == "no" and "Traceback" in error.private_message
