"""The echo of the benchmarks as a handler of Blocks' own SDK: what blocksd is compared with."""


def handler(task, ctx):
    text = next((p.text for p in task.request_parts if getattr(p, "text", None) is not None), "")
    return {"artifacts": [{"data": "Echoed request: " + text, "mimeType": "text/plain"}]}
