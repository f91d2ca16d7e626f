import blocksd


def handler(task: blocksd.Task) -> str:
    task.status("echoing")
    return task.text("request")


blocksd.serve(handler, card="agent-card.json")
