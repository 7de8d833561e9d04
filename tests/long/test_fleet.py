"""Twenty processes share one limit through Redis while faults are injected."""

import asyncio
import multiprocessing
import random
import time
from pathlib import Path
from typing import Any

import pytest

from outrider.secrets.secret import Secret
from outrider.store.base import NEEDS_LEASE
from outrider.store.redis import RedisSettings, RedisStore
from store.servers import running

SIDECARS = 20
LIMIT = 200_000  # a minute, and as a burst
MINUTE_NS = 60_000_000_000
SPAWN = multiprocessing.get_context("spawn")


def _sidecar(port: int, seconds: float, seed: int, go: Any, results: Any) -> None:
    """Saturates the limit with costs from 1 to 9; tells (admitted while the store answered, in all, late)."""
    rng = random.Random(seed)
    events: dict[str, int] = {}

    def count(event: str) -> None:
        events[event] = events.get(event, 0) + 1

    async def run() -> tuple[int, int, dict[str, int]]:
        settings = RedisSettings((("127.0.0.1", port),), fleet_key=Secret(b"k"), lease_s=3.0)
        store = RedisStore(settings, count=count)
        await store.start()
        counter: Any = store.counter(
            "limit", "k", algorithm="token-bucket", count=LIMIT, period_ns=MINUTE_NS, burst=LIMIT
        )
        while store.fleet < SIDECARS:
            await asyncio.sleep(0.01)
        go.wait(60)
        leased = alone = 0
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            cost = rng.randint(1, 9)
            for _ in range(3):
                before = events.get("store_error_local", 0)
                answer = counter.take(time.time_ns(), cost)
                if answer == 0:
                    if events.get("store_error_local", 0) > before:
                        alone += cost
                    else:
                        leased += cost
                if answer != NEEDS_LEASE:
                    break
                await counter.borrow(time.time_ns(), cost)
            if answer > 0:
                await asyncio.sleep(min(answer / 1e9, 0.05))
            elif rng.random() < 0.02:
                await asyncio.sleep(0)
        await store.close()
        return leased, alone, events

    results.put(asyncio.run(run()))


@pytest.mark.long
@pytest.mark.parametrize("faults", [False, True], ids=["quiet", "faults"])
def test_twenty_processes_never_spend_more_than_limit_and_burst(tmp_path: Path, faults: bool) -> None:
    seconds = 20.0
    with running(tmp_path / "redis") as server:
        go, results = SPAWN.Barrier(SIDECARS + 1), SPAWN.Queue()
        processes = [
            SPAWN.Process(target=_sidecar, args=(server.port, seconds, seed, go, results)) for seed in range(SIDECARS)
        ]
        for process in processes:
            process.start()
        go.wait(120)
        began = time.monotonic()
        lost = 0
        if faults:
            for step, command in enumerate([("SCRIPT", "FLUSH"), ("CLIENT", "PAUSE", "700", "ALL"), ("FLUSHALL",)]):
                while time.monotonic() < began + 4 * (step + 1):
                    time.sleep(0.05)
                server.call(*command)
                lost += command == ("FLUSHALL",)
        found = [results.get(timeout=120) for _ in processes]
        passed = time.monotonic() - began
        for process in processes:
            process.join(60)
            process.close()
        results.close()
        results.join_thread()
    leased, alone = sum(one[0] for one in found), sum(one[1] for one in found)
    whole = LIMIT + LIMIT * passed / 60
    print(f"\n20 processes, {passed:.1f} s: {leased} of {whole:.0f} ({100 * leased / whole:.2f} %), alone {alone}")
    assert leased <= whole + lost * LIMIT * 1.25
    assert alone <= LIMIT * (1 + passed / 60)  # each at most its share of the limit
    if not faults:
        assert leased + alone >= 0.99 * (LIMIT + LIMIT * seconds / 60)
