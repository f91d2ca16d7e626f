import blocksd


def answer(text: str) -> dict:
    return {"text": "AGENT> " + text.upper()}


def handler(task: blocksd.Task) -> None:
    opening = next((p.text for p in task.parts if p.text and p.text.strip()), "opening greeting")
    stream = task.stream()
    stream.write(answer(opening))
    for event in stream:  # ends with the task
        text = event.get("text") if isinstance(event, dict) else None
        if not isinstance(text, str):
            continue  # not for us
        stream.write(answer(text.strip()))
        if text.strip().lower() == "bye":
            break
    task.complete()  # nobody can mark the end of a stream that both sides write, so the task ends here
    stream.end()


blocksd.serve(handler, card="agent-card.json")
