"""The interception CA: one per installation, made at first use; and the TLS contexts that it vouches for.

Rules:
- The CA's key lies in one file (mode 0600, ours or root's) and nowhere else. A key that others can read is refused.
- Leaves share one P-256 key per process. It never touches a disk: OpenSSL reads it from a memfd.
- Two processes that start at once end with one CA: the key that was linked first wins, and whoever lost reads it.
- A renewed or re-constrained CA keeps key, name and key identifier: what trusts the old certificate trusts its leaves.
- Synchronous on purpose: concurrent askers on one loop share a minted context by nature; a lock serves threads.

Cost (CPU, one core of a shared cloud machine, OpenSSL 3.0): mint 0.1 ms; context with its mint 1.0 ms (0.6 of it is
OpenSSL reading the PEM) and about 20 KiB; a cached context 0.7 µs. Session tickets do not show in a handshake's cost.

Does not know: which hosts are providers (`expect` is told), sockets, configuration, wildcard collapsing.
"""

import contextlib
import os
import secrets
import ssl
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from outrider.door.ca_files import (
    CERTIFICATE_NAME,
    KEY_NAME,
    MITMPROXY_NAME,
    Pair,
    cannot_write,
    check_match,
    check_usable,
    guarded,
    key_pem,
    load_pair,
    make_folder,
    system_roots,
    write_file,
    write_new,
)
from outrider.door.ca_profile import (
    BACKDATE,
    certificate_pem_of,
    constraint,
    fingerprint,
    is_permitted,
    is_self_issued,
    issue_ca,
    issue_leaf,
    leaf_name,
    permitted_names,
)
from outrider.errors import CredentialUnavailableError, ForbiddenError, OverloadedError, StartError
from outrider_ext.tlsobject import DirectObject

__all__ = ["CA_DAYS", "CertificateAuthority", "import_authority", "utc_now"]

CA_DAYS: Final = 365
CA_RENEW_SHARE: Final = 10  # renewed at start when less than a tenth of its life is left
LEAF_LIFE: Final = timedelta(hours=24)
SKEW: Final = timedelta(hours=1)  # a leaf is not handed out in the last hour of its life
CONTEXTS_MAX: Final = 1024  # about 20 MiB

# Names that no provider table claims are minted at this rate at most: a flood of made-up names must not eat the CPU.
STRANGERS_BURST: Final = 120
STRANGERS_PER_S: Final = 2


@dataclass(frozen=True, slots=True)
class _Cached:
    context: ssl.SSLContext
    from_time: datetime
    until_time: datetime


class _LeafKey:
    """The key of all leaves of a process. password: None where the PEM, which holds it, reaches no disk."""

    def __init__(self) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        self.public = key.public_key()
        self.password = None if _has_memfd() else secrets.token_hex(32)
        self.pem = _leaf_key_pem(key, self.password)


class CertificateAuthority:
    """A CA and the TLS contexts it vouches for; made by `open`.

    certificate_pem: the CA's certificate. fingerprint_sha256: "AB:CD:…" over its DER, as openssl prints it.
    not_before, not_after: aware UTC. directory: where it lies. Thread-safe.
    """

    def __init__(self, pair: Pair, directory: Path, now: Callable[[], datetime]) -> None:
        self.directory = directory
        self.certificate = pair.certificate
        self.certificate_pem: bytes = pair.chain[0]
        der = self.certificate.public_bytes(serialization.Encoding.DER)
        self.fingerprint_sha256: str = fingerprint(der)
        self.subject: str = self.certificate.subject.rfc4514_string()
        self.not_before: datetime = self.certificate.not_valid_before_utc
        self.not_after: datetime = self.certificate.not_valid_after_utc
        self.permitted: frozenset[str] = permitted_names(self.certificate)
        self.certificate_path = pair.certificate_path
        self._key = pair.key
        self._now = now
        # A root is the client's own business; an intermediate must travel with the leaf.
        self._issuers = b"" if is_self_issued(self.certificate) else b"".join(pair.chain)
        self._leaf_key: _LeafKey | None = None
        self._lock = threading.RLock()
        self._contexts: OrderedDict[str, _Cached] = OrderedDict()
        self._expected: frozenset[str] = frozenset()
        self._strangers = float(STRANGERS_BURST)
        self._strangers_at = now()

    @classmethod
    def open(
        cls,
        directory: Path,
        *,
        now: Callable[[], datetime],
        name_constraints: Sequence[str] = (),
        days: int = CA_DAYS,
    ) -> "CertificateAuthority":
        """The CA in `directory`: loaded, made if there is none, renewed if little of its life is left.

        now: the wall clock, aware UTC. name_constraints: hosts or patterns ("*.openai.azure.com"); given, the CA is
        worthless for any other name, whoever holds its key (RFC 5280 4.2.1.10). days: life of a new CA.
        A folder that holds mitmproxy's CA (`mitmproxy-ca.pem`) and none of ours is used as it is and never written.
        Raises: StartError, one sentence, for a key that is unreadable, readable by others or corrupt, an expired CA
        that is not ours to renew, a full disk or a folder that cannot be written.
        """
        directory = Path(directory).expanduser()
        permitted = frozenset(constraint(name) for name in name_constraints)
        pair = load_pair(directory) or _create(directory)
        if not pair.chain:  # first use, or a crash (or another process) between the two files
            issued = issue_ca(pair.key, now(), days=days, permitted=permitted)
            guarded(pair.certificate_path, lambda: write_new(pair.certificate_path, certificate_pem_of(issued), 0o644))
            pair = load_pair(directory) or pair
        check_match(pair)
        return cls(_renewed(pair, now(), days, permitted), directory, now)

    def expect(self, names: Iterable[str]) -> None:
        """Names (hosts and wildcards) that config can ask for: they are minted without a rate limit."""
        self._expected = frozenset(leaf_name(name) for name in names)

    def mint(self, name: str) -> bytes:
        """A new leaf for a DNS name, a wildcard ("*.x.example") or an IP literal: PEM, with an intermediate if any.

        Raises: BadRequestError for what is no such name, ForbiddenError for one outside the CA's name constraints,
        CredentialUnavailableError when the CA itself has expired.
        """
        return self._mint(leaf_name(name), self._now())

    def context_for(self, name: str) -> ssl.SSLContext:
        """The server side of TLS for `name`: TLS 1.2 or newer, ALPN http/1.1. Cached, minted anew before it expires.

        Raises: what `mint` raises, and OverloadedError when too many names that nobody expects were asked for.
        """
        with self._lock:
            now = self._now()
            cached = self._contexts.get(name)
            if cached is None:
                name = leaf_name(name)  # "API.OpenAI.com." and "[::1]" find what their plain spelling made
                cached = self._contexts.get(name)
            if cached is None or not cached.from_time <= now < cached.until_time:
                self._admit(name, now)
                cached = self._contexts[name] = self._make(name, now)
                if len(self._contexts) > CONTEXTS_MAX:
                    self._contexts.popitem(last=False)
            self._contexts.move_to_end(name)
            return cached.context

    def bundle(self, environ: Mapping[str, str] | None = None) -> bytes:
        """System roots (see `system_roots`) and this CA, as PEM: for variables that replace a client's trust."""
        roots = system_roots(os.environ if environ is None else environ, exclude=self.directory)
        return b"".join(dict.fromkeys((*roots, self.certificate_pem)))

    def is_former(self, certificate_pem: bytes) -> bool:
        """Is it a certificate on this CA's key, though not the current one?"""
        form = (serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
        own_key = self.certificate.public_key().public_bytes(*form)
        try:
            der = ssl.PEM_cert_to_DER_cert(certificate_pem.decode("ascii"))
        except ValueError:  # no base64: whatever it is, it is not ours
            return False
        return certificate_pem != self.certificate_pem and own_key in der

    def _make(self, name: str, now: datetime) -> _Cached:
        chain = self._mint(name, now)
        end = min(now + LEAF_LIFE, self.not_after)
        margin = min(SKEW, (end - now) / 2)  # near the CA's own end a leaf has little life, and is still cached
        return _Cached(self._context(chain), now - BACKDATE, end - margin)

    def _mint(self, name: str, now: datetime) -> bytes:
        if now >= self.not_after:
            raise CredentialUnavailableError(
                f"The interception CA expired on {self.not_after:%Y-%m-%d}: restart sidecar and app to renew it."
            )
        if self.permitted and not is_permitted(name, self.permitted):
            raise ForbiddenError(
                f"The interception CA is constrained to other names than {name}: add it to the configuration."
            )
        end = min(now + LEAF_LIFE, self.not_after)
        leaf = issue_leaf(self._key, self.certificate, key=self._leaf().public, name=name, now=now, end=end)
        return certificate_pem_of(leaf) + self._issuers

    def _leaf(self) -> _LeafKey:
        """Made when the first leaf is: half a megabyte that who is called by base_url never needs."""
        with self._lock:
            if self._leaf_key is None:
                self._leaf_key = _LeafKey()
            return self._leaf_key

    def _context(self, chain: bytes) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.sslobject_class = DirectObject
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.options |= ssl.OP_NO_RENEGOTIATION
        context.set_alpn_protocols(["http/1.1"])
        context.num_tickets = 1  # the default, 2, is for browsers that race connections
        leaf = self._leaf()
        with _anonymous_file(chain) as certificate, _anonymous_file(leaf.pem) as key:
            context.load_cert_chain(certificate, key, leaf.password)
        return context

    def _admit(self, name: str, now: datetime) -> None:
        """One token from the strangers' bucket for a name that config does not know."""
        if name in self._expected:
            return
        passed_s = max(0.0, (now - self._strangers_at).total_seconds())
        self._strangers_at = now
        self._strangers = min(STRANGERS_BURST, self._strangers + passed_s * STRANGERS_PER_S)
        if self._strangers < 1:
            raise OverloadedError("Too many new host names are being intercepted: try again in a few seconds.")
        self._strangers -= 1


def import_authority(source: Path, directory: Path, *, now: Callable[[], datetime]) -> CertificateAuthority:
    """Copies the CA in the folder `source` (mitmproxy's layout, or ours) into `directory` and opens it there.

    Raises: StartError when `source` holds no usable CA, or when `directory` holds one already.
    """
    source, directory = Path(source).expanduser(), Path(directory).expanduser()
    if source.is_file():
        source = source.parent
    pair = load_pair(source)
    if pair is None or not pair.chain:
        raise StartError(f"{source} holds no CA: name a folder with {MITMPROXY_NAME}, or {KEY_NAME}.", exit_code=2)
    check_match(pair)
    check_usable(pair, now())
    key_path, certificate_path = directory / KEY_NAME, directory / CERTIFICATE_NAME
    taken = next((path for path in (key_path, certificate_path) if os.path.lexists(path)), None)
    if taken is not None:
        raise StartError(f"{taken} exists already: move it away before another CA is imported.", exit_code=2)
    make_folder(directory)
    guarded(key_path, lambda: write_new(key_path, key_pem(pair.key), 0o600))
    try:
        guarded(certificate_path, lambda: write_new(certificate_path, b"".join(pair.chain), 0o644))
    except StartError:
        key_path.unlink(missing_ok=True)  # half an import would look like a CA that lost its certificate
        raise
    return CertificateAuthority.open(directory, now=now)


def _create(directory: Path) -> Pair:
    make_folder(directory)
    key_path = directory / KEY_NAME
    key = ec.generate_private_key(ec.SECP256R1())
    guarded(key_path, lambda: write_new(key_path, key_pem(key), 0o600))
    pair = load_pair(directory)  # ours, or that of a process which was a moment faster
    if pair is None:
        raise StartError(f"{key_path} vanished as it was written: is something else clearing the folder?")
    return pair


def _renewed(pair: Pair, now: datetime, days: int, permitted: frozenset[str]) -> Pair:
    """The pair with a new certificate on the same key, where one is due and we may write it."""
    old = pair.certificate
    life = old.not_valid_after_utc - old.not_valid_before_utc
    is_due = old.not_valid_after_utc - now < life / CA_RENEW_SHARE
    if not pair.is_ours or not is_self_issued(old) or not (is_due or permitted != permitted_names(old)):
        check_usable(pair, now)
        return pair
    issued = certificate_pem_of(issue_ca(pair.key, now, days=days, permitted=permitted, replaced=old))
    try:
        write_file(pair.certificate_path, issued)
    except OSError as exc:
        if permitted != permitted_names(old) or now >= old.not_valid_after_utc:
            raise cannot_write(pair.certificate_path, exc) from exc
        return pair  # a read-only folder; the old one still serves
    return Pair(pair.key, (issued,), pair.key_path, pair.certificate_path, is_ours=True)


@contextlib.contextmanager
def _anonymous_file(content: bytes) -> Iterator[str]:
    """A path under which OpenSSL can read `content`, which has a name on no disk and is gone afterwards."""
    fd = os.memfd_create("outrider", os.MFD_CLOEXEC) if _has_memfd() else _nameless_descriptor()
    with os.fdopen(fd, "w+b") as file:
        file.write(content)
        file.seek(0)  # where /dev/fd duplicates the descriptor, the offset is shared
        yield f"/proc/self/fd/{fd}" if os.path.isdir("/proc/self/fd") else f"/dev/fd/{fd}"


@cache
def _has_memfd() -> bool:
    """Not outside Linux, nor in a sandbox that forbids the call."""
    try:
        os.close(os.memfd_create("outrider", os.MFD_CLOEXEC))
    except (AttributeError, OSError):
        return False
    return True


def _nameless_descriptor() -> int:
    """The fallback may reach a disk's free blocks; so what is written there is encrypted (`_leaf_key_pem`)."""
    import tempfile  # with what it brings 1 MB, for a machine that is hardly met

    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def _leaf_key_pem(key: ec.EllipticCurvePrivateKey, password: str | None) -> bytes:
    """PEM, under a one-time password where the file that will hold it may reach a disk.

    The traditional format, for its key derivation is one round, where PKCS#8's would cost 10 ms for each context.
    """
    protection = serialization.BestAvailableEncryption(password.encode()) if password else serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, protection)


def utc_now() -> datetime:
    """The wall clock, as `CertificateAuthority.open` wants it."""
    return datetime.now(UTC)
