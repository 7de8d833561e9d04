"""From what a connection and a request claim to the principal that configuration lists, or a refusal.

Rules (docs/principals.md has them as a table)
1. A virtual key counts before a proxy token, a token before the peer's user, the user before the user's group, the
   group before the pod. Two keys, or a key and a token, of different principals are refused, never chosen from.
2. A principal's `uids` bound who may be it at all: a key that a peer of another uid (or of none that is known) shows is
   refused; a weaker claim simply does not match.
3. What matches nothing is `anonymous`, which `anonymous: deny` refuses.
4. A claim is judged when it is made and again whenever the epoch moved, the configuration changed or it expired: what a
   connection was once allowed is no right.
Does not know: sockets, heads, where a key stood.
"""

import base64
import binascii
import pwd
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from grp import getgrnam
from types import MappingProxyType
from typing import Any, NamedTuple

from outrider.errors import (
    PrincipalRequiredError,
    ProxyTokenRefusedError,
    SidecarError,
    StartError,
    VirtualKeyRefusedError,
)
from outrider.govern.pod import PodIdentity
from outrider.govern.principal import ANONYMOUS, Principal
from outrider.govern.virtual_keys import HASH_PREFIX, MIN_ID_CHARS, KeyHasher, Revocations, is_virtual_key
from outrider_ext.callers import Book, Caller, Epoch

_NS = 1_000_000_000
_WANTED = (
    "this sidecar wants to know who is calling; put a virtual key into the proxy URL, as in http://TEAM:KEY@HOST:PORT"
)


@dataclass(frozen=True, slots=True)
class _Entry:
    """What one virtual key opens. expires_s: wall clock, None for never. id: the beginning of its hash."""

    principal: Principal
    expires_s: float | None
    id: str


class Found(NamedTuple):
    """Who it is, until when (monotonic ns, 0 for no end), and the id of the key that said so."""

    principal: Principal
    until_ns: int = 0
    key_id: str | None = None


@dataclass(frozen=True, slots=True)
class Clocks:
    """wall_s() -> seconds since 1970; monotonic_ns() -> CLOCK_MONOTONIC."""

    wall_s: Callable[[], float]
    monotonic_ns: Callable[[], int]


class Directory(Book):
    """One configuration's principals.

    decide(caller, key, proxy) -> Principal   remembered on the caller; raises SidecarError
    note_token(caller, proxy)                 what a CONNECT showed, judged now and kept for its requests
    needs_uid: some principal is bound to a uid, so that the kernel is worth asking.
    count(event) hears of every refusal. hasher is None where no principal has keys.
    """

    def __init__(
        self,
        entries: Sequence[Any],
        *,
        epoch: Epoch,
        revocations: Revocations,
        clocks: Clocks,
        count: Callable[[str], None],
        hasher: KeyHasher | None = None,
        pod: PodIdentity | None = None,
        anonymous: str = "allow",
        proxy_token: str = "check",  # noqa: S107 - a mode, no password
    ) -> None:
        super().__init__(epoch)
        self._revocations = revocations
        self._clocks = clocks
        self._count = count
        self._hasher = hasher
        self._denies_anonymous = anonymous == "deny"
        self._reads_tokens = hasher is not None and proxy_token != "ignore"  # noqa: S105
        self.requires_token = self._reads_tokens and proxy_token == "require"  # noqa: S105
        self._keys: dict[bytes, _Entry] = {}
        self._by_uid: dict[int, Principal] = {}
        self._by_gid: dict[int, Principal] = {}
        self._bounds: dict[Principal, frozenset[int]] = {}
        self._of_pod: Principal | None = None
        for entry in entries:
            self._add(entry, pod or PodIdentity())
        self.needs_uid = bool(self._by_uid or self._bounds)

    # -- the table

    def _add(self, entry: Any, pod: PodIdentity) -> None:
        principal = Principal(
            id=entry.id,
            team=entry.team,
            project=entry.project,
            environment=entry.environment,
            roles=frozenset(entry.roles),
            labels=MappingProxyType(dict(entry.labels)),
        )
        claims = entry.claims
        if entry.uids:
            self._bounds[principal] = frozenset(_uid(user, entry.id) for user in entry.uids)
        for user in claims.users:
            _claim(self._by_uid, _uid(user, entry.id), principal, f"the user {user}")
        for group in claims.groups:
            _claim(self._by_gid, _gid(group, entry.id), principal, f"the group {group}")
        for key in claims.keys:
            mac = bytes.fromhex(key.hash.removeprefix(HASH_PREFIX))
            expires_s = None if key.expires is None else key.expires.timestamp()
            other = self._keys.setdefault(mac, _Entry(principal, expires_s, mac.hex()[:MIN_ID_CHARS]))
            if other.principal is not principal or other.expires_s != expires_s:
                raise StartError(f"principals: {other.principal.id} and {entry.id} list the same key; remove one")
        if claims.pod is not None and _is_of(pod, claims.pod):
            if self._of_pod is not None:
                raise StartError(
                    f"principals: {self._of_pod.id} and {entry.id} both match this pod; narrow one of them"
                )
            self._of_pod = principal

    # -- a request

    def decide(self, caller: Caller, key: bytes | None, proxy: bytes | None) -> Principal:
        """key: the bare virtual key of an auth slot. proxy: the value of Proxy-Authorization, where it is a claim."""
        return self.found(caller, key, proxy).principal

    def found(self, caller: Caller, key: bytes | None, proxy: bytes | None) -> Found:
        """Raises: SidecarError, counted."""
        try:
            return self._found(caller, key, proxy)
        except SidecarError as error:
            self._count(error.code)
            raise

    def _found(self, caller: Caller, key: bytes | None, proxy: bytes | None) -> Found:
        shown = []
        if key is not None:
            shown.append(self._open(self._mac_of(key), caller, VirtualKeyRefusedError, "this virtual key"))
        if caller.token_mac is not None:
            shown.append(self._open(caller.token_mac, caller, VirtualKeyRefusedError, "the proxy URL's token"))
        if proxy is not None and self._reads_tokens:
            mac = self._token_mac(proxy)
            shown.append(self._open(mac, caller, ProxyTokenRefusedError, "the proxy URL's token"))
        if not shown:
            return Found(self._ambient(caller))
        principal = shown[0].principal
        if any(entry.principal is not principal for entry in shown):
            raise VirtualKeyRefusedError(
                "the call shows virtual keys of two principals; show one, in the key's place or in the proxy URL"
            )
        ends_s = [entry.expires_s for entry in shown if entry.expires_s is not None]
        return Found(principal, self._until_ns(ends_s), shown[0].id)

    def _mac_of(self, key: bytes) -> bytes | None:
        return self._hasher.hash_of(key) if self._hasher is not None and is_virtual_key(key) else None

    def _open(self, mac: bytes | None, caller: Caller, error: type[SidecarError], what: str) -> _Entry:
        entry = self._keys.get(mac) if mac is not None else None
        if mac is None or entry is None:
            raise error(f"{what} is none that this sidecar knows; ask its operator for one")
        if self._revocations.is_revoked(mac):
            raise _refused(error, entry, f"{what} was revoked; ask its operator for a new one")
        if entry.expires_s is not None and self._clocks.wall_s() >= entry.expires_s:
            day = datetime.fromtimestamp(entry.expires_s, UTC).isoformat(" ", "minutes").removesuffix("+00:00")
            raise _refused(error, entry, f"{what} expired on {day} UTC; ask its operator for a new one")
        if not self._is_within_bounds(entry.principal, caller):
            self._count("uid_refused")
            raise _refused(
                error, entry, f"{what} is of a principal that this user may not be; call as one of the users it lists"
            )
        return entry

    def _is_within_bounds(self, principal: Principal, caller: Caller) -> bool:
        bounds = self._bounds.get(principal)
        return bounds is None or (caller.uid is not None and caller.uid in bounds)

    def _ambient(self, caller: Caller) -> Principal:
        for claimed in (
            self._by_uid.get(caller.uid) if caller.uid is not None else None,
            self._by_gid.get(caller.gid) if caller.gid is not None else None,
            self._of_pod,
        ):
            if claimed is not None and self._is_within_bounds(claimed, caller):
                return claimed
        if self._denies_anonymous:
            raise PrincipalRequiredError(
                "nothing says who is calling, and the sidecar lets nobody in unnamed (anonymous: deny); "
                "put a virtual key where the provider's key would be, or call as a user that principals lists"
            )
        return ANONYMOUS

    def _until_ns(self, ends_s: Iterable[float]) -> int:
        nearest_s = min(ends_s, default=None)
        if nearest_s is None:
            return 0
        return self._clocks.monotonic_ns() + max(1, int((nearest_s - self._clocks.wall_s()) * _NS))

    # -- the door

    def note_token(self, caller: Caller, proxy: bytes | None) -> None:
        """Raises: ProxyTokenRefusedError, counted."""
        if not self._reads_tokens:
            return
        try:
            if proxy is not None:
                mac = self._token_mac(proxy)
                self._open(mac, caller, ProxyTokenRefusedError, "the proxy URL's token")
                caller.token_mac = mac
            elif self.requires_token:
                raise ProxyTokenRefusedError(_WANTED)
        except SidecarError as error:
            self._count(error.code)
            raise

    def want_token(self) -> None:
        """An absolute-form request came without one. Raises: ProxyTokenRefusedError, counted."""
        if self.requires_token:
            self._count(ProxyTokenRefusedError.code)
            raise ProxyTokenRefusedError(_WANTED)

    def admitted(self, caller: Caller) -> Found:
        """Who opened a tunnel, for the record. Raises: SidecarError."""
        return self._found(caller, None, None)

    def admit_tunnel(self, caller: Caller) -> Principal:
        """Whoever opens a tunnel that nobody looks into. Raises: SidecarError, counted."""
        try:
            return self._found(caller, None, None).principal
        except PrincipalRequiredError as error:
            self._count(error.code)
            if not self._reads_tokens:
                raise
            raise ProxyTokenRefusedError(_WANTED) from error
        except SidecarError as error:
            self._count(error.code)
            raise

    def _token_mac(self, proxy: bytes) -> bytes | None:
        """None where it names nobody: another scheme, a user who is not the key's principal or team."""
        user, token = parse_basic(proxy)
        mac = self._mac_of(token)
        entry = self._keys.get(mac) if mac is not None else None
        if entry is not None and user not in (b"", entry.principal.id.encode(), entry.principal.team.encode()):
            return None
        return mac


def _refused(error: type[SidecarError], entry: _Entry, sentence: str) -> SidecarError:
    refused = error(sentence)
    refused.key_id = entry.id
    return refused


def parse_basic(value: bytes) -> tuple[bytes, bytes]:
    """(user, token) of a Proxy-Authorization (RFC 7617); the token alone may stand in the user's place.

    (b"", b"") for anything else.
    """
    scheme, _, encoded = value.partition(b" ")
    if scheme.lower() != b"basic":
        return b"", b""
    try:
        pair = base64.b64decode(encoded.strip(), validate=True)
    except binascii.Error:
        return b"", b""
    user, _, token = pair.partition(b":")
    return (user, token) if token else (b"", user)


def _claim(table: dict[int, Principal], number: int, principal: Principal, what: str) -> None:
    if table.setdefault(number, principal) is not principal:
        raise StartError(
            f"principals: {table[number].id} and {principal.id} both claim {what}; leave it to one of them"
        )


def _uid(user: int | str, where: str) -> int:
    if isinstance(user, int):
        return user
    try:
        return pwd.getpwnam(user).pw_uid
    except KeyError:
        raise StartError(f"principals: {where} names the user {user!r}, which this machine does not know") from None


def _gid(group: int | str, where: str) -> int:
    if isinstance(group, int):
        return group
    try:
        return getgrnam(group).gr_gid
    except KeyError:
        raise StartError(f"principals: {where} names the group {group!r}, which this machine does not know") from None


def _is_of(pod: PodIdentity, wanted: Any) -> bool:
    """Everything that is asked for holds; a clause that asks for nothing is refused by the schema."""
    labels: Mapping[str, str] = wanted.labels
    return (
        wanted.namespace in (None, pod.namespace)
        and wanted.service_account in (None, pod.service_account)
        and all(pod.labels.get(name) == value for name, value in labels.items())
    )
