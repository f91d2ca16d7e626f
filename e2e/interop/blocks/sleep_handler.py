"""The sleeper of the benchmarks as a handler of Blocks' own SDK: it takes until it is canceled, or no time at all."""


def handler(task, ctx):
    text = next((p.text for p in task.request_parts if getattr(p, "text", None) is not None), "")
    if text == "1h":
        ctx.cancel_event.wait(3600)
    return {"artifacts": [{"data": "slept " + text, "mimeType": "text/plain"}]}
