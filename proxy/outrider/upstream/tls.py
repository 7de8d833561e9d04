"""TLS towards providers: always verified, at least 1.2, HTTP/1.1 only.

Does not know: pools, hosts; one context serves every provider that trusts the same roots.
"""

import ssl
from pathlib import Path

from outrider.errors import StartError
from outrider_ext.tlsobject import DirectObject

_DISTRO_BUNDLES = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem")


def client_context(*extra: Path | None) -> ssl.SSLContext:
    """System roots plus the given PEM files. Raises: StartError naming the file that could not be used."""
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    context.sslobject_class = DirectObject
    if not context.cert_store_stats()["x509_ca"]:
        _load_fallback_roots(context)
    for path in extra:
        if path is None:
            continue
        try:
            context.load_verify_locations(cafile=str(path))
        except (OSError, ssl.SSLError) as exc:
            is_content = isinstance(exc, ssl.SSLError) or not exc.strerror  # SSLError is an OSError too
            reason = "it holds no PEM certificate" if is_content else exc.strerror
            raise StartError(f"the CA file {path} cannot be used: {reason}; give a readable PEM file") from exc
    return context


def _load_fallback_roots(context: ssl.SSLContext) -> None:
    """A slim image may have no roots where OpenSSL looks."""
    for bundle in _DISTRO_BUNDLES:
        if Path(bundle).is_file():
            context.load_verify_locations(cafile=bundle)
            return
    try:
        import certifi
    except ImportError:
        return
    context.load_verify_locations(cafile=certifi.where())
