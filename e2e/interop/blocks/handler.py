"""A handler of Blocks' own SDK that does what its request says.

The part "request" is a JSON list of steps, each an object with one member; the Go handler `scripted` knows the same
steps, except those about streams, calls and files of this machine, so that one request shows how two providers differ:

    status TEXT            report a status
    pause SECONDS          do nothing for a while
    publish ARTIFACT       publish an artifact at once
    return ARTIFACT        add an artifact to the answer
    echo PART              add the text of an input part to the answer
    digest PART            download an input file and add its name, type, size and SHA-256 to the answer
    parts                  add a list of the input parts to the answer
    await_cancel SECONDS   wait until the task is canceled; go on when it is, or after that time
    until_cancel SECONDS   the same, but fail when it is not canceled
    raise_cancel SECONDS   the same, but raise when it is canceled, as code does that is interrupted
    fail TEXT              raise
    write STREAM           open a stream and write chunks to it
    collect STREAM         open an inbound stream, read it to its end and add what came to the answer, or its digest
    converse STREAM        open a bidirectional stream and answer each event, until the event "bye"
    external STREAM        open a stream for a writer elsewhere, announce it, and add whether there is a token for that;
                           or publish what the writer needs
    symmetry true          write the payloads of symmetry.py to two streams, read two others, and add the digests
    clock STREAM           open a stream and write the time to it, now and then
    call AGENT             send a task to another agent and add the state of its end to the answer
    await_file PATH        wait until a file is there

ARTIFACT is {text | size, mimeType, fileName, outputId}; size makes that many bytes of a fixed pattern.
"""

import hashlib
import json
import os
import time


class Scripted(Exception):
    """What the step "fail" raises."""


def handler(task, ctx):
    parts = {p.part_id: p for p in task.request_parts}
    answer = []
    for step in json.loads(parts["request"].text):
        for verb, arg in step.items():
            STEPS[verb](arg, parts, ctx, answer)
    return {"artifacts": answer}


def body(artifact):
    if "size" in artifact:
        return pattern(artifact["size"])
    return artifact["text"]


def pattern(size):
    return bytes(i * 7 % 251 for i in range(size))


def status(arg, parts, ctx, answer):
    ctx.report_status(arg)


def pause(arg, parts, ctx, answer):
    time.sleep(arg)


def publish(arg, parts, ctx, answer):
    ctx.publish_artifact(
        body(arg), mime_type=arg["mimeType"], file_name=arg.get("fileName"), output_id=arg.get("outputId")
    )


def give(arg, parts, ctx, answer):
    entry = {k: arg[k] for k in ("mimeType", "fileName", "outputId") if k in arg}
    answer.append({"data": body(arg), **entry})


def text(answer, value):
    answer.append({"data": value, "mimeType": "text/plain"})


def echo(arg, parts, ctx, answer):
    text(answer, parts[arg].text)


def digest(arg, parts, ctx, answer):
    ref = parts[arg].artifact_ref
    data = ctx.download_input_artifact(parts[arg])
    name = ref.get("fileName") if isinstance(ref, dict) else ref.file_name
    mime = ref.get("mimeType") if isinstance(ref, dict) else ref.mime_type
    text(answer, f"{name} {mime} {len(data)} {hashlib.sha256(data).hexdigest()}")


def list_parts(arg, parts, ctx, answer):
    text(answer, " ".join(f"{p.part_id}:{'file' if p.artifact_ref else 'text'}" for p in parts.values()))


def await_cancel(arg, parts, ctx, answer):
    ctx.cancel_event.wait(arg)


def until_cancel(arg, parts, ctx, answer):
    if not ctx.cancel_event.wait(arg):
        raise Scripted("nobody canceled")


def raise_cancel(arg, parts, ctx, answer):
    until_cancel(arg, parts, ctx, answer)
    raise Scripted("interrupted")


def fail(arg, parts, ctx, answer):
    raise Scripted(arg)


def write(arg, parts, ctx, answer):
    options = {"declared_stream": arg["name"]} if "name" in arg else {}
    if "metadata" in arg:
        options["metadata"] = arg["metadata"]
    stream = ctx.create_stream(**options)
    for _ in range(arg.get("repeat", 1)):
        for value in arg["chunks"]:
            stream.write(chunk(value))
    if arg.get("end", True):
        stream.end()


def chunk(value):
    if isinstance(value, dict) and "hex" in value:
        return bytes.fromhex(value["hex"])
    if isinstance(value, dict) and "size" in value:
        return pattern(value["size"])
    return value


def collect(arg, parts, ctx, answer):
    stream = ctx.create_stream(declared_stream=arg["name"], direction="inbound")
    data = b"".join(stream.bytes())
    text(answer, f"{len(data)} bytes {hashlib.sha256(data).hexdigest()}" if arg.get("digest") else data.decode())


def converse(arg, parts, ctx, answer):
    stream = ctx.create_stream(declared_stream=arg["name"], direction="bidirectional", format="events")
    heard = 0
    for event in stream.events():
        heard += 1
        if event == {"say": "bye"}:
            break
        stream.write({"heard": event})
    stream.end()
    text(answer, f"heard {heard}")


def clock(arg, parts, ctx, answer):
    stream = ctx.create_stream(declared_stream=arg["name"])
    for _ in range(arg["count"]):
        time.sleep(arg["every"])
        stream.write({"now": time.time()})
    stream.end()


def external(arg, parts, ctx, answer):
    stream = ctx.create_stream(declared_stream=arg["name"], external=True)
    stream.activate(metadata=arg["metadata"])
    if arg.get("tell"):
        ctx.publish_artifact(json.dumps({"channel": stream.channel, "token": stream.token}), mime_type="application/json")
        return
    text(answer, "token" if stream.token else "no token")


def symmetry(arg, parts, ctx, answer):
    from symmetry import exchange

    text(answer, exchange(lambda name, **options: ctx.create_stream(declared_stream=name, **options), "p_to_c", "c_to_p"))


def call(arg, parts, ctx, answer):
    from blocks_network import text_part

    session = ctx.task_client.send_message(
        agent_name=arg, request_parts=[text_part(json.dumps([{"return": {"text": "from below", "mimeType": "text/plain"}}]), part_id="request")]
    )
    end = session.wait_for_terminal(timeout=110)
    below = session.download_artifact(session.list_artifacts()[0]).data.decode()
    text(answer, f"{arg}: {end.state} {below}")


def await_file(arg, parts, ctx, answer):
    while not os.path.exists(arg):
        if ctx.cancel_event.wait(0.1):
            raise Scripted("canceled before the file was there")


STEPS = {
    "status": status,
    "pause": pause,
    "publish": publish,
    "return": give,
    "echo": echo,
    "digest": digest,
    "parts": list_parts,
    "await_cancel": await_cancel,
    "until_cancel": until_cancel,
    "raise_cancel": raise_cancel,
    "fail": fail,
    "write": write,
    "collect": collect,
    "converse": converse,
    "clock": clock,
    "external": external,
    "symmetry": symmetry,
    "call": call,
    "await_file": await_file,
}
