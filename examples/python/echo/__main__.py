import blocksd


def handler(task: blocksd.Task) -> str:
    task.status("echoing")
    return "Echoed request: " + task.text("request")


blocksd.serve(handler, card="agent-card.json")
