"""What pricing a usage costs: python -m bench.bench_tariff"""

from bench.cases import Case, run_alone
from outrider_ext.tariff import PARTS, Tariff
from outrider_ext.tokens import Usage

ROW = (150, 75, 150, 150, 600, 600, 150, 600, 75, 0)
PLAIN = Usage(1000, 500)
PARTED = Usage(1000, 500, 300, 200, 100)
assert len(ROW) == len(PARTS)


def small() -> Tariff:
    return Tariff(((-1, ROW),), 1)


def stepped() -> Tariff:
    return Tariff(((-1, ROW), (500, tuple(2 * price for price in ROW))), 1)


CASES = (
    Case("plain", small, lambda tariff: tariff.cost(PLAIN), lambda tariff, cost: cost == 450_000),
    Case("cached and thought", small, lambda tariff: tariff.cost(PARTED), lambda tariff, cost: cost == 427_500),
    Case("a long input's step", stepped, lambda tariff: tariff.cost(PLAIN), lambda tariff, cost: cost == 900_000),
    Case("estimate", small, lambda tariff: tariff.estimate(1000, 500), lambda tariff, cost: cost == 450_000),
)

if __name__ == "__main__":
    raise SystemExit(run_alone(__file__))
