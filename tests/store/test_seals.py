"""Values that a fleet alone can write."""

from outrider.store.seals import Seals


def test_a_value_is_opened_by_the_same_fleet_for_the_same_purpose_in_the_same_place_only() -> None:
    one, same = Seals(b"key", b"purpose"), Seals(b"key", b"purpose")
    sealed = one.seal(b"place", b"data")
    assert same.open(b"place", sealed) == b"data"
    assert b"data" not in sealed
    assert sealed != one.seal(b"place", b"data")
    for other, place in (
        (one, b"elsewhere"),
        (Seals(b"key", b"else"), b"place"),
        (Seals(b"else", b"purpose"), b"place"),
    ):
        assert other.open(place, sealed) is None


def test_what_nobody_sealed_is_not_there() -> None:
    one = Seals(b"key", b"purpose")
    sealed = one.seal(b"place", b"data")
    for forged in (b"", b"x", bytes(12), bytes(64), sealed[:-1], sealed[:-1] + bytes([sealed[-1] ^ 1])):
        assert one.open(b"place", forged) is None


def test_what_earlier_versions_sealed_is_opened() -> None:
    sealed = bytes.fromhex("000102030405060708090a0b") + bytes.fromhex("6f4cb5edd37e89d2c91b7550f1dee8d730ab370d")
    assert Seals(b"k" * 32, b"outrider cache").open(b"outrider:c:1", sealed) == b"data"
