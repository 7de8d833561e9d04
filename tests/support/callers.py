"""Principals that show a virtual key each."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from outrider.govern.virtual_keys import HASH_PREFIX, KeyHasher, new_key


def with_keys(folder: Path, teams: Mapping[str, str]) -> tuple[dict[str, Any], dict[str, bytes]]:
    """(sections of the configuration, the header line that each shows). teams: principal -> its team."""
    hasher = KeyHasher.open(folder / "hmac.key", create=True)
    keys = {name: new_key().encode() for name in teams}
    principals = [
        {"id": name, "team": team, "from": {"keys": [{"hash": HASH_PREFIX + hasher.hash_of(keys[name]).hex()}]}}
        for name, team in teams.items()
    ]
    sections = {"virtual_keys": {"hmac_key": str(folder / "hmac.key")}, "principals": principals}
    return sections, {name: b"authorization: Bearer %b\r\n" % key for name, key in keys.items()}
