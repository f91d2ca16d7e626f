"""A certificate for an encrypted connection to the daemon: self-signed, for this process alone.

The standard library has no signatures, so the few lines of ECDSA that one certificate takes are here. The key is used by
OpenSSL from then on, and ends with the process."""

from __future__ import annotations

import base64
import hashlib
import os
import secrets
import ssl

# The curve P-256.
_P = 2**256 - 2**224 + 2**192 + 2**96 - 1
_N = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
_G = (
    0x6B17D1F2E12C4247F8BCE6E563A440F277037D812DEB33A0F4A13945D898C296,
    0x4FE342E2FE1A7F9B8EE7EB4A7C0F9E162BCE33576B315ECECBB6406837BF51F5,
)

_Point = tuple[int, int]


def _add(a: _Point | None, b: _Point | None) -> _Point | None:
    if a is None or b is None:
        return a or b
    if a[0] == b[0]:
        if (a[1] + b[1]) % _P == 0:
            return None
        slope = 3 * (a[0] * a[0] - 1) * pow(2 * a[1], -1, _P)
    else:
        slope = (b[1] - a[1]) * pow(b[0] - a[0], -1, _P)
    x = (slope * slope - a[0] - b[0]) % _P
    return x, (slope * (a[0] - x) - a[1]) % _P


def _times(n: int) -> _Point:
    """The generator, n times."""
    total: _Point | None = None
    power: _Point | None = _G
    while n:
        if n & 1:
            total = _add(total, power)
        power = _add(power, power)
        n >>= 1
    assert total is not None
    return total


def _sign(key: int, data: bytes) -> bytes:
    digest = int.from_bytes(hashlib.sha256(data).digest(), "big")
    while True:
        k = 1 + secrets.randbelow(_N - 1)
        r = _times(k)[0] % _N
        s = pow(k, -1, _N) * (digest + r * key) % _N
        if r and s:
            return _sequence(_integer(r), _integer(s))


def _tagged(tag: int, content: bytes) -> bytes:
    """One value in DER."""
    size = len(content)
    if size < 128:
        return bytes([tag, size]) + content
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(length)]) + length + content


def _sequence(*parts: bytes) -> bytes:
    return _tagged(0x30, b"".join(parts))


def _integer(n: int) -> bytes:
    return _tagged(0x02, n.to_bytes(n.bit_length() // 8 + 1, "big"))


def _bits(data: bytes) -> bytes:
    return _tagged(0x03, b"\0" + data)


_EC_KEY, _P256 = bytes.fromhex("06072a8648ce3d0201"), bytes.fromhex("06082a8648ce3d030107")
_ECDSA_SHA256 = _sequence(bytes.fromhex("06082a8648ce3d040302"))
_COMMON_NAME, _ALT_NAME, _KEY_USE, _SERVER = (bytes.fromhex(h) for h in ("0603550403", "0603551d11", "0603551d25", "06082b06010505070301"))


def _made() -> tuple[bytes, bytes]:
    """A certificate for localhost and its key, in DER. It has no end (RFC 5280, 4.1.2.5): the process has one."""
    key = 1 + secrets.randbelow(_N - 1)
    x, y = _times(key)
    public = b"\x04" + x.to_bytes(32, "big") + y.to_bytes(32, "big")
    name = _sequence(_tagged(0x31, _sequence(_COMMON_NAME, _tagged(0x0C, b"localhost"))))
    validity = _sequence(_tagged(0x17, b"200101000000Z"), _tagged(0x18, b"99991231235959Z"))
    extensions = _sequence(
        _sequence(_ALT_NAME, _tagged(0x04, _sequence(_tagged(0x82, b"localhost")))),
        _sequence(_KEY_USE, _tagged(0x04, _sequence(_SERVER))),
    )
    signed = _sequence(
        _tagged(0xA0, _integer(2)), _integer(1 + secrets.randbits(120)), _ECDSA_SHA256, name, validity, name,
        _sequence(_sequence(_EC_KEY, _P256), _bits(public)), _tagged(0xA3, extensions),
    )  # fmt: skip
    certificate = _sequence(signed, _ECDSA_SHA256, _bits(_sign(key, signed)))
    secret = _sequence(_integer(1), _tagged(0x04, key.to_bytes(32, "big")), _tagged(0xA0, _P256), _tagged(0xA1, _bits(public)))
    return certificate, secret


def _pem(label: str, data: bytes) -> bytes:
    return f"-----BEGIN {label}-----\n{base64.encodebytes(data).decode()}-----END {label}-----\n".encode()


def server_context(client: str) -> tuple[ssl.SSLContext, str]:
    """What a server needs whose only client has this certificate, and the server's own as the handshake line holds it."""
    certificate, secret = _made()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(cadata=client)
    context.set_alpn_protocols(["h2"])
    file = os.memfd_create("key")  # OpenSSL reads keys from files only, and this one is nowhere
    try:
        os.write(file, _pem("CERTIFICATE", certificate) + _pem("EC PRIVATE KEY", secret))
        context.load_cert_chain(f"/proc/self/fd/{file}")
    finally:
        os.close(file)
    return context, base64.b64encode(certificate).decode().rstrip("=")
