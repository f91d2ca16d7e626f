import logging

import blocksd

log = logging.getLogger("adder")


def number(request: object, name: str) -> float:
    value = request.get(name) if isinstance(request, dict) else None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise blocksd.Failure(f"the request needs a number {name}")  # the caller reads this
    return value


async def handler(task: blocksd.AsyncTask) -> dict:
    request = task.json("request")
    a, b = number(request, "a"), number(request, "b")
    log.info("adding", extra={"a": a, "b": b})
    return {"ok": True, "a": a, "b": b, "sum": a + b}


blocksd.serve(handler, card="agent-card.json")
