"""Limits and budgets of calls with several targets: whoever serves is charged, by the counters and each one's journal."""

from pathlib import Path
from typing import Any

import pytest

from lanes.test_dispatch_wire import Ride, ride, status
from outrider.mock.behaviour import Behaviour
from support.running import total, until

pytestmark = pytest.mark.asyncio


def counted(r: Ride, kind: type) -> dict[tuple[str, str], Any]:
    """The rows of that kind that exist, by (name, key)."""
    rows = r.sidecar.snapshot.rules._rows.values()
    return {(row.name, row.key): row for row in rows if isinstance(row, kind)}
