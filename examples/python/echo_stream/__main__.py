import blocksd


def handler(task: blocksd.Task) -> str:
    text = task.text("request")
    if task.has_stream:  # the caller asked for streams
        with task.stream() as stream:
            for word in text.split():
                stream.write(word + "\n")
                task.sleep(0.05)  # raises when the task is canceled
    return text


blocksd.serve(handler, card="agent-card.json")
