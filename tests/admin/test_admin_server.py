"""Who the admin port answers."""

from pathlib import Path

import pytest

from outrider.runtime import Sidecar
from support.running import local, running
from support.wire import Provider, connect

LISTEN = {"proxy": "127.0.0.1:0", "admin": ["127.0.0.1:0", "[::1]:0"]}
PATHS = (b"/metrics", b"/ca.pem", b"/healthz", b"/")


async def status(sidecar: Sidecar, host: bytes, *fields: bytes, path: bytes = b"/metrics", to: int = 0) -> bytes:
    peer = await connect(sidecar.admin_addresses[to])
    try:
        more = b"".join(field + b"\r\n" for field in fields)
        await peer.send(b"GET " + path + b" HTTP/1.1\r\nhost: " + host + b"\r\n" + more + b"\r\n")
        return (await peer.head())[9:12]
    finally:
        peer.close()


@pytest.mark.parametrize("path", PATHS)
async def test_the_admin_port_answers_to_its_own_name_and_to_no_web_page(tmp_path: Path, path: bytes) -> None:
    async with Provider() as provider, running(tmp_path, local(provider.url), listen=LISTEN) as sidecar:
        port = b":%d" % sidecar.admin_addresses[0][1]
        for to in (0, 1):
            for name in (b"127.0.0.1", b"localhost", b"[::1]", b"LocalHost", b"10.1.2.3"):
                assert await status(sidecar, name + port, path=path, to=to) == b"200"
        for name in (b"evil.example" + port, b"127.0.0.1", b"127.0.0.1.evil.example" + port, b""):
            assert await status(sidecar, name, path=path) == b"421"
        ours = b"127.0.0.1" + port
        for field in (b"origin: https://evil.example", b"origin: null", b"sec-fetch-site: cross-site"):
            assert await status(sidecar, ours, field, path=path) == b"403"
        assert await status(sidecar, ours, b"sec-fetch-site: none", path=path) == b"200"


async def test_a_draining_sidecar_lives_and_is_not_ready(tmp_path: Path) -> None:
    async with Provider() as provider, running(tmp_path, local(provider.url), listen=LISTEN) as sidecar:
        host = b"localhost:%d" % sidecar.admin_addresses[0][1]
        assert await status(sidecar, host, path=b"/readyz") == b"200"
        sidecar._accepting = False  # as the first line of drain() has it
        assert await status(sidecar, host, path=b"/readyz") == b"503"
        assert await status(sidecar, host, path=b"/healthz") == b"200"
