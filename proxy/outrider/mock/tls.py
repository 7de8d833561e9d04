"""The mock's own certificate authority, and one leaf that stands in for every built-in provider's host.

Files in the folder: `ca.pem` (trust this one) and `server.pem` (leaf and its key, mode 0600). The CA's key is thrown
away. A folder that holds a pair for the same names, still good for a day, is used again.
Profile: what OpenSSL 3 and Python 3.13 verify strictly (RFC 5280: critical basicConstraints, key usages, both key ids).
"""

import datetime
import ipaddress
import os
import ssl
from collections.abc import Sequence
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

CERTIFICATES = ("good", "expired", "wrong-name")
_DAY = datetime.timedelta(days=1)


def ensure(folder: Path, names: Sequence[str], now: datetime.datetime, certificate: str = "good") -> None:
    """Have `ca.pem` and `server.pem` in `folder`. `certificate` breaks the leaf on purpose.

    Raises: OSError when the folder cannot be written; ValueError for an unknown kind of certificate.
    """
    if certificate not in CERTIFICATES:
        raise ValueError(f"certificate is {certificate!r}; it must be one of {', '.join(CERTIFICATES)}")
    names = ["wrong.invalid"] if certificate == "wrong-name" else list(dict.fromkeys(names))
    if certificate == "good" and _is_usable(folder, names, now):
        return
    folder.mkdir(parents=True, exist_ok=True)
    ca_key, leaf_key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    ca = _ca(ca_key, now)
    until = now - _DAY if certificate == "expired" else now + 90 * _DAY
    leaf = _leaf(leaf_key, names, ca, ca_key, since=now - 2 * _DAY, until=until)
    (folder / "ca.pem").write_bytes(_pem(ca))
    key_pem = leaf_key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    with open(os.open(folder / "server.pem", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(_pem(leaf) + key_pem)


def server_context(folder: Path) -> ssl.SSLContext:
    """A TLS server with that leaf; it notes the client's SNI on the connection's ssl object as `mock_sni`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.pem")
    context.set_alpn_protocols(["http/1.1"])

    def note(tls: ssl.SSLObject, name: str | None, _: ssl.SSLContext) -> None:
        tls.mock_sni = name  # type: ignore[attr-defined]

    context.sni_callback = note
    return context


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _is_usable(folder: Path, names: Sequence[str], now: datetime.datetime) -> bool:
    try:
        leaf = x509.load_pem_x509_certificate((folder / "server.pem").read_bytes())
        ca = x509.load_pem_x509_certificate((folder / "ca.pem").read_bytes())
        leaf.verify_directly_issued_by(ca)
        held = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except Exception:  # absent, cut short or foreign: a new pair replaces it
        return False
    return leaf.not_valid_after_utc > now + _DAY and set(held.get_values_for_type(x509.DNSName)) == set(_dns(names))


def _dns(names: Sequence[str]) -> list[str]:
    return [name for name in names if not _is_address(name)]


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _ca(key: ec.EllipticCurvePrivateKey, now: datetime.datetime) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Outrider mock provider CA")])
    builder = _builder(name, name, key.public_key(), now - 2 * _DAY, now + 365 * _DAY)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(_usage(signs=True), critical=True)
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    return builder.add_extension(identifier, critical=False).sign(key, hashes.SHA256())


def _leaf(
    key: ec.EllipticCurvePrivateKey,
    names: Sequence[str],
    ca: x509.Certificate,
    ca_key: ec.EllipticCurvePrivateKey,
    *,
    since: datetime.datetime,
    until: datetime.datetime,
) -> x509.Certificate:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Outrider mock provider")])
    builder = _builder(subject, ca.subject, key.public_key(), since, until)
    addresses = [ipaddress.ip_address(name) for name in names if _is_address(name)]
    alternatives = [*map(x509.DNSName, _dns(names)), *map(x509.IPAddress, addresses)]
    public = ca_key.public_key()
    for extension, critical in (
        (x509.BasicConstraints(ca=False, path_length=None), True),
        (_usage(signs=False), True),
        (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False),
        (x509.SubjectAlternativeName(alternatives), False),
        (x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False),
        (x509.AuthorityKeyIdentifier.from_issuer_public_key(public), False),
    ):
        builder = builder.add_extension(extension, critical=critical)
    return builder.sign(ca_key, hashes.SHA256())


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey,
    since: datetime.datetime,
    until: datetime.datetime,
) -> x509.CertificateBuilder:
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key)
    builder = builder.serial_number(x509.random_serial_number())
    return builder.not_valid_before(since).not_valid_after(until)


def _usage(signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs,
        key_cert_sign=signs,
        crl_sign=signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
