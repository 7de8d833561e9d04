"""An exchange as layers see it: the relay's own, between fake transports, stopped where its owner is asked."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import yaml

from ext.relay_rig import FakePool, FakeTransport
from outrider.config import load
from outrider.govern.limits import memory_ledger
from outrider.secrets.placeholder import Placeholder
from outrider.snapshot import Shared, Snapshot
from outrider.stack.call import Call
from outrider.telemetry.log import JsonLog
from outrider.telemetry.metrics import Metrics
from outrider_ext.callers import Caller
from outrider_ext.limits import Clock
from outrider_ext.relay import Downstream, Exchange, Hub, Owner, Upstream

REQUEST_ID = b"0000000000000001"
PROXY = ("127.0.0.1", 8484)


def origin(kind: str = "forward", **more: Any) -> SimpleNamespace:
    """How the connection got in (door.Origin)."""
    return SimpleNamespace(
        **{"kind": kind, "host": None, "port": None, "tls": False, "address": None, "caller": Caller()} | more
    )


class Stopped(Owner):
    """Keeps the exchange that came, and decides nothing."""

    def __init__(self) -> None:
        self.exchange: Exchange | None = None
        self.answer: Callable[[Exchange], None] = lambda x: None
        self.end: Callable[[Exchange], None] = lambda x: None

    def on_request(self, x: Exchange) -> None:
        self.exchange = x

    def on_answer(self, x: Exchange) -> bytes:
        self.answer(x)
        return b""

    def on_end(self, x: Exchange) -> None:
        self.end(x)


def exchange(request: bytes, came: Any = None, *, body: bytes | None = b"") -> Exchange:
    """From a request's head. body: as if it had been held."""
    owner = Stopped()
    hub = Hub(owner, None)  # type: ignore[arg-type]
    FakeTransport(Downstream(hub, came if came is not None else origin())).give(request)
    x = owner.exchange
    assert x is not None
    x.body = body
    x.request_bytes = len(body or b"")
    return x


def answered(
    x: Exchange, answer: bytes, *, on_answer: Callable[[Exchange], None], on_end: Callable[[Exchange], None]
) -> None:
    """The provider gives this answer and closes."""
    hub = x.client.hub
    owner = hub.owner
    assert isinstance(owner, Stopped)
    owner.answer, owner.end = on_answer, on_end
    connection = Upstream(hub, FakePool(SimpleNamespace()))  # type: ignore[arg-type]
    wire = FakeTransport(connection)
    x.forward(connection, b"", b"", None)
    wire.give(answer)
    if not x.ended:
        wire.give_eof()
    assert x.ended


def snapshot(
    folder: Path,
    providers: dict[str, Any],
    *,
    environ: dict[str, str] | None = None,
    clock: Clock | None = None,
    **sections: Any,
) -> Snapshot:
    """A configuration's routes and layers, without listeners."""
    path = folder / "outrider.yaml"
    path.write_text(yaml.safe_dump({"version": 1, "providers": providers, **sections}))
    environ = environ if environ is not None else {}
    metrics, log = Metrics(), JsonLog("off")
    shared = Shared(
        metrics=metrics,
        log=log,
        placeholder=Placeholder.open(folder),
        ledger=memory_ledger(metrics, log, clock),
        environ=environ,
        context_for=lambda name: None,  # type: ignore[arg-type, return-value]
        hub=Hub(None, None),  # type: ignore[arg-type]
        listeners=(PROXY,),
    )
    return Snapshot(load(path, environ), shared)


def call(route: Any) -> Call:
    return Call(route, REQUEST_ID)
