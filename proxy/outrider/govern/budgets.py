"""Periods of a calendar, in a time zone, as budgets count by them.

Rules: a period is named by its start in UTC (ISO 8601), so names sort by time; days and months begin at the zone's own
midnight, also where summer time begins at it; a day may have 23 or 25 hours.
Does not know: amounts, stores, clocks.
"""

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

UNITS = ("minute", "hour", "day", "month")
_NS = 1_000_000_000
_FIXED_S = {"minute": 60, "hour": 3600}

type Period = tuple[str, int, int]  # name, start and end in wall-clock ns


class Periods:
    """of(wall_ns) -> (name, start_ns, end_ns); start <= wall < end. Raises: ValueError for an unknown zone or unit."""

    def __init__(self, unit: str, time_zone: str = "UTC") -> None:
        if unit not in UNITS:
            raise ValueError(f"a period is one of {', '.join(UNITS)}, not {unit!r}")
        self.unit = unit
        self._zone = zone_of(time_zone)

    def of(self, wall_ns: int) -> Period:
        local = datetime.fromtimestamp(wall_ns // _NS, self._zone)
        if self.unit in _FIXED_S:
            return self._fixed(local, wall_ns)
        first = datetime(local.year, local.month, local.day if self.unit == "day" else 1, tzinfo=self._zone)
        start, end = _instant(first), _instant(self._next(first))
        if end <= local.astimezone(UTC):  # midnight came twice: the second one ends the day
            start, end = end, _instant(self._next(self._next(first)))
        return _named(start, end)

    def _next(self, first: datetime) -> datetime:
        day = first.replace(tzinfo=None)
        after = (
            day + timedelta(days=1) if self.unit == "day" else (day.replace(day=28) + timedelta(days=4)).replace(day=1)
        )
        return after.replace(tzinfo=self._zone)

    def _fixed(self, local: datetime, wall_ns: int) -> Period:
        """Hours of a zone whose offset is not whole begin with its own clock."""
        length_s = _FIXED_S[self.unit]
        offset = local.utcoffset() or timedelta()
        into_s = (wall_ns // _NS + int(offset.total_seconds())) % length_s
        start = datetime.fromtimestamp(wall_ns // _NS - into_s, UTC)
        return _named(start, start + timedelta(seconds=length_s))


@lru_cache(maxsize=64)
def zone_of(name: str) -> ZoneInfo:
    """Raises: ValueError."""
    try:
        return ZoneInfo(name)
    except (OSError, ValueError) as exc:  # ZoneInfoNotFoundError is a KeyError, below
        raise ValueError(f"is not a time zone of this machine: {name!r}") from exc
    except KeyError as exc:
        raise ValueError(f"is not a time zone of this machine: {name!r}") from exc


def _instant(local: datetime) -> datetime:
    """A midnight that summer time skips is the moment at which it does."""
    return local.astimezone(UTC)


def _named(start: datetime, end: datetime) -> Period:
    return f"{start:%Y-%m-%dT%H:%M:%SZ}", int(start.timestamp()) * _NS, int(end.timestamp()) * _NS
