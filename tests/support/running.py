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
    # One whose opening was overtaken by the stop closes in the next pass of the loop.
    await until(lambda: not sidecar.hub.upstreams, "all connections to providers were closed")
    assert sidecar.hub.exchanges == 0


async def client_of(sidecar: Sidecar, *, receive_buffer: int | None = None) -> Peer:
    return await connect(sidecar.proxy_addresses[0], receive_buffer=receive_buffer)


async def until(condition: Callable[[], bool], what: str, timeout_s: float = DEADLINE_S) -> None:
    """Pass the loop on until the state is there."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout_s
    while not condition():
        assert loop.time() < deadline, f"it did not come about: {what}"
        await asyncio.sleep(0.001)


def host_of(sidecar: Sidecar) -> bytes:
    return b"host: 127.0.0.1:%d\r\n" % sidecar.proxy_addresses[0][1]


def get(sidecar: Sidecar, path: bytes = b"/local/v1/models", more: bytes = b"", method: bytes = b"GET") -> bytes:
    return method + b" " + path + b" HTTP/1.1\r\n" + host_of(sidecar) + more + b"\r\n"


def post(sidecar: Sidecar, body: bytes, path: bytes = b"/local/v1/chat/completions", more: bytes = b"") -> bytes:
    return get(sidecar, path, b"content-length: %d\r\n" % len(body) + more, b"POST") + body


def total(sidecar: Sidecar, name: str, **labels: str) -> float:
    """The sum of a metric's samples with these labels, as /metrics says it."""
    from prometheus_client.parser import text_string_to_metric_families

    families = text_string_to_metric_families(sidecar.metrics.exposition().decode())
    return sum(
        sample.value
        for family in families
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    )


def statuses(sidecar: Sidecar) -> dict[str, int]:
    """How many exchanges were recorded with each status."""
    from prometheus_client.parser import text_string_to_metric_families

    counted: dict[str, int] = {}
    for family in text_string_to_metric_families(sidecar.metrics.exposition().decode()):
        for sample in family.samples:
            if sample.name == "outrider_requests_total":
                status = sample.labels["status"]
                counted[status] = counted.get(status, 0) + int(sample.value)
    return counted
