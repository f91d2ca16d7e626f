"""Asks a model on this machine about a picture, and answers in Markdown."""

import base64
import json
import os
import urllib.request

LIMIT = 10 * 1024 * 1024


def handler(task, ctx):
    part = next((p for p in task.request_parts if getattr(p, "artifact_ref", None)), None)
    if part is None:
        raise ValueError("Send a picture of the plant.")
    picture = ctx.download_input_artifact(part)
    if len(picture) > LIMIT:
        raise ValueError("The picture is larger than 10 MiB.")
    ctx.report_status("looking at the leaves")
    question = json.dumps({"picture": base64.b64encode(picture).decode(), "type": part.artifact_ref.mime_type}).encode()
    request = urllib.request.Request(os.environ["MODEL_URL"], question, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        found = json.load(answer)
    return {"artifacts": [{"data": f"# Diagnosis\n\n{found['diagnosis']}\n", "mimeType": "text/markdown", "outputId": "result"}]}
