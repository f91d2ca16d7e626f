import collections
import re
import threading

import blocksd

# What was said, by who calls and the name of the conversation; the conversations that were used last are kept.
MOST = 1000
lock = threading.Lock()  # tasks run at the same time
conversations: collections.OrderedDict[tuple[str, str, str], list[str]] = collections.OrderedDict()


def say(key: tuple[str, str, str], text: str) -> list[str]:
    with lock:
        said = conversations.setdefault(key, [])
        conversations.move_to_end(key)
        if len(conversations) > MOST:
            conversations.popitem(last=False)
        said.append(text)
        del said[:-100]
        return list(said)


def answer(said: list[str]) -> str:
    if len(said) == 1:
        return f'You said "{said[-1]}", and that is the first thing you tell me.'
    return f'You said "{said[-1]}". Before that, you said "{said[-2]}". That makes {len(said)} messages.'


def handler(task: blocksd.Task) -> blocksd.Artifact:
    text = task.text("request").strip()
    if not text:
        raise blocksd.Failure('say something: the input "request" is empty')
    name = next((p.text for p in task.parts if p.id == "conversation" and p.text), "")
    reply = answer(say((task.org_id, task.owner_id, name), text))
    if task.has_stream:
        with task.stream() as stream:
            for word in re.findall(r"\S*\s*", reply)[:-1]:
                stream.write(word)
                task.sleep(0.02)
    return blocksd.Artifact(reply, output_id="reply")


blocksd.serve(handler, card="agent-card.json")
