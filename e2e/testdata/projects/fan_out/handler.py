"""Asks several agents from several threads, and joins what they say."""

from concurrent.futures import ThreadPoolExecutor

from blocks_network import SendMessageRequestPart, StartTaskMessage, TaskContext, text_part


def handler(task: StartTaskMessage, ctx: TaskContext):
    words = task.request_parts[0].text.split()

    def ask(word: str) -> str:
        session = ctx.task_client.send_message(agent_name="normalizer", request_parts=[SendMessageRequestPart(part_id="request", text=f"  {word}   {word} ")])
        heard = []
        session.on_artifact(lambda event: heard.append("artifact"))
        session.on_terminal(lambda event: heard.append(event.state))
        end = session.wait_for_terminal(timeout=60)
        if end.state != "completed":
            raise RuntimeError(f"{word}: {end.state}")
        if heard and heard[-1] not in ("artifact", "completed"):
            raise RuntimeError(f"{word}: heard {heard}")
        text = session.download_artifact(session.list_artifacts()[0]).data.decode()
        session.close()
        return text

    with ThreadPoolExecutor(max_workers=4) as pool:
        answers = list(pool.map(ask, words))
    with ctx.task_client.send_message(agent_name="probe", request_parts=[text_part("who", "request")]) as session:
        session.wait_for_terminal()
        answers.append(str(len(session.list_artifacts())))
    return {"artifacts": [{"data": "|".join(answers), "mimeType": "text/plain", "outputId": "result"}]}
