"""What is remembered of questions is bounded, and never compared across buckets."""

import random

from outrider.store.vectors import Vectors
from outrider_ext.nearest import unit


def vector(*numbers: float) -> bytes:
    packed = unit(list(numbers))
    assert packed is not None
    return packed


EAST, NORTH = vector(1, 0), vector(0, 1)


def test_the_nearest_of_a_bucket_is_found_and_none_of_another() -> None:
    held = Vectors(10)
    held.put(b"b", b"east", EAST)
    held.put(b"b", b"north", NORTH)
    held.put(b"other", b"k", vector(1, 1))
    assert held.nearest(b"b", vector(2, 1))[:1] == (b"east",)  # type: ignore[index]
    assert held.nearest(b"nobody", EAST) is None
    assert held.nearest(b"b", vector(1, 0, 0)) is None
    held.drop(b"east")
    assert held.nearest(b"b", vector(2, 1))[:1] == (b"north",)  # type: ignore[index]
    assert held.get(b"east") is None
    assert held.get(b"north") == (b"b", NORTH)


def test_the_one_unused_for_longest_goes_first() -> None:
    held = Vectors(2)
    held.put(b"1", b"a", EAST)
    held.put(b"2", b"b", EAST)
    held.nearest(b"1", EAST)
    held.put(b"3", b"c", EAST)
    assert (len(held), held.get(b"b")) == (2, None)
    assert held.get(b"a") is not None


def test_whatever_comes_and_goes_no_bucket_stays_behind_and_no_row_is_another_keys() -> None:
    chance, held, known = random.Random(5), Vectors(20), {}
    for _ in range(3000):
        key, bucket = b"%d" % chance.randrange(40), b"%d" % chance.randrange(5)
        if chance.random() < 0.6:
            known[key] = (bucket, vector(chance.random() + 0.1, chance.random()))
            held.put(bucket, key, known[key][1])
        else:
            held.drop(key)
            known.pop(key, None)
        assert len(held) <= 20
        assert all(held.get(key) in (None, known.get(key)) for key in known)
    for key in list(known):
        held.drop(key)
    assert (len(held), held._buckets) == (0, {})
