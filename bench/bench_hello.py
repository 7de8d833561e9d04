"""What it costs to read a ClientHello, as OpenSSL sends it: python -m bench.bench_hello"""

import contextlib
import ssl

from bench.cases import Case, run_alone
from outrider.door.client_hello import ClientHello, ClientHelloReader
from outrider_ext.hello import read_hello

NAME = "api.openai.com"
RECORD_AND_HANDSHAKE_HEADER_BYTES = 9


def hello() -> bytes:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    client = context.wrap_bio(incoming, outgoing, server_hostname=NAME)
    with contextlib.suppress(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


CASES = (
    Case(
        "the message",
        lambda: hello()[RECORD_AND_HANDSHAKE_HEADER_BYTES:],
        read_hello,
        lambda _, found: found == (NAME.encode(), (b"http/1.1",), False),
    ),
    Case(
        "as the door does it, with its record",
        hello,
        lambda record: ClientHelloReader().receive_data(record),
        lambda _, found: found == ClientHello(NAME, (b"http/1.1",), False),
    ),
)

if __name__ == "__main__":
    raise SystemExit(run_alone(__file__))
