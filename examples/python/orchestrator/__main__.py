import asyncio
import json

import blocksd


async def ask(task: blocksd.AsyncTask, agent: str, request: object) -> str:
    async with await task.call(agent, {"request": request}) as call:
        return await call.text(timeout=30)  # raises when the called task does not complete


async def handler(task: blocksd.AsyncTask) -> dict:
    request = task.json("request")
    task.status("asking two agents")
    echo, adder = await asyncio.gather(
        ask(task, "echo_python", str(request.get("text", ""))),
        ask(task, "adder_python", {"a": request.get("a"), "b": request.get("b")}),
    )
    return {"echo": echo, "adder": json.loads(adder)}


blocksd.serve(handler, card="agent-card.json")
