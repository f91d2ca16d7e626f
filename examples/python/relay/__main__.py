import codecs

import blocksd

AGENT = "echo_stream_python"


async def handler(task: blocksd.AsyncTask) -> str:
    mine = await task.stream() if task.has_stream else None
    said = ""
    decoder = codecs.getincrementaldecoder("utf-8")()  # a piece may end within a character
    async with await task.call(AGENT, {"request": task.text("request")}, stream=True) as call:
        async with await call.stream(timeout=30) as theirs:  # the only one; else by its name in their card
            async for piece in theirs:
                text = decoder.decode(piece).upper()
                said += text
                if mine and text:
                    await mine.write(text)
        await call.result(timeout=30)  # raises when the called task does not complete
    return said


blocksd.serve(handler, card="agent-card.json")
