"""Speaks a text: a preview at once, the whole recording at the end."""

import asyncio


async def handler(task, ctx):
    text = task.request_parts[0].text
    await asyncio.sleep(0.01)
    ctx.publish_artifact(b"ID3" + text[:5].encode(), mime_type="audio/mpeg", file_name="preview.mp3", output_id="preview")
    sound = b"ID3" + text.encode() * 4000
    return {"artifacts": [{"data": sound, "mimeType": "audio/mpeg", "fileName": "story.mp3", "outputId": "result"}]}
