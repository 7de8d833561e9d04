"""The TLS object that the loop drives: the same bytes as ssl.SSLObject's, a record at a time."""

import datetime
import ssl
from pathlib import Path
from typing import Any

import pytest

from outrider.mock import tls as mock_tls
from outrider_ext.tlsobject import RECORD_BYTES, DirectObject

NAME = "api.example"


class Pair:
    """Client and server over memory; `direct` says which of them is a DirectObject."""

    def __init__(self, folder: Path, direct: str) -> None:
        mock_tls.ensure(folder, [NAME], datetime.datetime.now(datetime.UTC))
        server, client = mock_tls.server_context(folder), ssl.create_default_context(cafile=folder / "ca.pem")
        (client if direct == "client" else server).sslobject_class = DirectObject
        to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.client: Any = client.wrap_bio(to_client, to_server, server_hostname=NAME)
        self.server: Any = server.wrap_bio(to_server, to_client, server_side=True)
        self.mine, self.other = (self.client, self.server) if direct == "client" else (self.server, self.client)
        for _ in range(4):
            for side in (self.client, self.server):
                with_patience(side.do_handshake)


def with_patience(call: Any) -> Any:
    try:
        return call()
    except ssl.SSLWantReadError:
        return None


@pytest.fixture(params=["client", "server"])
def pair(request: pytest.FixtureRequest, tmp_path: Path) -> Pair:
    return Pair(tmp_path, request.param)


def test_it_is_what_the_context_makes(pair: Pair) -> None:
    assert isinstance(pair.mine, DirectObject)
    assert pair.mine.version() == "TLSv1.3"


def test_what_one_side_writes_the_other_reads(pair: Pair) -> None:
    assert pair.mine.write(b"there") == 5
    assert pair.other.read(100) == b"there"
    pair.other.write(b"and back")
    assert pair.mine.read(3) == b"and"
    assert pair.mine.pending() == 5
    assert pair.mine.read(256 << 10) == b" back"


def test_a_large_read_is_one_record_and_the_rest_comes_next(pair: Pair) -> None:
    data = bytes(range(256)) * 200
    pair.other.write(data)
    read = b""
    while len(read) < len(data):
        piece = pair.mine.read(256 << 10)
        assert 0 < len(piece) <= RECORD_BYTES
        read += piece
    assert read == data


def test_it_reads_into_a_buffer(pair: Pair) -> None:
    pair.other.write(b"abc")
    room = bytearray(10)
    assert pair.mine.read(10, room) == 3
    assert room[:3] == b"abc"


def test_without_bytes_it_asks_for_more(pair: Pair) -> None:
    with_patience(lambda: pair.mine.read(1))  # session tickets
    with pytest.raises(ssl.SSLWantReadError):
        pair.mine.read(100)
