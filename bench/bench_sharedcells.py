"""What counting in memory that several workers share costs: python -m bench.bench_sharedcells"""

import mmap

from bench.bench_counters import MOST, NOW_NS, slot, taking
from bench.cases import Case, run_alone
from outrider_ext import sharedcells
from outrider_ext.sharedcells import Handle, Segment

CELLS, SLOTS = 1024, 1024
PERIOD_NS = 10**9


def handle(kind: int) -> Handle:
    """Memory without a name or a descriptor, which goes with the last who has it."""
    memory = mmap.mmap(-1, sharedcells.segment_bytes(CELLS, SLOTS))
    segment = Segment(memory, CELLS, SLOTS, 0, lambda: None, lambda: None)
    found = segment.find(kind == sharedcells.SLOTS, 1, 2, kind, NOW_NS)
    assert found is not None
    return found


CASES = (
    taking("token bucket, shared", lambda: sharedcells.SharedBucket(handle(sharedcells.BUCKET), MOST, PERIOD_NS, MOST)),
    taking("fixed window, shared", lambda: sharedcells.SharedFixedWindow(handle(-2 - PERIOD_NS), MOST, PERIOD_NS)),
    taking("sliding window, shared", lambda: sharedcells.SharedSlidingWindow(handle(-2 - PERIOD_NS), MOST, PERIOD_NS)),
    Case(
        "a slot, shared, taken and freed",
        lambda: sharedcells.SharedSlots(handle(sharedcells.SLOTS), 1),
        slot,
        lambda slots, taken: taken and slots.in_use == 0,
    ),
    Case(
        "a sum, shared",
        lambda: sharedcells.SharedSum(handle(sharedcells.SUM)),
        lambda total: total.add(1),
        lambda total, value: value > 0,
    ),
)

if __name__ == "__main__":
    raise SystemExit(run_alone(__file__))
