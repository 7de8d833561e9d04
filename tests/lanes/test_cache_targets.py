"""Remembered answers of calls that have several targets, on real sockets."""

from pathlib import Path
from typing import Any

import pytest

from lanes.test_dispatch_wire import Ride, alias, ride
from outrider.mock.behaviour import Behaviour
from support.running import total

CACHE = {"mode": "exact", "stale_if_error_s": 600, "ttl_s": 60}
DOWN = Behaviour(status=503)


def age(ride: Ride, seconds: float) -> None:
    for _, entry in ride.sidecar._shared.cache.memory.items():
        entry.at_ns -= int(seconds * 1e9)


def said(head: bytes) -> bytes:
    return head.lower().partition(b"x-outrider-cache: ")[2].partition(b"\r\n")[0]


@pytest.mark.parametrize("fields", [{}, {"stream": True}], ids=["plain", "stream"])
async def test_an_answer_of_any_target_is_remembered_for_the_alias(tmp_path: Path, fields: dict[str, Any]) -> None:
    async with ride(tmp_path, alias(), cache=CACHE) as sidecar:
        sidecar.one.draw = lambda: DOWN  # the second one serves it
        head, first = await sidecar.ask(temperature=0, **fields)
        assert (head[9:12], said(head)) == (b"200", b"miss")
        asked = sidecar.calls
        head, again = await sidecar.ask(temperature=0, **fields)
        assert (said(head), again, sidecar.calls) == (b"hit", first, asked)
        assert {entry.model for _, entry in sidecar.sidecar._shared.cache.memory.items()} == {"smart"}


async def test_when_all_targets_fail_what_is_old_is_given(tmp_path: Path) -> None:
    async with ride(tmp_path, alias(), cache=CACHE) as sidecar:
        _, first = await sidecar.ask(temperature=0)
        age(sidecar, 100)
        sidecar.one.draw = sidecar.two.draw = lambda: DOWN
        head, body = await sidecar.ask(temperature=0)
        assert (said(head), body, head[9:12]) == (b"stale", first, b"200")
        assert sidecar.calls[0] > 1
        age(sidecar, 1000)
        head, _ = await sidecar.ask(temperature=0)
        assert head[9:12] == b"503"
        assert total(sidecar.sidecar, "outrider_cache_total", result="stale") == 1
