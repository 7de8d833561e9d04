"""What a record costs beside its cipher, by DirectObject and by ssl.SSLObject: python -m bench.bench_tlsobject

A read asks for 256 KiB, as the event loop does.
"""

import ssl
import tempfile
from pathlib import Path
from typing import Any

from bench import certs
from bench.cases import Case, run_alone
from outrider_ext.tlsobject import DirectObject

RECORD = b"x" * 1400
ASKED_BYTES = 256 << 10


class Pair:
    """Client and server over memory; the server is the one that is measured."""

    def __init__(self, kind: type[ssl.SSLObject]) -> None:
        with tempfile.TemporaryDirectory() as folder:
            made = certs.make(Path(folder))
            server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context(cafile=made.ca)
            server.load_cert_chain(made.chain, made.key)
        server.sslobject_class = kind
        to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._to_client = to_client
        self.client: Any = client.wrap_bio(to_client, to_server, server_hostname=certs.HOST)
        self.server: Any = server.wrap_bio(to_server, to_client, server_side=True)
        for side in (self.client, self.server, self.client, self.server):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue

    def read(self) -> bytes:
        self.client.write(RECORD)
        data: bytes = self.server.read(ASKED_BYTES)
        return data

    def write(self) -> int:
        self.server.write(RECORD)
        return len(self._to_client.read())


def cases(name: str, kind: type[ssl.SSLObject]) -> tuple[Case, ...]:
    return (
        Case(
            f"{name}: read (and the client's write)", lambda: Pair(kind), Pair.read, lambda pair, data: data == RECORD
        ),
        Case(f"{name}: write", lambda: Pair(kind), Pair.write, lambda pair, size: size > len(RECORD)),
    )


CASES = (*cases("DirectObject", DirectObject), *cases("ssl.SSLObject", ssl.SSLObject))

if __name__ == "__main__":
    raise SystemExit(run_alone(__file__))
