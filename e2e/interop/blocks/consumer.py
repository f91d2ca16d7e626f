"""Sends one task with the unmodified Blocks SDK, waits for its end and prints what a user of the SDK sees, as JSON.

usage: consumer.py AGENT TEXT
"""

import base64
import json
import os
import sys

from blocks_network import TaskClient, text_part


def main() -> None:
    agent, text = sys.argv[1], sys.argv[2]
    client = TaskClient.create(billing_mode="free", api_key=os.environ["BLOCKS_API_KEY"])
    session = client.send_message(
        agent_name=agent,
        request_parts=[text_part(text, part_id="request")],
    )
    terminal = session.wait_for_terminal(timeout=30)
    artifacts = [session.download_artifact(ref) for ref in session.list_artifacts()]
    print(
        json.dumps(
            {
                "taskId": session.task_id,
                "state": terminal.state,
                "artifacts": [
                    {"mimeType": a.mime_type, "data": base64.b64encode(a.data).decode()} for a in artifacts
                ],
            }
        ),
        flush=True,
    )
    # Threads of the PubNub library outlive their clients; there is nothing left to wait for.
    os._exit(0)


main()
