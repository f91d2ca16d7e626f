"""The payloads with which two sides of Blocks' streams are compared, whatever they are written in: five of bytes, 83,968 in
all, and thirteen events. Their digests are known; each direction must come to the same ones.
"""

import hashlib
import json
import threading

STREAMS = ["p_to_c_bytes", "p_to_c_events", "c_to_p_bytes", "c_to_p_events"]


def generated(size, state):
    out = bytearray()
    for _ in range(size):
        state = (state * 1103515245 + 12345) % 2**31
        out.append(state % 256)
    return bytes(out)


def payloads():
    return [b"", bytes(1024), b"\xff" * 1024, b"B" * 16384, generated(65536, 48879)]


def events():
    return [
        {"type": "primitive", "n": 42, "b": True, "s": "hello", "nullValue": None},
        {"type": "nested", "meta": {"tags": ["a", "b", "c"], "count": 7, "deep": {"x": {"y": "z"}}}},
        {"type": "special", "text": "emoji \U0001f680 RTL \u05de\u05d1\u05d7\u05df"},
        *({"type": "batch", "i": i} for i in range(10)),
    ]


def canonical(event):
    return json.dumps(event, sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode()


def digest(parts):
    return f"{len(parts)} pieces {sum(map(len, parts))} bytes {hashlib.sha256(b''.join(parts)).hexdigest()[:16]}"


def exchange(open_stream, out, back):
    """Writes to the streams of one direction and reads those of the other one, all at the same time."""
    said = {}

    def write(stream, kind, values):
        for value in values:
            stream.write(value)
        stream.end()
        said[f"sent {kind}"] = digest(values if kind == "bytes" else [canonical(v) for v in values])

    def read(stream, kind):
        said[f"got {kind}"] = digest(list(stream.bytes()) if kind == "bytes" else [canonical(e) for e in stream.events()])

    # Which side asks for which direction matters only to a handler.
    work = [
        (write, open_stream(f"{out}_bytes"), "bytes", payloads()),
        (write, open_stream(f"{out}_events", format="events"), "events", events()),
        (read, open_stream(f"{back}_bytes", direction="inbound"), "bytes"),
        (read, open_stream(f"{back}_events", direction="inbound", format="events"), "events"),
    ]
    threads = [threading.Thread(target=f, args=args) for f, *args in work]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    return "\n".join(f"{what}: {said[what]}" for what in sorted(said))
