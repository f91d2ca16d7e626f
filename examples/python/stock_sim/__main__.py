import random
from datetime import datetime, timezone

import blocksd


class Stock:
    def __init__(self, symbol: str) -> None:
        self.symbol = symbol
        self.price = 100.0

    def quote(self, tick: int) -> dict:
        before = self.price
        self.price = max(0.01, round(before * (1 + random.gauss(0, 0.005)), 2))
        return {
            "type": "quote",
            "symbol": self.symbol,
            "price": self.price,
            "change": round(self.price - before, 2),
            "tick": tick,
            "at": datetime.now(timezone.utc).isoformat(),
        }


def symbols(task: blocksd.Task) -> list[str]:
    text = task.text("request") if any(p.text for p in task.parts) else "AAPL"
    names = [s.strip().upper() for s in text.split(",") if s.strip()]
    if not names:
        raise blocksd.Failure("the request names no symbol")
    if len(names) > 50:
        raise blocksd.Failure("at most 50 symbols can be watched at once")
    return names


def handler(task: blocksd.Task) -> None:
    names = symbols(task)
    stocks = [Stock(name) for name in names]
    with task.stream(metadata={"symbols": names}) as quotes:
        tick = 1
        while True:
            quotes.write(*(s.quote(tick) for s in stocks))
            if task.cancel_event.wait(1):  # canceled, or the time is over
                return
            tick += 1


blocksd.serve(handler, card="agent-card.json")
