"""Where a CA lies on disk: its two files, mitmproxy's one, and the roots that this machine trusts.

Rules:
- A private key is read only from a file that nobody but its owner can use, the owner being this user or root.
- A file appears whole or not at all: temporary name, fsync, then link (never over another's) or rename.
- What a person must mend is one StartError sentence naming the file.

Does not know: TLS, leaves, names.
"""

import contextlib
import errno
import os
import re
import secrets
import ssl
import stat
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from outrider.errors import StartError

KEY_NAME: Final = "outrider-ca.key.pem"
CERTIFICATE_NAME: Final = "outrider-ca.pem"
MITMPROXY_NAME: Final = "mitmproxy-ca.pem"  # key and certificate in one file, as mitmproxy writes it
MAX_KEY_BYTES: Final = 1 << 20
MAX_ROOTS_BYTES: Final = 1 << 24

# Where distributions keep their roots in one file; the first that exists is taken.
ROOT_FILES: Final = (
    "/etc/ssl/certs/ca-certificates.crt",  # Debian, Ubuntu, Alpine, Arch
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",  # Fedora, RHEL
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",  # SUSE
    "/etc/ssl/cert.pem",  # macOS, the BSDs
    "/usr/local/etc/ssl/cert.pem",
)

CaKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey

_PEM = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----[^-]*-----END \1-----")


@dataclass(frozen=True, slots=True)
class Pair:
    """A CA as it lies on disk. `chain` holds the certificate first, then what an imported file held beside it."""

    key: CaKey
    chain: tuple[bytes, ...]
    key_path: Path
    certificate_path: Path
    is_ours: bool  # in our own layout, so that we may write a renewed certificate

    @property
    def certificate(self) -> x509.Certificate:
        return x509.load_pem_x509_certificate(self.chain[0])


def load_pair(directory: Path) -> Pair | None:
    """What lies in `directory`: ours, else mitmproxy's, else None. Of ours the certificate may still be missing."""
    key_path, certificate_path = directory / KEY_NAME, directory / CERTIFICATE_NAME
    if os.path.lexists(key_path):
        key = _parse_key(_read_private(key_path), key_path)
        chain = _parse_chain(certificate_path) if os.path.lexists(certificate_path) else ()
        return Pair(key, chain, key_path, certificate_path, is_ours=True)
    if os.path.lexists(certificate_path):
        raise StartError(
            f"{certificate_path} has lost its key {KEY_NAME}: restore it, or remove the certificate to get a new CA."
        )
    both = directory / MITMPROXY_NAME
    if os.path.lexists(both):
        key = _parse_key(_read_private(both), both)
        return Pair(key, _parse_chain(both), both, both, is_ours=False)
    return None


def system_roots(environ: Mapping[str, str], *, exclude: Path | None = None) -> list[bytes]:
    """The roots that this machine trusts, as PEM certificates, each once.

    The first source that holds any: $SSL_CERT_FILE, OpenSSL's own default file, a distribution's file, $SSL_CERT_DIR
    or OpenSSL's default folder, certifi if it is installed. Files under `exclude` (our own bundles) are passed over.
    """
    paths = ssl.get_default_verify_paths()
    for name in (environ.get("SSL_CERT_FILE"), paths.openssl_cafile, *ROOT_FILES):
        if name and (roots := _read_roots(Path(name), exclude)):
            return roots
    for name in (*(environ.get("SSL_CERT_DIR") or "").split(os.pathsep), paths.openssl_capath):
        if name and (roots := _read_roots(Path(name), exclude)):
            return roots
    with contextlib.suppress(ImportError):
        import certifi

        return _read_roots(Path(certifi.where()), exclude)
    return []


def read_certificates(path: Path) -> list[bytes]:
    """The certificates in a PEM file, or in the files of a folder, as normal PEM, each once; none if unreadable."""
    try:
        files = sorted(path.iterdir()) if path.is_dir() else [path]
    except OSError:
        return []
    found: dict[bytes, None] = {}
    for file in files:
        with contextlib.suppress(OSError):
            if file.is_file() and file.stat().st_size <= MAX_ROOTS_BYTES:
                found.update(dict.fromkeys(pem_blocks(file.read_bytes())))
    return list(found)


def pem_blocks(data: bytes, kind: bytes = b"CERTIFICATE") -> list[bytes]:
    """The PEM blocks of one kind in `data`, with plain line ends, whatever stood between them."""
    return [
        b"\n".join(line.strip() for line in match.group(0).splitlines()) + b"\n"
        for match in _PEM.finditer(data)
        if match.group(1) == kind or (kind == b"PRIVATE KEY" and match.group(1).endswith(b"PRIVATE KEY"))
    ]


def write_file(path: Path, content: bytes, mode: int = 0o644) -> None:
    """Replaces `path` atomically. Raises: OSError."""
    with _temporary(path, content, mode) as temporary:
        os.replace(temporary, path)


def write_new(path: Path, content: bytes, mode: int) -> bool:
    """Writes `path` whole unless it exists; False if somebody else was first. Raises: OSError."""
    with _temporary(path, content, mode) as temporary:
        try:
            os.link(temporary, path)
        except FileExistsError:
            return False
        except OSError:  # a file system without hard links: the race window of a rename is all it can offer
            if path.exists():
                return False
            os.replace(temporary, path)
    return True


def make_folder(directory: Path) -> None:
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except FileExistsError:
        raise StartError(f"{directory} is not a folder: set ca.dir to one.", exit_code=2) from None
    except OSError as exc:
        raise StartError(f"Cannot make the folder {directory} ({_reason(exc)}): set ca.dir to another.") from exc


def guarded(path: Path, write: Callable[[], object]) -> None:
    try:
        write()
    except OSError as exc:
        raise cannot_write(path, exc) from exc


def cannot_write(path: Path, exc: OSError, setting: str = "ca.dir") -> StartError:
    what = "free some space" if exc.errno in {errno.ENOSPC, errno.EDQUOT} else "check the folder's owner and mode"
    return StartError(f"Cannot write {path} ({_reason(exc)}): {what}, or set {setting} to another place.")


def key_pem(key: CaKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def check_match(pair: Pair) -> None:
    if not pair.chain:
        raise StartError(f"{pair.certificate_path} could not be read back: is something else clearing the folder?")
    form = (serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    if pair.certificate.public_key().public_bytes(*form) != pair.key.public_key().public_bytes(*form):
        raise StartError(
            f"{pair.certificate_path} does not belong to the key {pair.key_path}: "
            "restore the pair, or remove both to have a new CA made."
        )
    try:
        is_ca = pair.certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        is_ca = False
    if not is_ca:
        raise StartError(f"{pair.certificate_path} is no CA certificate: name one with CA:TRUE.")


def check_usable(pair: Pair, now: datetime) -> None:
    certificate = pair.certificate
    if now >= certificate.not_valid_after_utc:
        raise StartError(
            f"{pair.certificate_path} expired on {certificate.not_valid_after_utc:%Y-%m-%d}: replace it, "
            "or move it away to have a new CA made."
        )
    if now < certificate.not_valid_before_utc:
        raise StartError(
            f"{pair.certificate_path} is not valid before {certificate.not_valid_before_utc:%Y-%m-%d %H:%M} UTC: "
            "check this machine's clock."
        )


def _read_private(path: Path) -> bytes:
    """The content of a key file that only its owner can read, the owner being us or root. Raises: StartError."""
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())  # of what was opened, which may not be there any more
            mode = stat.S_IMODE(status.st_mode)
            if mode & 0o077:
                raise StartError(f"{path} can be used by others (mode {mode:04o}): run `chmod 600 {path}`.")
            if status.st_uid not in {os.geteuid(), 0}:
                raise StartError(
                    f"{path} belongs to another user (uid {status.st_uid}): set ca.dir to your own folder."
                )
            return file.read(MAX_KEY_BYTES)
    except OSError as exc:
        raise StartError(f"Cannot read {path} ({_reason(exc)}): check its owner and mode, or set ca.dir.") from exc


def _parse_key(data: bytes, path: Path) -> CaKey:
    for block in pem_blocks(data, b"PRIVATE KEY")[:1]:
        with contextlib.suppress(ValueError, TypeError, UnsupportedAlgorithm):  # TypeError: it has a passphrase
            key = serialization.load_pem_private_key(block, password=None)
            if isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
                return key
    raise StartError(
        f"{path} holds no usable private key (PEM, EC or RSA, without passphrase): restore it, "
        "or remove it and its certificate to have a new CA made."
    )


def _parse_chain(path: Path) -> tuple[bytes, ...]:
    try:
        chain = tuple(pem_blocks(path.read_bytes()))
    except OSError as exc:
        raise StartError(f"Cannot read {path} ({_reason(exc)}): check its owner and mode.") from exc
    try:
        for block in chain:
            x509.load_pem_x509_certificate(block)
    except ValueError:
        chain = ()
    if not chain:
        raise StartError(f"{path} holds no PEM certificate: restore it, or remove it to have it issued anew.")
    return chain


def _read_roots(path: Path, exclude: Path | None) -> list[bytes]:
    if exclude is not None and path.absolute().is_relative_to(exclude.absolute()):
        return []
    return read_certificates(path)


@contextlib.contextmanager
def _temporary(path: Path, content: bytes, mode: int) -> Iterator[Path]:
    """A complete file beside `path`, gone afterwards unless it was renamed."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(fd, "wb") as file:
            os.fchmod(fd, mode)
            file.write(content)
            file.flush()
            os.fsync(fd)
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)


def _reason(exc: OSError) -> str:
    return (exc.strerror or type(exc).__name__).lower()
