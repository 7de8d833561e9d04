"""What a CA and its leaves look like, and which names can stand in them. Pure: no disk, no clock of its own.

Profile: RFC 5280, and each detail is one that a verifier insists on (Python's VERIFY_X509_STRICT, Go, Java, Node,
OpenSSL). CA: basicConstraints critical with pathlen 0, keyUsage critical keyCertSign+cRLSign, subjectKeyIdentifier.
Leaf: authorityKeyIdentifier copied from the issuer's subjectKeyIdentifier (never recomputed), subjectAltName,
EKU serverAuth, keyUsage digitalSignature, CA:FALSE, random serial, a CN only where it fits into 64 characters.
"""

import contextlib
import hashlib
import ipaddress
import re
import secrets
from datetime import datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from outrider.door.ca_files import CaKey
from outrider.errors import BadRequestError, StartError

BACKDATE: Final = timedelta(hours=1)  # clients' clocks may be behind ours by this much

Names = tuple[x509.GeneralName, ...]
Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_LABEL = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)")
_EVERY_IP: Final = (
    x509.IPAddress(ipaddress.ip_network("0.0.0.0/0")),
    x509.IPAddress(ipaddress.ip_network("::/0")),
)


def issue_ca(
    key: CaKey,
    now: datetime,
    *,
    days: int,
    permitted: frozenset[str] = frozenset(),
    replaced: x509.Certificate | None = None,
) -> x509.Certificate:
    """A self-signed CA for `days` days; it takes over name and key identifier of the one that it replaces.

    permitted: what `constraint` made of hosts; empty for a CA that may sign any name.
    """
    subject = replaced.subject if replaced else _new_subject()
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    if replaced:
        with contextlib.suppress(x509.ExtensionNotFound):
            identifier = replaced.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATE)
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(key_cert_sign=True, crl_sign=True), critical=True)
        .add_extension(identifier, critical=False)
    )
    if permitted:
        builder = builder.add_extension(_name_constraints(permitted), critical=True)
    return builder.sign(key, hashes.SHA256())


def issue_leaf(
    issuer_key: CaKey,
    issuer: x509.Certificate,
    *,
    key: ec.EllipticCurvePublicKey,
    name: str,
    now: datetime,
    end: datetime,
) -> x509.Certificate:
    """A server certificate for `name`, which `leaf_name` has spelled, valid from a little before `now` until `end`."""
    address = address_of(name)
    alternative: x509.GeneralName = x509.IPAddress(address) if address else x509.DNSName(name)
    builder = (
        x509.CertificateBuilder()
        .subject_name(_leaf_subject(name, is_address=address is not None))
        .issuer_name(issuer.subject)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATE)
        .not_valid_after(end)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(digital_signature=True), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName([alternative]), critical=False)
        .add_extension(issuer_identifier(issuer), critical=False)
    )
    return builder.sign(issuer_key, hashes.SHA256())


def _new_subject() -> x509.Name:
    """A name of its own for each CA: two with one name and two keys confuse every verifier."""
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Outrider"),
            x509.NameAttribute(NameOID.COMMON_NAME, f"Outrider CA {secrets.token_hex(4)}"),
        ]
    )


def leaf_name(name: str) -> str:
    """The one spelling of a name that can stand in a leaf. Raises: BadRequestError."""
    plain = name.lower().removesuffix(".").removeprefix("[").removesuffix("]")
    address = address_of(plain)
    if address is not None:
        return str(address)
    labels = plain.removeprefix("*.").split(".")
    is_name = len(plain) <= 253 and all(_LABEL.fullmatch(label) for label in labels)
    if not is_name or (plain.startswith("*.") and len(labels) < 2) or labels[-1].isdigit():
        raise BadRequestError("The host name cannot stand in a certificate: check its spelling.")
    return plain


def constraint(pattern: str) -> str:
    """The subtree that covers a host or pattern: what stands after its last wildcard, from a whole label on."""
    if address_of(pattern.strip("[]")) is not None:
        return str(address_of(pattern.strip("[]")))
    tail = pattern.lower().rstrip(".")
    if "*" in tail:
        tail = tail.rpartition("*")[2].partition(".")[2]
    if "." not in tail and "*" in pattern:
        raise StartError(
            f"{pattern!r} is too wide for a name constraint: name the hosts, or switch it off.", exit_code=2
        )
    return tail


def permitted_names(certificate: x509.Certificate) -> frozenset[str]:
    try:
        found = certificate.extensions.get_extension_for_class(x509.NameConstraints).value
    except x509.ExtensionNotFound:
        return frozenset()
    names = set()
    for name in found.permitted_subtrees or ():
        if isinstance(name, x509.DNSName):
            names.add(name.value.lower().removeprefix("."))
        elif isinstance(name, x509.IPAddress):
            names.add(str(name.value).removesuffix("/32").removesuffix("/128"))
    return frozenset(names)


def is_permitted(name: str, permitted: frozenset[str]) -> bool:
    """As a verifier decides it: a host is below a permitted name, or is it; an address lies in a permitted network."""
    address = address_of(name)
    if address is None:
        bare = name.removeprefix("*.")
        return any(bare == host or bare.endswith("." + host) for host in permitted)
    return any(address in ipaddress.ip_network(item) for item in permitted if _is_network(item))


def issuer_identifier(certificate: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    """The leaf's AKI is the issuer's SKI as it stands there: how it was computed is the issuer's business."""
    try:
        identifier = certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    except x509.ExtensionNotFound:
        return x509.AuthorityKeyIdentifier.from_issuer_public_key(certificate.public_key())  # type: ignore[arg-type]
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier)


def is_self_issued(certificate: x509.Certificate) -> bool:
    return certificate.issuer == certificate.subject


def address_of(text: str) -> Address | None:
    if ":" not in text and not text[-1:].isdigit():  # most names, and ValueError is slow
        return None
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def certificate_pem_of(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def fingerprint(der: bytes) -> str:
    return hashlib.sha256(der).digest().hex(":").upper()


def _leaf_subject(name: str, *, is_address: bool) -> x509.Name:
    # An address is no CN: OpenSSL would hold it against the DNS name constraints. Nor is the subject left empty then,
    # for an empty one demands a critical subjectAltName.
    if is_address or len(name) > 63:
        return x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Outrider")])
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _key_usage(
    *, digital_signature: bool = False, key_cert_sign: bool = False, crl_sign: bool = False
) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=key_cert_sign,
        crl_sign=crl_sign,
        encipher_only=False,
        decipher_only=False,
    )


def _name_constraints(permitted: frozenset[str]) -> x509.NameConstraints:
    """Permitted subtrees; a kind of name of which none is permitted is excluded whole (RFC 5280 4.2.1.10)."""
    addresses: Names = tuple(
        x509.IPAddress(ipaddress.ip_network(name)) for name in sorted(permitted) if address_of(name)
    )
    hosts: Names = tuple(x509.DNSName(name) for name in sorted(permitted) if not address_of(name))
    kinds = {address.value.version for address in addresses if isinstance(address, x509.IPAddress)}
    excluded: Names = tuple(every for every in _EVERY_IP if every.value.version not in kinds)
    if not hosts:
        excluded = (*excluded, x509.DNSName(""))
    return x509.NameConstraints([*hosts, *addresses], excluded or None)


def _is_network(text: str) -> bool:
    try:
        ipaddress.ip_network(text)
    except ValueError:
        return False
    return True
