"""`outrider keys new`: a virtual key for one principal, and the line for the configuration that lets it in.

Rules: the key goes to standard output once and is kept nowhere; what configuration holds is a keyed hash. Nothing is
changed but the hashing key, which is made at first use.
"""

import argparse
import os
import re
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

from outrider.config import Config, load
from outrider.config.values import moment
from outrider.errors import StartError
from outrider.govern.virtual_keys import HASH_PREFIX, KeyHasher, new_key
from outrider.snapshot import hmac_key_file

HELP = (
    "Make a virtual key for a principal. The key is printed once, on standard output; the line for the configuration "
    "goes to standard error."
)
EXAMPLE = "outrider keys new --principal checkout --expires 90d"

_SPAN = re.compile(r"([1-9][0-9]{0,4})(h|d)")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", choices=("new",), help="new: make a key")
    parser.add_argument("--principal", required=True, metavar="ID", help="the id under principals: that the key is for")
    parser.add_argument(
        "--expires", metavar="WHEN", help="90d, 12h, a day or a time such as 2027-01-31T12:00:00Z (default: never)"
    )
    parser.add_argument("--config", type=Path, metavar="FILE", help="the configuration (default: as `outrider run`)")


def run(args: argparse.Namespace) -> int:
    config = load(args.config, os.environ)
    expires = _expiry(args.expires, datetime.now(UTC))
    hasher = KeyHasher.open(hmac_key_file(config), create=True)
    key = new_key()
    line = f"{{hash: {HASH_PREFIX}{hasher.hash_of(key.encode('ascii')).hex()}"
    line += f", expires: {expires:%Y-%m-%dT%H:%M:%SZ}}}" if expires is not None else "}"
    known = any(entry.id == args.principal for entry in config.principals)
    target = f"the principal {args.principal}" if known else f"a new principal with id: {args.principal}"
    said = f"outrider: add this to {target} in {_file_of(config)}; the key itself is not shown again"
    print(f"{said}\n    from:\n      keys:\n        - {line}", file=sys.stderr)
    print(key)
    return 0


def _file_of(config: Config) -> str:
    return str(config.path) if config.path is not None else "outrider.yaml"


def _expiry(text: str | None, now: datetime) -> datetime | None:
    """Raises: StartError."""
    if text is None:
        return None
    span = _SPAN.fullmatch(text)
    try:
        found = now + timedelta(**{{"h": "hours", "d": "days"}[span[2]]: int(span[1])}) if span else moment(text)
    except ValueError:
        raise StartError(
            f"--expires is {text!r}; write a span (90d, 12h), a day or a time such as 2027-01-31T12:00:00Z", exit_code=2
        ) from None
    if found <= now:
        raise StartError(f"--expires is {text!r}, which has passed; the key would open nothing", exit_code=2)
    return found.astimezone(UTC)
