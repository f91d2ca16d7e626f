import re

import blocksd


def handler(task: blocksd.Task) -> str:
    text = task.text("request")
    if task.has_stream:  # the caller asked for streams
        with task.stream() as stream:
            for word in re.findall(r"\S*\s*", text)[:-1]:  # all together they are the text
                stream.write(word)
                task.sleep(0.05)  # raises when the task is canceled
    return text


blocksd.serve(handler, card="agent-card.json")
