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


def _sidecar(port: int, seconds: float, seed: int, patient: bool, results: Any) -> None:
    """Asks for twice its part of the limit, costs from 1 to 9; tells (from, until, by leases, alone).

    patient: a machine with fewer cores than sidecars is late by itself; that is not the store's doing.
    """
    rng = random.Random(seed)
    alone = 0

    def count(event: str) -> None:
        nonlocal alone
        alone += event == "store_error_local"

    async def run() -> tuple[float, float, int, int]:
        nonlocal alone
        store = RedisStore(RedisSettings((("127.0.0.1", port),), fleet_key=Secret(b"k"), lease_s=3.0), count=count)
        if patient:
            store.borrow_s = 2.0
        await store.start()
        counter: Any = store.counter(
            "limit", "k", algorithm="token-bucket", count=LIMIT, period_ns=MINUTE_NS, burst=LIMIT
        )
        while store.fleet < SIDECARS:
            await asyncio.sleep(0.01)
        leased = by_itself = 0
        began = time.monotonic()
        while time.monotonic() < began + seconds:
            for _ in range(6):
                cost = rng.randint(1, 9)
                for _ in range(3):
                    alone = 0
                    answer = counter.take(time.time_ns(), cost)
                    if answer == 0:
                        by_itself += cost if alone else 0
                        leased += 0 if alone else cost
                    if answer != NEEDS_LEASE:
                        break
                    await counter.borrow(time.time_ns(), cost)
            await asyncio.sleep(0.015)
        ended = time.monotonic()
        await store.close()
        return began, ended, leased, by_itself

    results.put(asyncio.run(run()))


@pytest.mark.long
@pytest.mark.parametrize("faults", [False, True], ids=["quiet", "faults"])
def test_twenty_processes_never_spend_more_than_limit_and_burst(tmp_path: Path, faults: bool) -> None:
    seconds = 20.0
    with running(tmp_path / "redis") as server:
        results: Any = SPAWN.SimpleQueue()
        processes = [
            SPAWN.Process(target=_sidecar, args=(server.port, seconds, seed, not faults, results))
            for seed in range(SIDECARS)
        ]
        for process in processes:
            process.start()
        began = time.monotonic() + 5
        lost = 0
        if faults:
            for step, command in enumerate([("SCRIPT", "FLUSH"), ("CLIENT", "PAUSE", "700", "ALL"), ("FLUSHALL",)]):
                while time.monotonic() < began + 4 * (step + 1):
                    time.sleep(0.05)
                server.call(*command)
                lost += command == ("FLUSHALL",)
        found = [results.get() for _ in processes]
        passed = max(one[1] for one in found) - min(one[0] for one in found)
        for process in processes:
            process.join(60)
            process.close()
        results.close()
    leased, alone = sum(one[2] for one in found), sum(one[3] for one in found)
    whole = LIMIT + LIMIT * passed / 60
    print(f"\n20 processes, {passed:.1f} s: {leased} of {whole:.0f} ({100 * leased / whole:.2f} %), alone {alone}")
    assert leased <= whole + lost * LIMIT * 1.25
    assert alone <= LIMIT * (1 + passed / 60)  # each at most its share of the limit
    if not faults:
        assert alone == 0
        assert leased >= 0.99 * (LIMIT + LIMIT * seconds / 60)
