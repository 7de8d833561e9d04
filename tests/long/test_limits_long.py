"""100,000 exchanges that end in every way: no slot is left taken, no token missing, nothing open in a budget."""

import random
from pathlib import Path

import pytest

from outrider.errors import SidecarError
from outrider.govern.principal import Principal
from support.governed import World

EXCHANGES = 100_000
TEAMS = [Principal(f"p{number}", team=f"t{number % 3}") for number in range(9)]


@pytest.mark.long
def test_no_slot_is_leaked_after_100_000_exchanges(tmp_path: Path) -> None:
    w = World(
        tmp_path,
        limits=[
            {"name": "slots", "key": ["principal.team"], "concurrent": 20},
            {"name": "model-slots", "key": ["model"], "concurrent": 30},
            {"name": "rpm", "key": [], "requests": "2000/s"},
            {"name": "tpm", "key": [], "tokens": "50000000/h"},
        ],
        budgets=[{"name": "day", "key": [], "usd": "100000/day", "unpriced": "allow"}],
        prices={"local/a": {"input": 1, "output": 2}, "local/b": {"input": 1, "output": 2}},
    )
    dice, open_calls, refused = random.Random(1), [], 0
    for number in range(EXCHANGES):
        w.clock.fixed_ns += dice.randrange(0, 800_000)
        try:
            open_calls.append(w.ask(model=dice.choice("ab"), principal=dice.choice(TEAMS), max_tokens=50))
        except SidecarError:
            refused += 1
        while len(open_calls) > 45 or (open_calls and dice.random() < 0.45):
            asked = open_calls.pop(dice.randrange(len(open_calls)))
            end = number % 5
            if end == 0:
                asked.leave(sent=False)
            elif end == 1:
                asked.leave(sent=True)
            elif end == 2:
                asked.answer(status=500)
            else:
                asked.answer(made=dice.randrange(60))
    for asked in open_calls:
        asked.leave(sent=True)
    assert w.ended == EXCHANGES
    assert 0 < refused < EXCHANGES // 2
    rows = w.snapshot.rules._rows.values()
    assert {row.slots.in_use for row in rows if row.what == "concurrent"} == {0}
    (budget,) = (row for row in rows if row.what == "usd")
    assert budget.open == 0
    w.go(2 * 3600)
    (tokens,) = (row for row in rows if row.what == "tokens")
    assert tokens.counter.remaining(w.clock.fixed_ns) == 50_000_000
