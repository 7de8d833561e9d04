"""Files that an app named by URL, from real servers; and what an app must not reach by naming it."""

import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from aiohttp import web

from outrider.config.values import proxy_url
from outrider.errors import DestinationDeniedError, ForbiddenError
from outrider.upstream.dial import Dialer
from outrider.upstream.fetch import MediaFetcher, MediaUnavailableError
from outrider.upstream.guard import AddressGuard

PNG = b"\x89PNG\r\n\x1a\n" + bytes(100)

type Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


class Files:
    """A server whose answers the test scripts by path; every request's headers are kept."""

    def __init__(self) -> None:
        self.answers: dict[str, Callable[[], web.StreamResponse]] = {}
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.port = 0

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        self.asked.append((request.path, {name.lower(): value for name, value in request.headers.items()}))
        return self.answers[request.path]()

    def url(self, path: str, host: str = "files.test") -> str:
        return f"http://{host}:{self.port}{path}"


@pytest.fixture
async def files() -> AsyncIterator[Files]:
    found = Files()
    runner = web.ServerRunner(web.Server(found.handle))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    found.port = runner.addresses[0][1]
    yield found
    await runner.cleanup()


def fetcher(
    allow: tuple[str, ...] = ("files.test",), cap_bytes: int = 1 << 20, egress: Any = None, proxy: str | None = None
) -> MediaFetcher:
    """files.test is this machine, and config allows that name."""
    dialer = Dialer(AddressGuard(allow), connect_s=5)
    known = dialer.resolve

    async def resolve(host: str, port: int) -> Any:
        return await known("127.0.0.1" if host.endswith(".test") else host, port)

    dialer.resolve = resolve  # type: ignore[method-assign]
    return MediaFetcher(
        dialer,
        egress=egress or (lambda host, port: None),
        context=ssl.create_default_context,
        cap_bytes=cap_bytes,
        proxy=proxy_url(proxy),
    )


def gives(body: bytes, kind: str = "image/png", status: int = 200, **headers: str) -> Callable[[], web.Response]:
    return lambda: web.Response(body=body, status=status, content_type=kind, headers=headers)


async def test_a_file_comes_with_its_type_and_nothing_of_the_app_goes_with_the_question(files: Files) -> None:
    files.answers["/a.png"] = gives(PNG)
    found = await fetcher().fetch(files.url("/a.png"))
    assert (found.mime, found.data) == ("image/png", PNG)
    assert not {"authorization", "cookie", "x-api-key"} & set(files.asked[0][1])


async def test_a_type_that_says_nothing_is_told_from_the_bytes(files: Files) -> None:
    files.answers["/a"] = gives(PNG, "application/octet-stream")
    assert (await fetcher().fetch(files.url("/a"))).mime == "image/png"


async def test_a_redirect_is_followed_and_its_address_checked_anew(files: Files) -> None:
    files.answers["/a"] = gives(b"", status=302, location="/b")
    files.answers["/b"] = gives(PNG)
    assert (await fetcher().fetch(files.url("/a"))).data == PNG
    for inside in ("http://127.0.0.1:1/x", "http://169.254.169.254/latest", "http://other.test:1/x"):
        files.answers["/in"] = gives(b"", status=302, location=inside)
        with pytest.raises(DestinationDeniedError):
            await fetcher().fetch(files.url("/in"))


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/x", "http://[::1]/x", "http://0x7f000001/x", "http://2130706433/x", "http://10.0.0.1/x",
        "http://169.254.169.254/latest/meta-data/", "http://[::ffff:127.0.0.1]/x", "http://metadata.test/x",
        "http://127.1/x", "http://0/x",
    ],
)  # fmt: skip
async def test_private_addresses_are_refused_however_they_are_spelled(url: str) -> None:
    with pytest.raises((DestinationDeniedError, MediaUnavailableError)) as refused:
        await fetcher(allow=()).fetch(url)
    assert "ClientConnector" not in str(refused.value), "it was refused, not tried"


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("file:///etc/passwd", "http or https URL only"),
        ("http://user:secret@files.test/x", "a user or password"),
        ("http://[broken/x", "no URL"),
        ("data:image/png;base64,AA", "http or https URL only"),
    ],
)
async def test_what_is_no_address_of_a_file_is_said(url: str, says: str) -> None:
    with pytest.raises(MediaUnavailableError, match=says) as refused:
        await fetcher().fetch(url)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (gives(b"x" * 2000), "more than 1000 bytes"),
        (gives(b"{}", "application/json"), "no image, document or sound"),
        (gives(b"no", status=404), "answered 404"),
        (gives(b"", status=302, location="/loop"), "redirects more than 3 times"),
    ],
)
async def test_what_is_too_large_of_another_kind_or_not_there_is_said(
    files: Files, answer: Callable[[], web.Response], says: str
) -> None:
    files.answers["/loop"] = answer
    with pytest.raises(MediaUnavailableError, match=says):
        await fetcher(cap_bytes=1000).fetch(files.url("/loop"))


async def test_a_packed_bomb_counts_as_what_it_unpacks_to(files: Files) -> None:
    import gzip

    files.answers["/a"] = gives(gzip.compress(bytes(100_000)), **{"content-encoding": "gzip"})
    with pytest.raises(MediaUnavailableError, match="more than 5000 bytes"):
        await fetcher(cap_bytes=5000).fetch(files.url("/a"))


async def test_hosts_that_config_denies_are_not_asked(files: Files) -> None:
    def egress(host: str, port: int) -> None:
        raise ForbiddenError(f"{host}:{port} is not a provider that this sidecar knows, and egress.default is deny")

    with pytest.raises(ForbiddenError):
        await fetcher(egress=egress).fetch(files.url("/a"))
    assert files.asked == []


@pytest.mark.parametrize("host", ["proxy.test", "127.0.0.1"])
async def test_the_proxy_that_config_names_may_be_private_and_gets_its_own_password(files: Files, host: str) -> None:
    files.answers["/a.png"] = gives(PNG)
    through = fetcher(allow=(), proxy=f"http://user:pass@{host}:{files.port}")
    assert (await through.fetch("http://files.example/a.png")).data == PNG
    path, headers = files.asked[0]
    assert (path, headers["host"]) == ("/a.png", "files.example")
    assert headers["proxy-authorization"] == "Basic dXNlcjpwYXNz"


async def test_a_private_proxy_opens_no_way_to_private_files(files: Files) -> None:
    through = fetcher(allow=(), proxy=f"http://proxy.test:{files.port}")
    files.answers["/in"] = gives(b"", status=302, location=files.url("/b", "proxy.test"))
    for url in ("http://10.0.0.1/x", files.url("/b", "127.0.0.1"), files.url("/b", "proxy.test"), "http://a.test/in"):
        with pytest.raises(DestinationDeniedError):
            await through.fetch(url)
    assert [path for path, _ in files.asked] == ["/in"]
    with pytest.raises(DestinationDeniedError):
        await fetcher(allow=()).fetch(files.url("/b", "proxy.test"))


async def test_the_password_of_the_proxy_goes_with_connect_alone_for_an_encrypted_file(files: Files) -> None:
    files.answers["/"] = gives(b"", status=403)
    with pytest.raises(MediaUnavailableError, match="ClientHttpProxyError"):
        await fetcher(allow=(), proxy=f"http://user:pass@proxy.test:{files.port}").fetch("https://files.example/a.png")
    assert [headers.get("proxy-authorization") for _, headers in files.asked] == ["Basic dXNlcjpwYXNz"]
