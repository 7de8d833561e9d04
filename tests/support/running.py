"""A whole sidecar in the test's own loop, with scripted providers behind it, and waits for a state of it."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import yaml

from outrider.config import load
from outrider.runtime import Sidecar

from support.wire import DEADLINE_S, Peer, connect

KEY = "sk-the-real-and-only-secret"
ENVIRON = {"OPENAI_API_KEY": KEY}


def settings(folder: Path, providers: Mapping[str, Any], **sections: Any) -> Path:
    """A configuration file with free ports; `sections` are laid over it."""
    document: dict[str, Any] = {
        "version": 1,
        "listen": {"proxy": "127.0.0.1:0", "admin": None},
        "ca": {"dir": str(folder / "ca")},
        "providers": dict(providers),
        "telemetry": {"log": "off"},
    }
    document.update(sections)
    path = folder / "outrider.yaml"
    path.write_text(yaml.safe_dump(document))
    return path


def local(url: str, **more: Any) -> dict[str, Any]:
    """The provider `local`, reached at `url`; its base_url prefix is /local."""
    return {"local": {"kind": "openai", "hosts": ["llm.internal"], "connect_to": url, **more}}


@asynccontextmanager
async def running(
    folder: Path, providers: Mapping[str, Any], *, environ: Mapping[str, str] = ENVIRON, **sections: Any
) -> AsyncIterator[Sidecar]:
    sidecar = Sidecar(load(settings(folder, providers, **sections), environ), environ)
    await sidecar.start()
    try:
        yield sidecar
    finally:
        await sidecar.stop()
    assert not sidecar.hub.clients
    assert not sidecar.hub.upstreams
    assert sidecar.hub.exchanges == 0


async def client_of(sidecar: Sidecar, *, receive_buffer: int | None = None) -> Peer:
    return await connect(sidecar.proxy_addresses[0], receive_buffer=receive_buffer)


async def until(condition: Callable[[], bool], what: str) -> None:
    """Pass the loop on until the state is there."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + DEADLINE_S
    while not condition():
        assert loop.time() < deadline, f"it did not come about: {what}"
        await asyncio.sleep(0.001)


def host_of(sidecar: Sidecar) -> bytes:
    return b"host: 127.0.0.1:%d\r\n" % sidecar.proxy_addresses[0][1]


def get(sidecar: Sidecar, path: bytes = b"/local/v1/models", more: bytes = b"", method: bytes = b"GET") -> bytes:
    return method + b" " + path + b" HTTP/1.1\r\n" + host_of(sidecar) + more + b"\r\n"


def post(sidecar: Sidecar, body: bytes, path: bytes = b"/local/v1/chat/completions", more: bytes = b"") -> bytes:
    return get(sidecar, path, b"content-length: %d\r\n" % len(body) + more, b"POST") + body
