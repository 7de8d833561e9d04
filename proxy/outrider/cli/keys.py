"""`outrider keys new`: a virtual key for one principal, and the line for the configuration that lets it in.
`outrider keys revoke`: keys that open nothing any more, at once and wherever the state is shared.

Rules: a key goes to standard output once and is kept nowhere; configuration holds a keyed hash. A key itself is never
an argument (arguments are seen by every process): what names it is its hash. `new` changes nothing but the hashing key,
which is made at first use; `revoke` writes to the fleet's store and to `virtual_keys.revoked_file`, where configuration
has them.
"""

import argparse
import asyncio
import os
import re
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from outrider.cli.arguments import actions_of, add_config
from outrider.config import Config, load
from outrider.config.values import moment
from outrider.errors import StartError
from outrider.govern.virtual_keys import HASH_PREFIX, MIN_ID_CHARS, KeyHasher, key_id, new_key
from outrider.secrets.files import reason
from outrider.snapshot import hmac_key_file

HELP = (
    "new: make a virtual key for a principal. The key is printed once, on standard output; the line for the "
    "configuration goes to standard error.\n"
    "revoke: take keys back, by their hashes or all of a principal, in the store that a fleet shares and in "
    "virtual_keys.revoked_file."
)
EXAMPLE = "outrider keys new --principal checkout --expires 90d"

_SPAN = re.compile(r"([1-9][0-9]{0,4})(h|d)")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = actions_of(parser, "new|revoke")
    new = add("new", _make, "make a key", EXAMPLE)
    new.add_argument("--principal", required=True, metavar="ID", help="the id under principals: that the key is for")
    new.add_argument(
        "--expires", metavar="WHEN", help="90d, 12h, a day or a time such as 2027-01-31T12:00:00Z (default: never)"
    )
    revoke = add("revoke", _revoke, "take keys back", "outrider keys revoke 3f9a0c17d2e4 --config outrider.yaml")
    revoke.add_argument("hashes", nargs="*", metavar="HASH", help="a key's hash, or its first 12 or more hex digits")
    revoke.add_argument("--principal", metavar="ID", help="all keys that the configuration lists for this principal")
    for action in (new, revoke):
        add_config(action)


def _make(args: argparse.Namespace) -> int:
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


# -- revoke


def _revoke(args: argparse.Namespace) -> int:
    config = load(args.config, os.environ)
    ids = _named(config, args.hashes, args.principal)
    done = revoke(config, os.environ, ids)
    for one in ids:
        if not any(whole.startswith(one) for whole, _ in _listed(config)):
            print(f"outrider: no key that {_file_of(config)} lists begins with {one}", file=sys.stderr)
    print(f"revoked {', '.join(one[:MIN_ID_CHARS] for one in ids)} in {' and '.join(done)}")
    return 0


def _named(config: Config, hashes: Sequence[str], principal: str | None) -> list[str]:
    """The keys' ids. Raises: StartError."""
    ids = []
    for text in hashes:
        try:
            ids.append(key_id(text))
        except ValueError as exc:
            raise StartError(f"what names a key {exc}", exit_code=2) from exc
    if principal is not None:
        of_principal = [whole for whole, owner in _listed(config) if owner == principal]
        if not of_principal:
            raise StartError(f"{_file_of(config)} lists no key of a principal {principal!r}", exit_code=2)
        ids += of_principal
    if not ids:
        raise StartError("name what is to be revoked: the hash of a key, or --principal ID", exit_code=2)
    return list(dict.fromkeys(ids))


def _listed(config: Config) -> list[tuple[str, str]]:
    """(whole hash in hex, principal) of every key."""
    return [(key.hash.removeprefix(HASH_PREFIX), one.id) for one in config.principals for key in one.claims.keys]


def revoke(config: Config, environ: Mapping[str, str], ids: Sequence[str]) -> list[str]:
    """Where it was written, in words. Raises: StartError where it could be written nowhere, or not everywhere."""
    path, url = config.virtual_keys.revoked_file, config.state.url
    if url.kind != "redis" and path is None:
        listed = ", ".join(one[:MIN_ID_CHARS] for one in ids)
        raise StartError(
            f"{_file_of(config)} has neither a virtual_keys.revoked_file nor a state that a fleet shares; add "
            f"{listed} to virtual_keys.revoked there, which is read at once",
            exit_code=2,
        )
    done = []
    if path is not None:
        _append(path, ids)
        done.append(str(path))
    if url.kind == "redis":
        from outrider.store.opening import revoke_in_fleet

        asyncio.run(revoke_in_fleet(config, environ, ids))
        done.append(f"the fleet ({url})")
    return done


def _append(path: Path, ids: Sequence[str]) -> None:
    """One write, so that whoever reads the file meanwhile sees whole lines. Raises: StartError."""
    now = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
    try:
        with path.open("ab") as file:
            lead = b"" if file.tell() == 0 or path.read_bytes()[-1:] == b"\n" else b"\n"
            file.write(lead + "".join(f"{one}  # revoked {now}\n" for one in ids).encode("ascii"))
    except OSError as exc:
        raise StartError(f"virtual_keys.revoked_file {path} cannot be written: {reason(exc)}") from exc


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
