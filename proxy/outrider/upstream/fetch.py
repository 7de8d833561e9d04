"""Images and documents that an app named by URL, for a provider that takes bytes only.

Rules: the URL is the app's, so it is asked as a stranger's: no credential, no cookie, no header of the app; every
address is checked by the guard before it is dialled, after every redirect anew; the egress rules of config hold; only
media types, only up to a cap, only for so long; a handful at a time. A failure is the app's, and names the host.
Does not know: dialects, calls.
"""

import asyncio
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urljoin, urlsplit

from outrider.config.values import ProxyUrl
from outrider.errors import DestinationDeniedError, SidecarError
from outrider.upstream.dial import Dialer

if TYPE_CHECKING:
    from aiohttp import ClientResponse, ClientSession
    from aiohttp.abc import AbstractResolver

MAX_REDIRECTS: Final = 3
MAX_AT_ONCE: Final = 16
TIMEOUT_S: Final = 20.0
_CHUNK_BYTES: Final = 65536
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_MEDIA: Final = (
    "image/",
    "audio/",
    "video/",
    "application/pdf",
    "text/plain",
    "text/markdown",
    "text/csv",
    "text/html",
)
# How a file begins that a server calls application/octet-stream.
_BEGINNINGS: Final = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF8", "image/gif"),
    (b"%PDF-", "application/pdf"),
    (b"ID3", "audio/mpeg"),
)


class MediaUnavailableError(SidecarError):
    """What the app named by URL could not be had, so the call is not sent."""

    code, status, should_retry = "media_unavailable", 400, False


@dataclass(frozen=True, slots=True)
class Fetched:
    """mime: lower case, without parameters."""

    mime: str
    data: bytes


class MediaFetcher:
    """fetch(url) -> Fetched. aiohttp (14 MB) is imported by the first call that needs it.

    egress(host, port): raises where config denies them. context() -> the TLS context. proxy: to go through, or None;
    it resolves the names of files, so that of those only literal addresses can be checked here.
    Raises: MediaUnavailableError, and what the guard and egress raise.
    """

    def __init__(
        self,
        dialer: Dialer,
        *,
        egress: Callable[[str, int], None],
        context: Callable[[], ssl.SSLContext],
        cap_bytes: int,
        proxy: ProxyUrl | None = None,
    ) -> None:
        self._dialer = dialer
        self._egress = egress
        self._context = context
        self._cap_bytes = cap_bytes
        self._proxy = proxy
        self._slots = asyncio.Semaphore(MAX_AT_ONCE)

    async def fetch(self, url: str) -> Fetched:
        import aiohttp

        host = self._check(url)
        try:
            async with self._slots, asyncio.timeout(TIMEOUT_S):
                connector = aiohttp.TCPConnector(
                    resolver=_resolver(self._dialer, self._proxy), ssl=self._context(), limit=1, force_close=True
                )
                async with aiohttp.ClientSession(
                    connector=connector, trust_env=False, cookie_jar=aiohttp.DummyCookieJar(), auto_decompress=True
                ) as session:
                    return await self._follow(session, url)
        except TimeoutError as exc:
            raise MediaUnavailableError(f"{host} did not give the file within {TIMEOUT_S:g} s") from exc
        except aiohttp.ClientError as exc:
            refused = _cause(exc)
            if refused is not None:
                raise refused from exc
            raise MediaUnavailableError(f"the file could not be had from {host} ({type(exc).__name__})") from exc

    async def _follow(self, session: "ClientSession", url: str) -> Fetched:
        for _ in range(MAX_REDIRECTS + 1):
            host = self._check(url)
            async with session.get(url, allow_redirects=False, **_told(url, self._proxy)) as answer:
                if answer.status not in _REDIRECTS:
                    return await self._read(answer, host)
                url = urljoin(url, answer.headers.get("location", ""))
        raise MediaUnavailableError(f"{host} redirects more than {MAX_REDIRECTS} times")

    def _check(self, url: str) -> str:
        """The host. aiohttp asks no resolver for a literal address, so that is checked here."""
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port
        except ValueError as exc:
            raise MediaUnavailableError("a file is named by something that is no URL") from exc
        if parts.scheme not in ("http", "https") or not host:
            raise MediaUnavailableError("a file can be fetched from an http or https URL only")
        if parts.username is not None:
            raise MediaUnavailableError("a URL with a user or password in it is not fetched")
        to_port = port or (443 if parts.scheme == "https" else 80)
        self._egress(host, to_port)
        if self._proxy is not None and (host, to_port) == (self._proxy.host, self._proxy.port):
            raise DestinationDeniedError(f"{host}:{to_port} is upstream.proxy, and no file is fetched from there")
        try:
            literal = ip_address(host)
        except ValueError:
            return host
        self._dialer.guard.check(host, literal, to_port, private_ok=False)
        return host

    async def _read(self, answer: "ClientResponse", host: str) -> Fetched:
        if answer.status != 200:
            raise MediaUnavailableError(f"{host} answered {answer.status} when the file was asked for")
        if (answer.content_length or 0) > self._cap_bytes:
            raise self._too_large(host)
        pieces, size = [], 0
        async for piece in answer.content.iter_chunked(_CHUNK_BYTES):
            size += len(piece)
            if size > self._cap_bytes:
                raise self._too_large(host)
            pieces.append(piece)
        data = b"".join(pieces)
        mime = answer.content_type.lower()
        if mime in ("application/octet-stream", "binary/octet-stream"):
            mime = next((known for beginning, known in _BEGINNINGS if data.startswith(beginning)), mime)
        if not mime.startswith(_MEDIA):
            raise MediaUnavailableError(f"{host} gave {mime[:80]}, which is no image, document or sound")
        return Fetched(mime, data)

    def _too_large(self, host: str) -> MediaUnavailableError:
        return MediaUnavailableError(f"the file of {host} has more than {self._cap_bytes} bytes (caps.held_body_bytes)")


_ASKED: Final = {"accept": "image/*,application/pdf,audio/*,video/*,text/plain;q=0.5", "user-agent": "outrider"}


def _cause(exc: BaseException | None) -> SidecarError | None:
    """Our own refusal, which aiohttp wraps."""
    while exc is not None:
        if isinstance(exc, SidecarError):
            return exc
        exc = exc.__cause__
    return None


def _told(url: str, proxy: ProxyUrl | None) -> dict[str, Any]:
    """The headers of the question, and the proxy. aiohttp sends `proxy_headers` with CONNECT alone."""
    if proxy is None:
        return {"headers": _ASKED}
    if proxy.authorization is None:
        return {"headers": _ASKED, "proxy": proxy.origin}
    password = {"proxy-authorization": proxy.authorization.expose().decode("ascii")}
    if urlsplit(url).scheme == "https":
        return {"headers": _ASKED, "proxy": proxy.origin, "proxy_headers": password}
    return {"headers": _ASKED | password, "proxy": proxy.origin}


def _resolver(dialer: Dialer, proxy: ProxyUrl | None) -> "AbstractResolver":
    """Only the proxy, which config names, may be at a private address."""
    import socket

    from aiohttp.abc import AbstractResolver, ResolveResult

    class Guarded(AbstractResolver):
        async def resolve(
            self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
        ) -> list[ResolveResult]:
            found: list[ResolveResult] = []
            is_proxy = proxy is not None and (host, port) == (proxy.host, proxy.port)
            for kind, ip, to_port in await dialer.resolve(host, port):
                dialer.guard.check(host, ip_address(ip.partition("%")[0]), to_port, private_ok=is_proxy)
                found.append(
                    ResolveResult(
                        hostname=host, host=ip, port=to_port, family=kind, proto=0, flags=socket.AI_NUMERICHOST
                    )
                )
            return found

        async def close(self) -> None:
            pass

    return Guarded()
