"""An exchange without the kernel: the compiled relay between two transports that only remember what was written.

`Relay` has an owner that does nothing but pass on; `Stack` has the whole product's, from one configuration. Both run
the same exchange again and again on one kept connection to each side.
Rules: only what is public is used, so that the inside of the layers may change; what a layer costs is the difference
between two configurations.
Does not know: sockets, TLS, the loop's own cost.
"""

import tempfile
from collections.abc import Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from bench.samples import OWN_HOST, PLACEHOLDER, PROVIDER_KEY
from outrider.config import load
from outrider.door.contract import Origin
from outrider.govern.limits import memory_ledger
from outrider.lanes.http1 import Desk
from outrider.snapshot import Shared, Snapshot
from outrider.telemetry.audit import AuditLog
from outrider.telemetry.log import JsonLog
from outrider.telemetry.metrics import Metrics
from outrider_ext import http1
from outrider_ext.relay import Downstream, Exchange, Hub, Owner, Upstream

FORWARD = Origin("proxy", "forward", None, None, False, ("127.0.0.1", 50000))
ENVIRON = {
    "BENCH_KEY": PROVIDER_KEY.decode(),
    "AWS_ACCESS_KEY_ID": "AKIABENCH00000000000",
    "AWS_SECRET_ACCESS_KEY": "b" * 40,
}
_HOST, _PORT = OWN_HOST.decode().split(":")
_HOP = http1.mask_of(b"host", b"connection", b"keep-alive", b"proxy-connection", b"te", b"trailer", b"upgrade")


class Wire:
    """A transport whose peer is ready for everything; `sent` holds what was written, a piece a write."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.write = self.sent.append
        self.is_closed = False

    def set_write_buffer_limits(self, high: int) -> None:
        """There is no buffer."""

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default

    def pause_reading(self) -> None:
        """Bytes come when the bench says so; none of its exchanges gets so far that this matters."""

    def resume_reading(self) -> None:
        """See pause_reading."""

    def can_write_eof(self) -> bool:
        return False

    def close(self) -> None:
        self.is_closed = True

    abort = close


class Ends:
    """Both ends of a relay: `run` plays one exchange, `to_provider` and `to_client` are what was written in it."""

    def __init__(self, hub: Hub, reads: Sequence[bytes], answer: Sequence[bytes]) -> None:
        self.hub = hub
        self._reads = tuple(reads)
        self._answer = tuple(answer)
        self._client, self._provider = Wire(), Wire()
        self._downstream: Any = None
        self._upstream: Any = None

    def connect(self, origin: Origin) -> None:
        self._client = Wire()
        self._downstream = Downstream(self.hub, origin)
        self._downstream.connection_made(self._client)

    def open_upstream(self, pool: Any) -> Upstream:
        self._upstream = upstream = Upstream(self.hub, pool)
        upstream.connection_made(self._provider)  # type: ignore[arg-type]
        return upstream

    def run(self) -> None:
        self.say(self._reads)

    def say(self, reads: Sequence[bytes]) -> None:
        """One exchange: what is read from the client, then the answer if the provider was asked."""
        self._client.sent.clear()
        asked = self._provider.sent
        asked.clear()
        receive = self._downstream.data_received
        for piece in reads:
            receive(piece)
        if asked:
            receive = self._upstream.data_received
            for piece in self._answer:
                receive(piece)

    @property
    def to_provider(self) -> bytes:
        return b"".join(self._provider.sent)

    @property
    def to_client(self) -> bytes:
        return b"".join(self._client.sent)

    @property
    def is_kept(self) -> bool:
        """Whether both connections are there for the next exchange, and no exchange is open."""
        return not self._client.is_closed and not self._provider.is_closed and self.hub.exchanges == 0


class Relay(Ends):
    """The relay alone. hold: the request's body is collected first. canary: answers are searched for it."""

    def __init__(
        self, reads: Sequence[bytes], answer: Sequence[bytes], *, hold: bool = False, canary: bytes | None = None
    ) -> None:
        owner = _PassOn(hold, canary)
        super().__init__(Hub(owner, None), reads, answer)  # type: ignore[arg-type]  # only the lane's timers need a loop
        owner.connection = self.open_upstream(self)
        self.connect(FORWARD)

    # -- the pool of one

    def release(self, connection: Upstream) -> None:
        """It is the only one, and ours already."""

    def discard(self, connection: Upstream) -> None:
        raise AssertionError("the provider's connection was closed")


class _PassOn(Owner):
    """An owner that decides nothing."""

    connection: Upstream

    def __init__(self, hold: bool, canary: bytes | None) -> None:
        self._hold = hold
        self._canary = canary

    def on_request(self, x: Exchange) -> None:
        if self._hold and not x.request_complete:
            x.hold(1 << 20)
        else:
            self.on_body(x)

    def on_body(self, x: Exchange) -> None:
        x.forward(self.connection, x.head.build_request(x.target, _HOP, b"host: llm.bench\r\n"), x.body, self._canary)

    def on_answer(self, x: Exchange) -> bytes:
        x.sse = x.answer_head.chunked
        return b""

    def on_failed(self, x: Exchange, kind: str, detail: str) -> None:
        raise AssertionError(f"{kind}: {detail}")

    def on_bad_request(self, client: Downstream, status: int, message: str) -> bytes:
        raise AssertionError(message)


class _NoTimer:
    """The logs' loop: they flush by size and by the pass, as they do under load."""

    def __init__(self) -> None:
        self._soon: list[Any] = []
        self.call_soon = self._soon.append

    def call_later(self, delay: float, callback: Any) -> None:
        """Never."""

    def call_soon_threadsafe(self, callback: Any, *args: Any) -> None:
        raise AssertionError("no thread has anything to say here")

    def turn(self) -> None:
        """What the loop does after it has read from every socket."""
        while self._soon:
            self._soon.pop()()


class Stack(Ends):
    """All layers of one configuration: `sections` is the file's content without its version."""

    def __init__(
        self,
        sections: Mapping[str, Any],
        reads: Sequence[bytes],
        answer: Sequence[bytes],
        *,
        origin: Origin = FORWARD,
    ) -> None:
        super().__init__(Hub(None, None), reads, answer)  # type: ignore[arg-type]
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "outrider.yaml"
            path.write_text(yaml.safe_dump({"version": 1, **sections}), encoding="utf-8")
            config = load(path, ENVIRON)
        self.metrics = Metrics()
        self._loop = _NoTimer()
        self.log = JsonLog(config.telemetry.log, config.telemetry.log_level, loop=self._loop)
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self.audit = self._open_audit(config.telemetry.audit)
        shared = Shared(
            metrics=self.metrics,
            log=self.log,
            placeholder=PLACEHOLDER,
            ledger=memory_ledger(self.metrics, self.log),
            environ=ENVIRON,
            context_for=_no_context,
            hub=self.hub,
            audit=self.audit,
            listeners=((_HOST, int(_PORT)),),
        )
        snapshot = Snapshot(config, shared)
        held_bytes = config.caps.held_body_bytes
        self.hub.owner = Desk(snapshot.router, self.metrics, self.log, _spawn_nothing, held_body_bytes=held_bytes).lane
        # The first exchange makes its route's pool, and leaves; the second finds a connection there.
        self.connect(origin)
        self.say(reads)
        for _, pool in snapshot.pools():
            pool.release(self.open_upstream(pool))
        self._downstream.connection_lost(None)
        self.connect(origin)

    def _open_audit(self, settings: Any) -> AuditLog | None:
        """An audit log goes to a folder of this stack, whatever path config has."""
        if settings.path is None:
            return None
        self._folder = tempfile.TemporaryDirectory()
        here = settings.model_copy(update={"path": Path(self._folder.name) / "log" / "audit.jsonl"})
        audit = AuditLog(here, Path(self._folder.name) / "audit.key", self.metrics, self.log)
        audit.start(self._loop, self.hub)
        return audit

    def say(self, reads: Sequence[bytes]) -> None:
        super().say(reads)
        self._loop.turn()

    def run(self) -> None:
        self.say(self._reads)

    def close(self) -> None:
        if self.audit is not None:
            self.audit.close()
        if self._folder is not None:
            self._folder.cleanup()
        self.log.close()


def _no_context(name: str) -> Any:
    raise AssertionError("nothing is intercepted here")


def _spawn_nothing(coro: Coroutine[Any, Any, None], *, name: str) -> None:
    """No connection is dialled: the pool gets ours."""
    coro.close()
