"""The room where callers wait: bounded, fair by principal, by priority, and a place is given up by leaving."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from outrider.errors import RateLimitedError
from outrider.govern.queues import Room


class Tap:
    """Lets in as many as it has; who waits asks again when poked."""

    def __init__(self, cap: int = 100) -> None:
        self.room, self.open, self.order = Room(cap), 0, list[str]()

    def enter(self, who: str, *, priority: int = 0, max_wait_s: float = 60, is_gone: Callable[[], bool] = bool) -> Any:
        def attempt() -> int | None:
            if not self.open:
                return 0
            self.open -= 1
            self.order.append(who)
            return None

        principal = who.rstrip("0123456789")
        return asyncio.ensure_future(self.room.enter(principal, priority, max_wait_s, attempt, is_gone))

    async def let_in(self, count: int) -> None:
        await asyncio.sleep(0)
        self.open += count
        self.room.poke()
        await asyncio.sleep(0)
        await asyncio.sleep(0)


async def test_principals_take_turns_and_each_one_s_calls_stay_in_order() -> None:
    tap = Tap()
    waiting = [tap.enter(who) for who in ("a1", "a2", "a3", "a4", "b1", "c1", "b2")]
    for _ in waiting:
        await tap.let_in(1)
    assert tap.order == ["a1", "b1", "c1", "a2", "b2", "a3", "a4"]
    assert await asyncio.gather(*waiting) == [True] * 7
    assert tap.room.waiting == 0


async def test_a_higher_priority_goes_first() -> None:
    tap = Tap()
    waiting = [tap.enter("low", priority=-5), tap.enter("mid"), tap.enter("high", priority=9)]
    await tap.let_in(3)
    assert tap.order == ["high", "mid", "low"]
    await asyncio.gather(*waiting)


async def test_who_leaves_gives_the_place_up() -> None:
    tap = Tap()
    first, second = tap.enter("a1"), tap.enter("b1")
    await asyncio.sleep(0)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    assert tap.room.waiting == 1
    await tap.let_in(1)
    assert tap.order == ["b1"]
    assert await second


async def test_nothing_is_taken_for_a_client_that_is_gone() -> None:
    """The exchange ended, and its task was not told yet."""
    tap = Tap()
    gone = tap.enter("a1", is_gone=lambda: True)
    other = tap.enter("b1")
    await tap.let_in(1)
    assert tap.order == ["b1"]
    assert await other
    gone.cancel()
    await asyncio.gather(gone, return_exceptions=True)
    assert tap.room.waiting == 0


async def test_who_waits_too_long_is_told_so() -> None:
    tap = Tap()
    assert not await tap.enter("a1", max_wait_s=0.001)
    assert tap.room.waiting == 0


async def test_a_refusal_of_another_limit_reaches_the_one_who_waits() -> None:
    room = Room(5)

    def attempt() -> int | None:
        raise RateLimitedError("no", 1)

    with pytest.raises(RateLimitedError):
        await room.enter("a", 0, 60, attempt, bool)
    assert room.waiting == 0


async def test_time_alone_lets_in() -> None:
    room, asked = Room(5), []

    def attempt() -> int | None:
        asked.append(1)
        return 1_000_000 if len(asked) < 3 else None

    assert await room.enter("a", 0, 60, attempt, bool)
    assert len(asked) == 3


def test_a_full_room_is_full() -> None:
    room = Room(2)
    assert not room.is_full
    room.waiting = 2
    assert room.is_full
