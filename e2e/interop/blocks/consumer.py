"""Drives the unmodified Blocks SDK as a consumer: each line on standard input asks for one operation, each line on
standard output answers one, in any order, with what a user of the SDK sees, as a list of short lines.

    {"id": 1, "op": "task", "args": {...}}  ->  {"id": 1, "said": ["request", "running", ...]} or {"id": 1, "error": "..."}

Operations run at the same time, each on its own thread. The process ends when its standard input does.
"""

import base64
import concurrent.futures
import hashlib
import http.server
import json
import os
import sys
import tempfile
import threading
import time
import traceback
import urllib.parse
import urllib.request

from blocks_network import (
    AnonTaskAccessDenied,
    AuthRefreshFailedError,
    BillingModeMismatchError,
    FileUploadError,
    ListTasksParams,
    RpcError,
    StreamUnavailableError,
    TaskClient,
    TokenEndpointConfig,
    TokenResult,
    file_part,
    text_part,
)

from symmetry import STREAMS
from symmetry import exchange as both_ways

# Bounds hangs; nothing is measured with it.
DEADLINE = 300
POLL = 0.1

OPERATIONS = {}


def operation(f):
    OPERATIONS[f.__name__] = f
    return f


# ---- clients -----------------------------------------------------------------------------------------------------------


def keys():
    return [os.environ["BLOCKS_API_KEY"], *os.environ["BLOCKSD_SANDBOX_KEYS"].split(",")]


def exchange(key):
    """What an application's own server would do: trade its API key for a token of a consumer."""
    with urllib.request.urlopen(os.environ["BLOCKS_CDM_URL"], timeout=DEADLINE) as answer:
        base = json.load(answer)["api"]["baseUrl"]
    request = urllib.request.Request(
        base + "/api/v1/auth/agent/consumer-token",
        json.dumps({"apiKey": key}).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=DEADLINE) as answer:
        return json.load(answer)


class Endpoint(http.server.BaseHTTPRequestHandler):
    """A token endpoint as an application has one. It keeps what it was asked."""

    asked = []

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        Endpoint.asked.append((self.headers.get("X-Session"), body.decode()))
        grant = exchange(keys()[0])
        answer = json.dumps({"token": grant["accessToken"], "expiresIn": grant["expiresIn"], "userId": grant["userId"]}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *args):
        pass


def endpoint():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Endpoint)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_port}/token"


def by_function():
    grant = exchange(keys()[0])
    return TokenResult(grant["accessToken"], grant["expiresIn"], grant["userId"])


def bad_token():
    return TokenResult("not-a-token", 60, "user_1")


def bad_at_first(then):
    """A token function whose first token is worth nothing."""
    tokens = iter([bad_token])
    return lambda: next(tokens, then)()


def no_token():
    raise RuntimeError("the application has no token")


MAKE = {
    "free": lambda: TaskClient.create(billing_mode="free", api_key=keys()[0]),
    "paid": lambda: TaskClient.create(billing_mode="paid", api_key=keys()[0]),
    "stranger": lambda: TaskClient.create(billing_mode="free", api_key=keys()[1]),
    "stranger paid": lambda: TaskClient.create(billing_mode="paid", api_key=keys()[1]),
    "broke": lambda: TaskClient.create(billing_mode="paid", api_key=keys()[2]),
    "anonymous": lambda: TaskClient.create(billing_mode="free", anon_fingerprint="interop"),
    "endpoint": lambda: TaskClient.create(
        billing_mode="free",
        token_endpoint=TokenEndpointConfig(url=endpoint(), headers={"X-Session": "s1"}, body={"for": "interop"}),
    ),
    "function": lambda: TaskClient.create(billing_mode="free", token_provider=by_function),
    "bad token": lambda: TaskClient.create(billing_mode="free", token_provider=bad_token),
    "bad at first": lambda: TaskClient.create(billing_mode="free", token_provider=bad_at_first(by_function)),
    "no second token": lambda: TaskClient.create(billing_mode="free", token_provider=bad_at_first(no_token)),
    "wrong key": lambda: TaskClient.create(billing_mode="free", api_key="bk_wrong"),
    "dead endpoint": lambda: TaskClient.create(billing_mode="free", token_endpoint="http://127.0.0.1:1/token"),
    "two credentials": lambda: TaskClient.create(billing_mode="free", api_key="bk_1", token_provider=by_function),
    "anonymous and paid": lambda: TaskClient.create(billing_mode="paid", anon_fingerprint="interop"),
    "nobody": lambda: TaskClient.create(billing_mode="free"),
}
CLIENTS = {}
MAKING = threading.Lock()


def client(name="free"):
    with MAKING:
        if name not in CLIENTS:
            CLIENTS[name] = MAKE[name]()
        return CLIENTS[name]


# ---- what a user sees --------------------------------------------------------------------------------------------------


def pattern(size):
    return bytes(i * 7 % 251 for i in range(size))


def shown(data):
    if len(data) <= 120:
        try:
            return data.decode()
        except UnicodeDecodeError:
            pass
    return f"{len(data)} bytes {hashlib.sha256(data).hexdigest()[:12]}"


def line(event):
    """One event of a task in short."""
    raw = event.raw if hasattr(event, "raw") else event
    kind = raw["type"]
    if kind == "progress" and raw.get("streamEvent"):
        return "; ".join(
            " ".join([raw["streamEvent"], raw.get("declaredStream", "-"), s["direction"], s["format"], s["affinity"], json.dumps(s.get("metadata") or {})])
            for s in raw["streams"].values()
        )
    if kind == "progress":
        return f"status {raw['message']}" if "message" in raw else f"{raw.get('state')} {raw.get('progress')}"
    if kind == "artifact":
        ref = raw["artifactRef"]
        words = ["artifact", ref["kind"], ref["mimeType"], str(ref["size"])]
        if ref.get("fileName"):
            words.append(ref["fileName"])
        if raw.get("outputId"):
            words += ["->", raw["outputId"]]
        return " ".join(words)
    if kind == "terminal":
        more = [f"{k}={raw[k]}" for k in ("error", "reason", "completionReason") if k in raw]
        return " ".join(["terminal", str(raw.get("state")), *more])
    if kind == "system":
        return f"system {raw.get('status')}"
    return kind


def history(c, task_id):
    session = c.connect(task_id)
    try:
        return [e.raw for e in session.list_events()]
    finally:
        session.close()


def await_line(c, task_id, wanted):
    """Waits until an event is on the channel of a task."""
    end = time.monotonic() + DEADLINE
    while time.monotonic() < end:
        lines = [line(e) for e in history(c, task_id)]
        if any(said.startswith(wanted) for said in lines):
            return lines
        if any(said.startswith("terminal") for said in lines):
            raise AssertionError(f"the task ended before {wanted!r}: {lines}")
        time.sleep(POLL)
    raise AssertionError(f"no {wanted!r} within {DEADLINE} s")


def await_state(c, task_id, *states):
    end = time.monotonic() + DEADLINE
    while time.monotonic() < end:
        state = c.get_task(task_id).state
        if state in states:
            return state
        time.sleep(POLL)
    raise AssertionError(f"the task was not {states} within {DEADLINE} s but {state}")


def parts_of(steps, parts):
    out = [] if steps is None else [text_part(json.dumps(steps), part_id="request")]
    for p in parts or []:
        if "text" in p:
            out.append(text_part(p["text"], part_id=p["id"]))
        elif p.get("on disk"):
            path = os.path.join(tempfile.mkdtemp(prefix="blocksd-interop-"), p["name"])
            with open(path, "wb") as f:
                f.write(pattern(p["size"]))
            out.append(file_part(path, part_id=p["id"], content_type=p["type"]))
        else:
            out.append(file_part(pattern(p["size"]), part_id=p["id"], file_name=p["name"], content_type=p["type"]))
    return out


def send(who="free", agent="scripted", steps=None, parts=None, **options):
    c = client(who)
    options = {k: v for k, v in options.items() if v is not None}
    return c, c.send_message(agent_name=agent, request_parts=parts_of(steps, parts), **options)


def artifacts(session):
    return [f"got {a.mime_type} {a.file_name or '-'}: {shown(a.data)}" for a in map(session.download_artifact, session.list_artifacts())]


def outcome(c, session):
    """Waits for the end and tells everything: the events on the channel, the state, the artifacts."""
    session.wait_for_terminal(timeout=DEADLINE)
    said = [line(e) for e in history(c, session.task_id)]
    return [*said, f"state {session.state}", *artifacts(session)]


# ---- operations --------------------------------------------------------------------------------------------------------


@operation
def task(then=None, when="status ready", brief=False, **args):
    """Sends a task, does something when an event has come, and tells how it went; brief: without the text of an error."""
    c, session = send(**args)
    if then:
        await_line(c, session.task_id, when)
        act(c, session, then)
    said = outcome(c, session)
    return [line.partition("=")[0] if brief else line for line in said]


def act(c, session, what):
    if hasattr(session, what):
        getattr(session, what)()
    else:
        getattr(c, what)(session.task_id)


@operation
def transcript(then=None, when="status ready", patience=DEADLINE, **args):
    """Like task, but answers with the events themselves; patience is how long to wait for the end."""
    c, session = send(**args)
    for what in then or []:
        await_line(c, session.task_id, when)
        act(c, session, what)
    try:
        session.wait_for_terminal(timeout=patience)
    except TimeoutError:
        return [*history(c, session.task_id), {"type": "no end"}]
    return history(c, session.task_id)


@operation
def events_of(task, who="free"):
    """The events of a task that somebody else may have sent."""
    return history(client(who), task)


@operation
def callbacks(**args):
    """The order of callbacks, and what each was given; the handler begins when it is canceled, after all were set."""
    c, session = send(**args)
    said, lock = [], threading.Lock()

    def note(name):
        def cb(event):
            # Whether the first one is still to come is a matter of time.
            if line(event) != "running 0":
                with lock:
                    said.append(f"{name}: {line(event)}")

        return cb

    session.on_progress(note("on_progress"))
    session.on_artifact(note("on_artifact"))
    session.on_cancel_requested(note("on_cancel_requested"))
    session.on_terminal(note("on_terminal"))
    await_line(c, session.task_id, "running 0")  # before, a provider may end the task without its handler
    session.cancel()
    session.wait_for_terminal(timeout=DEADLINE)
    return said


@operation
def replay(**args):
    """Callbacks registered after the end replay what is over."""
    c, session = send(**args)
    session.wait_for_terminal(timeout=DEADLINE)
    said = []
    session.on_artifact(lambda e: said.append("on_artifact: " + line(e)))
    session.on_terminal(lambda e: said.append(f"on_terminal: {e.state}"))
    return said


@operation
def save(**args):
    c, session = send(**args)
    session.wait_for_terminal(timeout=DEADLINE)
    # A session of its own: a live one closes its PubNub client at this very moment.
    session = c.connect(session.task_id)
    with tempfile.TemporaryDirectory() as d:
        out = []
        for path in session.save_artifacts(d):
            with open(path, "rb") as f:
                out.append(f"saved {os.path.relpath(path, d)}: {shown(f.read())}")
        return out


@operation
def connect_running(**args):
    """A second process's view: the history so far and the rest live, nothing twice, nothing lost."""
    c, session = send(**args)
    await_line(c, session.task_id, "status ready")
    other = c.connect(session.task_id)
    said = [line(e) for e in other.list_events()]
    live = []
    other.on_event(lambda e: live.append(line(e)))
    said.append(f"-- {other.state}")
    session.cancel()
    other.wait_for_terminal(timeout=DEADLINE)
    return [*said, *live, f"state {other.state}", *artifacts(other)]


@operation
def connect_finished(who2=None, **args):
    c, session = send(**args)
    session.wait_for_terminal(timeout=DEADLINE)
    other = client(who2 or args.get("who", "free")).connect(session.task_id)
    said = [line(e) for e in other.list_events()]
    return [*said, f"closed {other.is_closed}, state {other.state}", *artifacts(other)]


@operation
def idempotent_finished(key, **args):
    c, first = send(idempotency_key=key, **args)
    first.wait_for_terminal(timeout=DEADLINE)
    await_state(c, first.task_id, "completed")
    _, again = send(idempotency_key=key, **args)
    same = "same" if again.task_id == first.task_id else "other"
    return [f"{same} task, idempotent {again.idempotent}, closed {again.is_closed}, state {again.state}"]


@operation
def idempotent_running(key, **args):
    c, first = send(idempotency_key=key, **args)
    await_line(c, first.task_id, "status ready")
    _, again = send(idempotency_key=key, **args)
    same = "same" if again.task_id == first.task_id else "other"
    said = [f"{same} task, idempotent {again.idempotent}, closed {again.is_closed}"]
    again.cancel()
    return [*said, f"ends {again.wait_for_terminal(timeout=DEADLINE).state}", f"ends {first.wait_for_terminal(timeout=DEADLINE).state}"]


@operation
def idempotent_callers(key, who2, **args):
    """The key of another caller is another key."""
    _, first = send(idempotency_key=key, **args)
    _, again = send(who=who2, idempotency_key=key, **args)
    same = "same" if again.task_id == first.task_id else "other"
    ends = [s.wait_for_terminal(timeout=DEADLINE).state for s in (first, again)]
    return [f"{same} task, idempotent {again.idempotent}", *ends]


@operation
def tokens(who, **args):
    """A client without an API key of its own works as well; the endpoint saw what the configuration says."""
    said = outcome(*send(who=who, **args))
    if who == "endpoint":
        said += [f"endpoint asked with {session} {body}" for session, body in Endpoint.asked[:1]]
    return [*said, f"user {client(who).get_user_id()}"]


@operation
def error(does, who="free", agent="scripted", task=None, **args):
    """What a call that fails raises."""
    try:
        if does == "send":
            send(who=who, agent=agent, **args)
        elif does == "create":
            MAKE[who]()
        else:
            c, session = send(agent=agent, **args) if task is None else (None, None)
            task_id = task or session.task_id
            if c:
                session.wait_for_terminal(timeout=DEADLINE)
            if does == "connect":
                client(who).connect(task_id)
            else:
                getattr(client(who), does)(task_id)
        return ["no error"]
    except BillingModeMismatchError as e:
        return [f"BillingModeMismatchError expected {e.expected} got {e.got} code {e.code}"]
    except RpcError as e:
        data = e.data if isinstance(e.data, dict) else {}
        details = data.get("details")
        return [" ".join(["RpcError", str(e.code), str(data.get("code")), *([json.dumps(details, sort_keys=True)] if details else [])])]
    except AnonTaskAccessDenied as e:
        return [f"AnonTaskAccessDenied {'403' if '403' in str(e) else e}"]
    except FileUploadError as e:
        return [f"FileUploadError {e.status_code}"]
    except AuthRefreshFailedError:
        return ["AuthRefreshFailedError"]
    except (ValueError, RuntimeError) as e:
        return [type(e).__name__]


@operation
def errors(times, **args):
    """The same call several times."""
    return [said for _ in range(times) for said in error(**args)]


@operation
def cancel_finished(**args):
    """Canceling what is over changes nothing."""
    c, session = send(**args)
    session.wait_for_terminal(timeout=DEADLINE)
    before = history(c, session.task_id)
    await_state(c, session.task_id, "completed")
    session.cancel()
    return [f"changed {history(c, session.task_id) != before}", f"row {c.get_task(session.task_id).state}"]


@operation
def rows(**args):
    """get_task and list_tasks, filtered and in pages."""
    c = client("stranger")
    sent = []
    for _ in range(3):
        _, session = send(who="stranger", **args)
        session.wait_for_terminal(timeout=DEADLINE)
        await_state(c, session.task_id, "completed")
        sent.append(session.task_id)
    row = c.get_task(sent[0])
    said = [f"row {row.agent_name} {row.owner} {row.state} {bool(row.created_time)} {bool(row.updated_time)}"]
    seen, cursor, pages = [], None, 0
    while True:
        page = c.list_tasks(ListTasksParams(agent_name=args["agent"], state="completed", limit=2, cursor=cursor))
        seen += [t.task_id if hasattr(t, "task_id") else t["taskId"] for t in page.tasks]
        pages += 1
        cursor = page.next
        if not cursor:
            break
    said.append(f"all listed once {sorted(seen) == sorted(sent)} on {pages} pages of {page.total_count}")
    none = c.list_tasks(ListTasksParams(agent_name=args["agent"], state="failed"))
    return [*said, f"failed ones {len(none.tasks)}"]


@operation
def card(agent, who="free"):
    found = client(who).get_agent_card(agent)
    return [found["identity"]["displayName"] if found else "no card"]


@operation
def many(count, first, **args):
    """Tasks beyond an agent's capacity wait and none is refused: the first one holds its only place until all are sent."""
    c, holder = send(**{**args, "steps": first})
    await_line(c, holder.task_id, "status ready")
    sessions = [send(**args)[1] for _ in range(count)]
    queued = sum(bool(s.queued) for s in sessions)
    holder.cancel()
    ends = [s.wait_for_terminal(timeout=DEADLINE).state for s in (holder, *sessions)]
    return [f"queued {queued}", f"ends {ends}"]


@operation
def started(wanted="status ready", **args):
    """Starts a task and returns when an event has come, with the task's id first."""
    c, session = send(**args)
    await_line(c, session.task_id, wanted)
    return [session.task_id]


@operation
def end_of(task, who="free"):
    session = client(who).connect(task)
    end = session.wait_for_terminal(timeout=DEADLINE)
    return [f"ends {end.state}"]


# ---- streams -----------------------------------------------------------------------------------------------------------


def reading(stream, kind, release=None):
    """Reads a stream to its end; release: the file to make after so many values."""
    said = []
    for value in stream.bytes() if kind == "bytes" else stream.events():
        said.append(shown(value) if kind == "bytes" else json.dumps(value, sort_keys=True))
        if release and len(said) == release["after"]:
            open(release["file"], "w").close()
    return said


@operation
def read_stream(name, kind, release=None, **args):
    """Opens an outbound stream and reads it to its end."""
    c, session = send(**args)
    ref = session.wait_for_stream(name, timeout=DEADLINE)
    said = [f"read {v}" for v in reading(ref.open(), kind, release)]
    if args.get("task_kind") == "pipe":
        session.cancel()
    return [*said, f"ends {session.wait_for_terminal(timeout=DEADLINE).state}"]


@operation
def joined_stream(name, **args):
    """The same for bytes, whose chunks need not be the writes."""
    c, session = send(**args)
    data = b"".join(session.wait_for_stream(name, timeout=DEADLINE).open().bytes())
    if args.get("task_kind") == "pipe":
        session.cancel()
    return [f"read {shown(data)}", f"ends {session.wait_for_terminal(timeout=DEADLINE).state}"]


@operation
def shared_stream(name, count, **args):
    """Several tasks share a stream; the reader of one sees what another task wrote."""
    c, first = send(**args)
    ref = first.wait_for_stream(name, timeout=DEADLINE)
    reader = ref.open()
    events = reader.events()
    _, second = send(**args)
    other = second.wait_for_stream(name, timeout=DEADLINE)
    said = [f"same channel {other.descriptor.channel == ref.descriptor.channel}"]
    seen = [next(events) for _ in range(count)]
    said.append("read " + json.dumps(seen))
    for s in (first, second):
        s.cancel()
    ends = [s.wait_for_terminal(timeout=DEADLINE).state for s in (first, second)]
    for s in (first, second):
        s.close()
    return [*said, f"ends {sorted(ends)}"]


@operation
def write_stream(name, chunks, **args):
    """Writes an inbound stream; the agent's answer tells what came."""
    c, session = send(**args)
    stream = session.wait_for_stream(name, timeout=DEADLINE).open()
    for chunk in chunks:
        stream.write(pattern(chunk["size"]) if isinstance(chunk, dict) else chunk)
    stream.end()
    if args.get("task_kind") == "pipe":
        await_line(c, session.task_id, "artifact")
        session.cancel()
    return outcome(c, session)


@operation
def converse(name, says, **args):
    c, session = send(**args)
    stream = session.wait_for_stream(name, timeout=DEADLINE).open()
    events = stream.events()
    said = []
    for say in says:
        stream.write({"say": say})
        said.append("heard " + json.dumps(next(events), sort_keys=True))
    stream.write({"say": "bye"})
    await_line(c, session.task_id, "artifact")
    session.cancel()
    end = session.wait_for_terminal(timeout=DEADLINE)
    session.close()
    return [*said, *artifacts(session), f"ends {end.state}"]


@operation
def late_stream(name, **args):
    """A stream of a finished task cannot be opened any more, and says so."""
    c, session = send(**args)
    session.wait_for_stream(name, timeout=DEADLINE)
    if args.get("task_kind") == "pipe":
        session.cancel()
    session.wait_for_terminal(timeout=DEADLINE)
    other = c.connect(session.task_id)
    try:
        other.list_streams()[0].open()
        return ["opened"]
    except StreamUnavailableError as e:
        return [f"StreamUnavailableError {e.declared_stream} {e.terminal_state}"]


@operation
def late_reader(name, **args):
    """Opens a stream when everything has been written to it, and its end as well; tells every element."""
    c, session = send(**args)
    await_line(c, session.task_id, "status written")
    said = [f"read {v}" for v in reading(session.wait_for_stream(name, timeout=DEADLINE).open(), "bytes")]
    session.cancel()
    return [*said, f"ends {session.wait_for_terminal(timeout=DEADLINE).state}"]


@operation
def symmetry(**args):
    """Both sides write the same payloads and events, and read them."""
    c, session = send(**args)
    refs = {name: session.wait_for_stream(name, timeout=DEADLINE) for name in STREAMS}
    said = both_ways(lambda name, **options: refs[name].open(), "c_to_p", "p_to_c").splitlines()
    await_line(c, session.task_id, "artifact")
    session.cancel()
    end = session.wait_for_terminal(timeout=DEADLINE)
    return [*said, *session.download_artifact(session.list_artifacts()[0]).data.decode().splitlines(), f"ends {end.state}"]


@operation
def external_stream(name, messages, **args):
    """Reads a stream that is written elsewhere: here, by plain HTTP."""
    c, session = send(**args)
    events = session.wait_for_stream(name, timeout=DEADLINE).open().events()
    await_line(c, session.task_id, "artifact")
    write_elsewhere(json.loads(session.download_artifact(session.list_artifacts()[0]).data), messages)
    said = ["read " + json.dumps(e, sort_keys=True) for e in events]
    session.cancel()
    return [*said, f"ends {session.wait_for_terminal(timeout=DEADLINE).state}"]


def write_elsewhere(writer, messages):
    with urllib.request.urlopen(os.environ["BLOCKS_CDM_URL"], timeout=DEADLINE) as answer:
        keys = json.load(answer)["playground"]
    query = urllib.parse.urlencode(
        {"store": 0, "uuid": "elsewhere", "auth": writer["token"], "meta": '{"sender":"elsewhere","protocolVersion":"2026-05-01"}'}
    )
    path = f"/publish/{keys['publishKey']}/{keys['subscribeKey']}/0/{writer['channel']}/0?{query}"
    for message in messages:
        request = urllib.request.Request(
            "http://" + os.environ["BLOCKSD_PUBNUB_ORIGIN"] + path, json.dumps(message).encode(), {"Content-Type": "application/json"}
        )
        urllib.request.urlopen(request, timeout=DEADLINE).close()


@operation
def several_streams(names, **args):
    """Several dedicated streams of one task, opened all at once."""
    c, session = send(**args)
    for name in names:
        session.wait_for_stream(name, timeout=DEADLINE)
    said = [f"streams {[r.descriptor.declared_stream for r in session.list_streams()]}", f"opened {len(session.open_all_streams())}"]
    session.cancel()
    return [*said, f"ends {session.wait_for_terminal(timeout=DEADLINE).state}"]


# ---- the loop ----------------------------------------------------------------------------------------------------------

OUT = threading.Lock()


def answer(request):
    try:
        out = {"said": OPERATIONS[request["op"]](**request["args"])}
    except BaseException:
        out = {"error": traceback.format_exc(limit=-3)}
    with OUT:
        print(json.dumps({"id": request["id"], **out}), flush=True)


def main():
    pool = concurrent.futures.ThreadPoolExecutor(64)
    for request in sys.stdin:
        pool.submit(answer, json.loads(request))
    # Threads of the PubNub library outlive their clients; there is nothing left to wait for.
    os._exit(0)


main()
