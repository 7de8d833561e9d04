"""Unix time and RFC 3339, whatever a provider wrote.

Does not know: clocks other than the system's.
"""

from datetime import UTC, datetime
from typing import Any

__all__ = ["iso", "seconds"]


def seconds(value: Any) -> int | None:
    """RFC 3339, nanoseconds included -> Unix time; None for what is not one."""
    if type(value) is not str:
        return None
    try:
        return int(datetime.fromisoformat(value).timestamp())
    except (ValueError, OverflowError):
        return None


def iso(created_s: int | None) -> str:
    """None is now. Milliseconds, which some servers write for seconds, are taken as such."""
    try:
        when = datetime.now(UTC) if created_s is None else datetime.fromtimestamp(created_s, UTC)
    except (ValueError, OverflowError, OSError):
        try:
            when = datetime.fromtimestamp((created_s or 0) // 1000, UTC)
        except (ValueError, OverflowError, OSError):
            when = datetime.now(UTC)
    return when.isoformat().replace("+00:00", "Z")
