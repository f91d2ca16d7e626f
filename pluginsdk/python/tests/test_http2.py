"""The protocol below the calls: its pure core, and what another implementation of it (grpcio) makes of ours."""

from __future__ import annotations

import random
import struct
from typing import Any, Callable

import pytest
from daemon import text

from blocksd import _hpack, _http2
from blocksd._http2 import Came, Connection, Free, Opened, Reset


def pump(a: Connection, b: Connection, cut: Callable[[int], int] = lambda n: n) -> list[tuple[str, Any]]:
    """Carries bytes both ways until there are no more, in pieces of a size that cut chooses; returns the events."""
    events: list[tuple[str, Any]] = []
    while a.out or b.out:
        for name, source, target in (("b", a, b), ("a", b, a)):
            while source.out:
                n = max(1, cut(len(source.out)))
                piece = bytes(source.out[:n])
                del source.out[:n]
                events += [(name, e) for e in target.receive(piece)]
    return events


def pair() -> tuple[Connection, Connection]:
    client, server = Connection(True), Connection(False)
    pump(client, server)
    return client, server


REQUEST = _hpack.encoded((":method", "POST"), (":path", "/a/B"), ("x", "y"))
ANSWER = _hpack.encoded((":status", "200"))


@pytest.mark.parametrize("seed", range(20))
def test_what_is_sent_arrives_however_it_is_cut(seed: int) -> None:
    r = random.Random(seed)
    client, server = Connection(True), Connection(False)
    sent: dict[int, bytes] = {}
    came: dict[int, bytes] = {}
    ended = set()

    def see(events: list[tuple[str, Any]]) -> None:
        for side, event in events:
            if isinstance(event, Came):
                assert side == "b" and event.stream not in ended
                came[event.stream] = came.get(event.stream, b"") + event.data
                if r.random() < 0.8:  # who reads late gets the rest later
                    server.read(event.stream, len(event.data))
                else:
                    late.append((event.stream, len(event.data)))
                if event.ended:
                    ended.add(event.stream)

    late: list[tuple[int, int]] = []
    for _ in range(r.randrange(1, 12)):
        stream = client.open(REQUEST)
        sent[stream] = b""
        for _ in range(r.randrange(6)):
            data = r.randbytes(r.choice([0, 1, 100, 16384, 16385, 300_000, 1_500_000]))
            sent[stream] += data
            client.data(stream, data)
        client.end(stream)
        see(pump(client, server, lambda n: r.randrange(n + 1) if r.random() < 0.2 else n))
    while late:
        for stream, size in late[:]:
            server.read(stream, size)
        late.clear()
        see(pump(client, server))
    assert came == {s: d for s, d in sent.items() if d or s in came}
    assert ended == set(sent) or {s for s in sent if sent[s]} <= ended


def test_what_nobody_reads_is_bounded() -> None:
    client, server = pair()
    stream = client.open(REQUEST)
    for _ in range(100):
        client.data(stream, bytes(100_000))
    came = sum(len(e.data) for _, e in pump(client, server) if isinstance(e, Came))
    assert came == _http2.STREAM_WINDOW and client.waits(stream)
    server.read(stream, came)
    events = pump(client, server)
    assert sum(len(e.data) for _, e in events if isinstance(e, Came)) == came
    client.reset(stream, _http2.CANCEL)
    assert Reset(stream, _http2.CANCEL) in [e for _, e in pump(client, server)]
    assert not client.waits(stream) and client.idle and server.idle


def test_new_settings_are_acknowledged_before_they_are_used() -> None:
    """The other side holds us to the old window until then: data in front would end the stream."""
    client, server = pair()
    stream = client.open(REQUEST)
    client.data(stream, bytes(_http2.STREAM_WINDOW + 1000))
    pump(client, server)
    assert client.waits(stream)
    more = struct.pack(">HL", _http2.INITIAL_WINDOW, _http2.STREAM_WINDOW + 1000)
    assert Free(stream) in client.receive(len(more).to_bytes(3, "big") + bytes([_http2.SETTINGS, 0, 0, 0, 0, 0]) + more)
    kinds = []
    out = bytes(client.out)
    while out:
        kinds.append(out[3])
        out = out[9 + int.from_bytes(out[:3], "big") :]
    assert kinds == [_http2.SETTINGS, _http2.DATA]


def test_an_end_waits_for_what_is_before_it() -> None:
    client, server = pair()
    stream = client.open(REQUEST)
    client.end(stream)
    pump(client, server)
    server.headers(stream, ANSWER)
    server.data(stream, bytes(_http2.STREAM_WINDOW + 1))
    server.end(stream, _hpack.encoded(("grpc-status", "0")))
    server.data(stream, b"too late")
    first = [e for _, e in pump(client, server)]
    assert not any(isinstance(e, Opened) and e.ended for e in first)
    client.read(stream, _http2.STREAM_WINDOW)
    last = [e for _, e in pump(client, server)]
    assert [type(e) for e in last if not isinstance(e, Free)] == [Came, Opened] and Free(stream) in last
    assert last[-2 if isinstance(last[-1], Free) else -1] == Opened(stream, [("grpc-status", "0")], True)
    assert client.idle and server.idle


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return struct.pack(">HBBBL", len(payload) >> 8, len(payload) & 255, kind, flags, stream) + payload


SETTINGS = frame(_http2.SETTINGS, 0, 0, b"")
OPEN = frame(_http2.HEADERS, _http2.END_HEADERS, 1, REQUEST)


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        _http2.PREFACE + OPEN,
        _http2.PREFACE + SETTINGS + frame(_http2.DATA, 0, 1, b"x"),
        _http2.PREFACE + SETTINGS + frame(_http2.HEADERS, _http2.END_HEADERS, 2, REQUEST),
        _http2.PREFACE + SETTINGS + frame(_http2.HEADERS, 0, 1, REQUEST) + SETTINGS,
        _http2.PREFACE + SETTINGS + frame(_http2.CONTINUATION, 0, 1, REQUEST),
        _http2.PREFACE + SETTINGS + frame(_http2.HEADERS, _http2.END_HEADERS, 1, b"\xff\xff\xff\xff\xff\xff"),
        _http2.PREFACE + SETTINGS + frame(_http2.HEADERS, _http2.END_HEADERS | _http2.PADDED, 1, b"\x09x"),
        _http2.PREFACE + SETTINGS + frame(_http2.HEADERS, 0, 1, b"") + frame(_http2.CONTINUATION, 0, 1, bytes(16384)) * 5,
        _http2.PREFACE + SETTINGS + frame(_http2.WINDOW_UPDATE, 0, 0, b"\x7f\xff\xff\xff"),
        _http2.PREFACE + SETTINGS + frame(_http2.PING, 0, 0, b"short"),
        _http2.PREFACE + SETTINGS + frame(_http2.PUSH_PROMISE, 0, 1, b"\0\0\0\2"),
        _http2.PREFACE + frame(_http2.SETTINGS, 0, 0, b"odd"),
        _http2.PREFACE + SETTINGS + b"\xff" * 9,
        _http2.PREFACE + SETTINGS + OPEN + frame(_http2.DATA, 1, 1, b"") + frame(_http2.HEADERS, 5, 3, REQUEST) + frame(_http2.DATA, 1, 5, b""),
    ],
)
def test_what_breaks_the_rules_ends_the_connection(data: bytes) -> None:
    with pytest.raises(_http2.Broken):
        Connection(False).receive(data)


@pytest.mark.parametrize("seed", range(300))
def test_foreign_bytes_do_no_harm(seed: int) -> None:
    r = random.Random(seed)
    server = Connection(False)
    data = bytearray(_http2.PREFACE + SETTINGS + OPEN + frame(_http2.DATA, 1, 1, b"hello"))
    for _ in range(r.randrange(30)):
        kind, size = r.randrange(12), r.choice([0, 4, 5, 8, 20])
        data += frame(kind, r.randrange(256), r.choice([0, 1, 3, 5]), r.randbytes(size))
    for _ in range(r.randrange(8)):
        data[r.randrange(len(_http2.PREFACE), len(data))] = r.randrange(256)
    try:
        server.receive(bytes(data))
    except _http2.Broken:
        pass


def test_headers() -> None:
    """The examples of RFC 7541, C.4, and what we write ourselves."""
    decoder = _hpack.Decoder()
    host = (":authority", "www.example.com")
    get = [(":method", "GET"), (":scheme", "http"), (":path", "/")]
    assert decoder.decode(bytes.fromhex("828684418cf1e3c2e5f23a6ba0ab90f4ff")) == [*get, host]
    assert decoder.decode(bytes.fromhex("828684be5886a8eb10649cbf")) == [*get, host, ("cache-control", "no-cache")]
    third = decoder.decode(bytes.fromhex("828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf"))
    assert third == [(":method", "GET"), (":scheme", "https"), (":path", "/index.html"), host, ("custom-key", "custom-value")]
    assert decoder.decode(b"\xbe") == [("custom-key", "custom-value")]
    assert decoder.decode(b"\x20") == [], "an empty table"
    with pytest.raises(_hpack.HeaderError):
        decoder.decode(b"\xbe")
    ours = [("grpc-message", "x" * 300), (":status", "200"), ("content-type", "application/grpc"), ("é", "")]
    assert _hpack.Decoder().decode(_hpack.encoded(*ours)) == ours


def test_large_answers_and_requests_go_through_grpcio(start: Any) -> None:
    p = start(
        """
        def handler(task):
            text = task.text("request")
            for i in range(3):
                task.status(f"status {i}")
            return [text, text.encode() * 3]
        """
    )
    big = "é" * 2_000_000
    calls = [p.start(text(big), id=f"t{i}") for i in range(3)]
    for call in calls:
        (_, first), (_, second) = call.artifacts()
        assert first == big.encode() and second == big.encode() * 3
        assert call.responses[-1].HasField("result")


def test_refusals_carry_their_text(start: Any) -> None:
    import grpc

    p = start("def handler(task): task.cancel_event.wait(60)")
    with pytest.raises(grpc.RpcError) as err:
        p._unary("/no.Service/Method", b"")
    assert err.value.code() == grpc.StatusCode.UNIMPLEMENTED and err.value.details() == "there is no method /no.Service/Method"
    call = p.start(id="100% ü")
    p.health()  # the task has come by then
    with pytest.raises(grpc.RpcError) as err:
        p.start(id="100% ü").rest()
    assert err.value.code() == grpc.StatusCode.ALREADY_EXISTS and err.value.details() == "task 100% ü runs already"
    with pytest.raises(grpc.RpcError) as err:
        p._unary("/blocks.handler.v1.HandlerService/Describe", b"x" * (17 << 20))
    assert err.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    call.cancel()
