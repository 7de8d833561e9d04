"""An exchange as layers see it, from the bytes of a request: a real head, and no connection behind it."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import yaml

from outrider.config import load
from outrider.secrets.placeholder import Placeholder
from outrider.snapshot import Shared, Snapshot
from outrider.stack.call import Call
from outrider.stack.request_limits import Buckets
from outrider.telemetry.log import JsonLog
from outrider.telemetry.metrics import Metrics
from outrider_ext.http1 import Head

REQUEST_ID = b"0000000000000001"
PROXY = ("127.0.0.1", 8484)


def origin(kind: str = "forward", **more: Any) -> SimpleNamespace:
    """How the connection got in (door.Origin)."""
    return SimpleNamespace(**{"kind": kind, "host": None, "port": None, "tls": False, "address": None} | more)


def exchange(request: bytes, came: Any = None, *, body: bytes | None = b"") -> Any:
    """From a request's head."""
    head = Head()
    assert head.scan_request(request, 0, 65536) == len(request)
    return SimpleNamespace(
        client=SimpleNamespace(origin=came if came is not None else origin()),
        head=head,
        method=head.method,
        target=head.target,
        body=body,
        allow_upgrade=False,
        request_bytes=len(body or b""),
    )


def answered(x: Any, head: bytes) -> Any:
    """The same exchange with its answer's head."""
    answer = Head()
    assert answer.scan_response(head, 0, 65536) == len(head)
    x.answer_head, x.status, x.answer_started = answer, answer.status, True
    return x


def snapshot(
    folder: Path, providers: dict[str, Any], *, environ: dict[str, str] | None = None, **sections: Any
) -> Snapshot:
    """A configuration's routes and layers, without listeners."""
    path = folder / "outrider.yaml"
    path.write_text(yaml.safe_dump({"version": 1, "providers": providers, **sections}))
    environ = environ if environ is not None else {}
    shared = Shared(
        metrics=Metrics(),
        log=JsonLog("off"),
        placeholder=Placeholder.open(folder),
        buckets=Buckets(),
        environ=environ,
        context_for=lambda name: None,  # type: ignore[arg-type, return-value]
        hub=SimpleNamespace(upstreams=set()),  # type: ignore[arg-type]
        listeners=(PROXY,),
    )
    return Snapshot(load(path, environ), shared)


def call(route: Any) -> Call:
    return Call(route, REQUEST_ID)
