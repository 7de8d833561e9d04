"""Exchanges through the layers of one configuration, with a clock that stands still until it is moved."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from outrider.errors import SidecarError
from outrider.govern.principal import Principal
from outrider.stack.call import Call
from outrider_ext.limits import Clock
from support.exchanges import REQUEST_ID, answered, exchange, snapshot

SECOND = 1_000_000_000
NOON_NS = 1_790_000_000 * SECOND  # 2026-09-21T14:13:20Z
LOCAL = {"kind": "openai", "hosts": ["llm.internal"], "connect_to": "http://127.0.0.1:9"}
CHAT = "/local/v1/chat/completions"


class World:
    """One sidecar's layers. `local` is an OpenAI-like provider; sections are the configuration's."""

    def __init__(self, folder: Path, *, providers: dict[str, Any] | None = None, **sections: Any) -> None:
        self.folder = folder
        self.clock = Clock(NOON_NS)
        self.snapshot = snapshot(folder, providers or {"local": LOCAL}, clock=self.clock, **sections)
        self.ledger = self.snapshot.rules.ledger
        self.ledger.use(self.snapshot.rules, 100_000)
        self.metrics = self.ledger.metrics
        self.ended = 0

    def go(self, seconds: float) -> None:
        self.clock.fixed_ns += int(seconds * SECOND)

    # -- one exchange

    def ask(
        self,
        *,
        model: str | None = "m",
        principal: Principal | None = None,
        path: str = CHAT,
        method: str = "POST",
        body: bytes | None = None,
        **fields: Any,
    ) -> "Asked":
        """Up to its sending. Raises what a layer refuses with; then everything is settled already."""
        if body is None:
            named = {"model": model} if model is not None else {}
            body = json.dumps({**named, "messages": [{"role": "user", "content": "Hello there"}], **fields}).encode()
        head = f"{method} {path} HTTP/1.1\r\nhost: 127.0.0.1:8484\r\ncontent-length: {len(body)}\r\n\r\n"
        x = exchange(head.encode() + body, body=body)
        route = self.snapshot.router.find(x)
        call = Call(route, REQUEST_ID)
        asked = Asked(self, x, call)
        try:
            identify, *others = (*route.request_hooks, *route.body_hooks)
            identify(x, call)
            call.principal = principal or call.principal
            for hook in others:
                assert hook(x, call) is None, "this one waits"
        except SidecarError as error:
            call.error = error
            asked.refuse(error)
            raise
        return asked

    def refusal(self, **how: Any) -> SidecarError:
        try:
            asked = self.ask(**how)
        except SidecarError as error:
            return error
        asked.answer()
        raise AssertionError("it was admitted")

    def admitted(self, times: int, **how: Any) -> int:
        """How many of so many calls are admitted, left open."""
        count = 0
        for _ in range(times):
            try:
                self.ask(**how)
            except SidecarError:
                continue
            count += 1
        return count


class Asked:
    """A call that was admitted and waits for its answer."""

    def __init__(self, world: World, x: Any, call: Call) -> None:
        self.world, self.x, self.call = world, x, call

    def end(self, x: Any) -> None:
        self.world.ended += 1
        for hook in self.call.route.end_hooks:
            hook(x, self.call)

    def refuse(self, error: SidecarError) -> None:
        self.x.client.hub.owner.end = self.end
        self.x.answer(b"HTTP/1.1 %d No\r\ncontent-length: 0\r\n\r\n" % error.status, error.status)

    def answer(self, given: int = 10, made: int = 5, *, model: str = "m", status: int = 200, **usage: Any) -> Call:
        """The provider answers and says what it used."""
        told = {"prompt_tokens": given, "completion_tokens": made, "total_tokens": given + made, **usage}
        return self.raw(json.dumps({"model": model, "choices": [], "usage": told}).encode(), status=status)

    def raw(self, body: bytes, *, status: int = 200, headers: str = "") -> Call:
        lines = f"HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n{headers}\r\n"

        def on_answer(x: Any) -> None:
            for hook in self.call.route.answer_hooks:
                hook(x, self.call)

        answered(self.x, lines.encode() + body, on_answer=on_answer, on_end=self.end)
        return self.call

    def leave(self, *, sent: bool) -> Call:
        """The client is gone, before or after the request was sent."""
        self.x.client.hub.owner.end = self.end
        if sent:
            answered_none(self)
        else:
            self.x.client.connection_lost(None)
        assert self.x.ended
        return self.call


def answered_none(asked: Asked) -> None:
    """It was sent, and the client left before an answer came."""
    from ext.relay_rig import FakePool, FakeTransport
    from outrider_ext.relay import Upstream

    x = asked.x
    connection = Upstream(x.client.hub, FakePool(SimpleNamespace()))  # type: ignore[arg-type]
    FakeTransport(connection)
    x.forward(connection, b"", b"", None)
    x.client.connection_lost(None)
