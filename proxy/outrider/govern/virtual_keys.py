"""Virtual keys: what an app shows in place of a provider's key, and which says who it is.

Rules
- The key itself is printed once and kept nowhere: configuration holds HMAC-SHA-256 of it under a key of this
  installation, so that the file alone neither opens anything nor can be searched by guessing.
- A key is looked up by that hash: no comparison depends on a secret's bytes.
- `ork_`, 43 letters and digits (256 bits), 6 of checksum: one that leaked into a log, a commit or a request to someone
  else is told from other text without knowing any.
- A revocation holds from the moment at which it is made, on open connections too: it moves the epoch under which
  answers are remembered.
Does not know: principals, requests, where a store keeps its revocations.
"""

import hmac
import re
import secrets
import string
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path

from outrider.errors import StartError
from outrider.secrets.files import (
    Signature,
    read_capped,
    readable_by_others,
    reason,
    signature,
    writable_by_others,
    write_private,
)
from outrider.secrets.secret import Secret
from outrider_ext.callers import Epoch

PREFIX = "ork_"
RANDOM_CHARS = 43  # 62 ** 43 is a little more than 2 ** 256
CHECKSUM_CHARS = 6  # 62 ** 6 is more than 2 ** 32
HASH_PREFIX = "hmac-sha256:"
MIN_ID_CHARS = 12  # of a hash's beginning, where it names a key to be revoked: 48 bits
KEY_FILE = "virtual-keys.hmac"

_ALPHABET = string.digits + string.ascii_uppercase + string.ascii_lowercase
_LENGTH = len(PREFIX) + RANDOM_CHARS + CHECKSUM_CHARS
_SHAPE = re.compile(rb"ork_[0-9A-Za-z]{%d}" % (RANDOM_CHARS + CHECKSUM_CHARS))
_KEY_LINE = re.compile(rb"[0-9a-f]{64}\n?")
_ID = re.compile(rf"(?:{HASH_PREFIX})?([0-9a-f]{{{MIN_ID_CHARS},64}})")
_MAX_REVOKED_BYTES = 4 << 20


def new_key() -> str:
    """A fresh virtual key."""
    body = PREFIX + "".join(secrets.choice(_ALPHABET) for _ in range(RANDOM_CHARS))
    return body + _checksum(body.encode("ascii"))


def _checksum(body: bytes) -> str:
    left, digits = zlib.crc32(body), ""
    for _ in range(CHECKSUM_CHARS):
        left, digit = divmod(left, len(_ALPHABET))
        digits = _ALPHABET[digit] + digits
    return digits


def is_virtual_key(value: bytes) -> bool:
    """Whether it has the shape of one, checksum included; says nothing of what it opens."""
    return len(value) == _LENGTH and _SHAPE.match(value) is not None and _is_sound(value)


def keys_in(text: bytes) -> list[bytes]:
    """Every virtual key that stands in it, known or not."""
    return [found for found in _SHAPE.findall(text) if _is_sound(found)] if b"ork_" in text else []


def masked(text: bytes) -> bytes:
    """The text with `ork_****` for every virtual key in it."""
    for key in keys_in(text):
        text = text.replace(key, b"ork_****")
    return text


def _is_sound(value: bytes) -> bool:
    return value[-CHECKSUM_CHARS:] == _checksum(value[:-CHECKSUM_CHARS]).encode("ascii")


def key_id(text: str) -> str:
    """What names a key to be revoked: its hash as configuration has it, or 12 or more hex digits of its beginning.

    Raises: ValueError with the end of a sentence; the value is not quoted, since people put the key itself here.
    """
    found = _ID.fullmatch(text.strip())
    if found is None:
        raise ValueError(
            f"must be a key's hash as `outrider keys new` printed it, or its first {MIN_ID_CHARS} or more hex digits"
        )
    return found[1]


class KeyHasher:
    """hash_of(key) -> 32 bytes, HMAC-SHA-256 under the installation's key."""

    __slots__ = ("_secret",)

    def __init__(self, secret: Secret) -> None:
        self._secret = secret

    @classmethod
    def open(cls, path: Path, *, create: bool) -> "KeyHasher":
        """Read the key file (64 hex digits, mode 0600); `create` makes one that is not there.

        Raises: StartError with one sentence when it cannot be used.
        """
        try:
            if create and not path.exists():
                write_private(path, secrets.token_hex(32).encode("ascii") + b"\n", replace=False)
            raw = read_capped(path, 4096)
            if readable_by_others(path):
                raise StartError(
                    f"{path} can be read by other users, and virtual keys hang on it; set its mode to 0600"
                )
        except OSError as exc:
            raise StartError(
                f"the key {path} under which virtual keys are hashed cannot be used: {reason(exc)}; "
                "make a key with `outrider keys new`, or set virtual_keys.hmac_key"
            ) from exc
        if not _KEY_LINE.fullmatch(raw):
            raise StartError(f"{path} does not hold 64 hex digits; virtual keys cannot be told by it")
        return cls(Secret(bytes.fromhex(raw.decode("ascii").strip())))

    def hash_of(self, key: bytes) -> bytes:
        return hmac.digest(self._secret.expose(), key, "sha256")


class Revocations:
    """Which keys open nothing any more; outlives a reload. Every change holds at once, on open connections too.

    replace(source, ids)   all that one source ("config", "file", "fleet") revokes, in place of what it said
    revoke(id)             one more, for a store that hears of it; ids as `key_id` returns them
    on_change(source, added, removed)   told of every difference, each side sorted
    """

    def __init__(self, epoch: Epoch) -> None:
        self._epoch = epoch
        self._by_source: dict[str, frozenset[str]] = {}
        self._lengths: frozenset[int] = frozenset()
        self.on_change: Callable[[str, list[str], list[str]], None] = lambda source, added, removed: None

    def replace(self, source: str, ids: Iterable[str]) -> None:
        told, before = frozenset(ids), self._by_source.get(source, frozenset())
        if told == before:
            return
        self._by_source[source] = told
        self._lengths = frozenset(len(one) for ids in self._by_source.values() for one in ids)
        self._epoch.move()
        self.on_change(source, sorted(told - before), sorted(before - told))

    def revoke(self, revoked: str, source: str = "fleet") -> None:
        self.replace(source, self._by_source.get(source, frozenset()) | {revoked})

    def sources_of(self, revoked: str) -> list[str]:
        return [source for source, ids in self._by_source.items() if revoked in ids]

    def is_revoked(self, mac: bytes) -> bool:
        whole = mac.hex()
        beginnings = [whole[:length] for length in self._lengths]
        return any(one in ids for ids in self._by_source.values() for one in beginnings)


class RevokedFile:
    """`virtual_keys.revoked_file`: one hash (or its beginning) a line, `#` begins a comment; read when it changes.

    check() reads it and raises StartError; apply() puts in force what was read; refresh() -> a sentence when it cannot
    be read as it is now: what was read last stays in force, since a broken file must not undo a revocation.
    """

    def __init__(self, path: Path, revocations: Revocations) -> None:
        self.path = path
        self._revocations = revocations
        self._seen: Signature | None = None
        self._ids: list[str] = []

    def check(self) -> None:
        self._seen = signature(self.path)
        try:
            why = writable_by_others(self.path)
            text = read_capped(self.path, _MAX_REVOKED_BYTES).decode("utf-8", "replace")
        except OSError as exc:
            raise StartError(f"virtual_keys.revoked_file {self.path} cannot be read: {reason(exc)}") from exc
        if why is not None:
            raise StartError(f"virtual_keys.revoked_file {self.path} is not read, since {why}; correct that")
        self._ids = [
            _revoked_id(entry, f"{self.path}:{number}")
            for number, line in enumerate(text.splitlines(), 1)
            if (entry := line.partition("#")[0].strip())
        ]

    def apply(self) -> None:
        self._revocations.replace("file", self._ids)

    def refresh(self) -> str | None:
        if signature(self.path) == self._seen:
            return None
        try:
            self.check()
        except StartError as exc:
            return f"{exc}; the revocations read before stay in force"
        self.apply()
        return None


def _revoked_id(entry: str, where: str) -> str:
    try:
        return key_id(entry)
    except ValueError as exc:
        raise StartError(f"{where}: an entry {exc}") from exc
