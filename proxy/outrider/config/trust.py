"""Which configurations found in a working folder may say where secrets and traffic go.

Rules: a file that was only found (not named by --config or $OUTRIDER_CONFIG) came perhaps with somebody's repository;
it may not set what is in RESTRICTED until the user trusted exactly this content at exactly this path. The list of
trusted files counts only while nobody else can write it.
"""

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from outrider.config.problems import KeyPath
from outrider.errors import StartError
from outrider.secrets.files import read_capped, reason, writable_by_others, write_private

MAX_CONFIG_BYTES = 4 << 20
_MAX_TRUST_BYTES = 1 << 20

# "*" stands for any provider's name. Beyond egress and credentials: what would let a web page or a known CA key in, and
# what a library of compiled code reads.
RESTRICTED: tuple[tuple[str, ...], ...] = (
    ("egress",),
    ("upstream", "proxy"),
    ("upstream", "ca"),
    ("ca", "dir"),
    ("telemetry", "audit"),
    ("listen", "allowed_hosts"),
    ("listen", "allowed_origins"),
    ("principals",),
    ("anonymous",),
    ("proxy_token",),
    ("virtual_keys",),
    ("state",),
    ("models",),
    ("cache", "semantic", "onnx"),
    ("providers", "*", "hosts"),
    ("providers", "*", "connect_to"),
    ("providers", "*", "upstream_ca"),
    ("providers", "*", "credential"),
    ("providers", "*", "require_placeholder"),
)


def home_of(environ: Mapping[str, str]) -> Path:
    return Path(environ["HOME"]) if environ.get("HOME") else Path.home()


def trust_list(environ: Mapping[str, str]) -> Path:
    return home_of(environ) / ".outrider" / "trusted"


def _line(path: Path, content: bytes) -> str:
    return f"{hashlib.sha256(content).hexdigest()}  {path.resolve()}"


def is_trusted(path: Path, content: bytes, environ: Mapping[str, str]) -> bool:
    """Whether `outrider trust` was said for this content at this path; a list that others may write is ignored."""
    trusted = trust_list(environ)
    try:
        if writable_by_others(trusted) is not None:
            return False
        lines = read_capped(trusted, _MAX_TRUST_BYTES).decode("utf-8", "surrogateescape").splitlines()
    except OSError:
        return False
    return _line(path, content) in lines


def trust(path: Path, environ: Mapping[str, str]) -> Path:
    """Note the file as it is now as trusted; returns the list's path. Raises: StartError."""
    trusted = trust_list(environ)
    try:
        content = read_capped(path, MAX_CONFIG_BYTES)
    except OSError as exc:
        raise StartError(f"{path} cannot be read: {reason(exc)}; name the file to trust", exit_code=2) from exc
    line = _line(path, content)
    if "\n" in line:
        raise StartError(f"{str(path)!r} has a line break in its path; move the file", exit_code=2)
    try:
        old = read_capped(trusted, _MAX_TRUST_BYTES).decode("utf-8", "surrogateescape") if trusted.exists() else ""
        if old and (why := writable_by_others(trusted)) is not None:
            raise StartError(f"{trusted} counts for nothing, since {why}; remove it and try again")
        # One line per path: an older content of the same file is trusted no longer.
        kept = [known for known in old.splitlines() if known[66:] != line[66:]]
        write_private(trusted, ("\n".join([*kept, line]) + "\n").encode("utf-8", "surrogateescape"), replace=True)
    except OSError as exc:
        raise StartError(f"{trusted} cannot be written: {reason(exc)}; give this user the folder") from exc
    return trusted


def restricted_keys(data: Any) -> Iterator[KeyPath]:
    """The keys of RESTRICTED that the data sets, each as its path."""
    for pattern in RESTRICTED:
        yield from _matches(data, pattern, ())


def _matches(data: Any, pattern: tuple[str, ...], path: KeyPath) -> Iterator[KeyPath]:
    if not pattern:
        if data is not None:
            yield path
        return
    if not isinstance(data, dict):
        return
    for key in data if pattern[0] == "*" else [pattern[0]]:
        if key in data:
            yield from _matches(data[key], pattern[1:], (*path, key))
