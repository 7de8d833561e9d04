"""ClientHellos for tests: real ones from OpenSSL, and handmade ones where OpenSSL would refuse to be so odd."""

import ssl


def openssl_hello(name: str | None, alpn: list[str] | None = None) -> bytes:
    """The first flight of Python's own TLS client, records included."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if alpn:
        context.set_alpn_protocols(alpn)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = context.wrap_bio(incoming, outgoing, server_hostname=name)
    try:
        client.do_handshake()
    except ssl.SSLWantReadError:
        return outgoing.read()
    raise AssertionError("a handshake ended without a peer")


def vector(size: int, data: bytes) -> bytes:
    return len(data).to_bytes(size, "big") + data


def extension(kind: int, data: bytes) -> bytes:
    return kind.to_bytes(2, "big") + vector(2, data)


def sni_extension(name: bytes, kind: int = 0) -> bytes:
    return extension(0, vector(2, bytes([kind]) + vector(2, name)))


def alpn_extension(*protocols: bytes) -> bytes:
    return extension(16, vector(2, b"".join(vector(1, protocol) for protocol in protocols)))


GREASE = extension(0x2A2A, b"") + extension(0xDADA, b"\0")
ECH = extension(0xFE0D, b"\0" + bytes(180))
POST_QUANTUM = extension(51, vector(2, b"\x11\xec" + vector(2, bytes(1216)) + b"\0\x1d" + vector(2, bytes(32))))


def message(
    *extensions: bytes, version: bytes = b"\x03\x03", session: bytes = b"", ciphers: bytes = b"\x13\x01"
) -> bytes:
    """A ClientHello handshake message, without records."""
    body = version + bytes(32) + vector(1, session) + vector(2, ciphers) + vector(1, b"\0")
    if extensions:
        body += vector(2, b"".join(extensions))
    return b"\x01" + vector(3, body)


def records(data: bytes, size: int = 1 << 14, version: bytes = b"\x03\x01") -> bytes:
    """The message cut into records of `size` payload bytes."""
    return b"".join(b"\x16" + version + vector(2, data[i : i + size]) for i in range(0, len(data), size))


def hello(name: bytes = b"api.openai.com", *more: bytes) -> bytes:
    return records(message(sni_extension(name), *more))


def padded_message(total: int, name: bytes = b"api.openai.com") -> bytes:
    """A ClientHello message of exactly `total` bytes."""
    bare = len(message(sni_extension(name), extension(21, b"")))
    return message(sni_extension(name), extension(21, bytes(total - bare)))
