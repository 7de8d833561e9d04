"""Where a request goes, as a table: base_url, absolute targets, pinned connections, and what is refused."""

from typing import Any

import pytest

from outrider.errors import BadRequestError, ForbiddenError, MisdirectedError, SidecarError, UriNotFoundError
from outrider.lanes.routing import MAX_REMEMBERED, Router
from outrider.providers.registry import Binding, Registry
from outrider.snapshot import PASSTHROUGH
from support.exchanges import exchange, origin


class Made:
    """Instead of a Route: what the router asked for."""

    def __init__(self, *args: Any) -> None:
        binding, self.host, self.port, self.tls, self.method, self.path, self.prefix_bytes, self.address = args
        self.name = binding.name


def router(**more: Any) -> Router:
    def egress(host: str, port: int) -> None:
        if host == "denied.example":
            raise ForbiddenError("denied")

    def make(*args: Any) -> Any:
        made.append(Made(*args))
        return made[-1]

    made: list[Made] = []
    built: Any = Router(
        Registry({}),
        make,
        passthrough=PASSTHROUGH,
        egress=egress,
        unified=lambda method, path: None,
        own_names=frozenset({b"127.0.0.1:8484", b"localhost:8484", b"[::1]:8484"}),
        allowed_origins=frozenset({b"https://app.example"}),
        **more,
    )
    built.made = made
    return built


def find(request: bytes, came: Any = None, *, by: Router | None = None) -> Any:
    return (by or router()).find(exchange(request, came))


def refused(request: bytes, came: Any = None) -> type[SidecarError]:
    with pytest.raises(SidecarError) as caught:
        find(request, came)
    assert str(caught.value)
    return caught.type


def own(path: bytes, more: bytes = b"", host: bytes = b"127.0.0.1:8484") -> bytes:
    return b"GET " + path + b" HTTP/1.1\r\nhost: " + host + b"\r\n" + more + b"\r\n"


# -- base_url


def test_a_base_url_goes_to_its_provider_without_its_prefix() -> None:
    route = find(own(b"/openai/v1/models?limit=2"))
    assert (route.name, route.host, route.port, route.tls) == ("openai", "api.openai.com", 443, True)
    assert (route.path, route.prefix_bytes) == (b"/v1/models", 7)


@pytest.mark.parametrize("host", [b"127.0.0.1:8484", b"localhost:8484", b"LOCALHOST:8484", b"[::1]:8484"])
def test_our_own_names_are_answered(host: bytes) -> None:
    assert find(own(b"/openai/v1/models", host=host)).name == "openai"


@pytest.mark.parametrize(
    "host", [b"evil.example", b"127.0.0.1", b"127.0.0.1:80", b"api.openai.com", b"127.0.0.1:8484.", b""]
)
def test_a_foreign_host_is_misdirected(host: bytes) -> None:
    assert refused(own(b"/openai/v1/models", host=host)) is MisdirectedError


def test_a_missing_host_is_misdirected() -> None:
    assert refused(b"GET /openai/v1/models HTTP/1.0\r\n\r\n") is MisdirectedError


@pytest.mark.parametrize(
    "path", [b"/", b"/v1/models", b"/nobody/v1", b"/openai", b"//openai/v1", b"/OPENAI/v1", b"/%6fpenai/v1"]
)
def test_a_path_without_a_provider_is_not_found(path: bytes) -> None:
    assert refused(own(path)) is UriNotFoundError


def test_a_provider_whose_address_only_config_knows_is_not_found_with_the_key_to_set() -> None:
    unknown = Binding("azure", PASSTHROUGH.provider, (), None, None, None, frozenset(), None)
    by = router()
    by._registry = type("R", (), {"by_name": lambda self, name: unknown})()  # type: ignore[assignment]
    with pytest.raises(UriNotFoundError, match=r"set providers\.azure\.hosts, region or connect_to"):
        find(own(b"/azure/openai/x"), by=by)


@pytest.mark.parametrize(
    ("fields", "allowed"),
    [
        (b"origin: https://app.example\r\n", True),
        (b"origin: https://app.example\r\nsec-fetch-site: cross-site\r\n", True),
        (b"origin: https://evil.example\r\n", False),
        (b"origin: null\r\n", False),
        (b"origin: http://127.0.0.1:8484\r\n", False),
        (b"sec-fetch-site: cross-site\r\n", False),
        (b"sec-fetch-site: same-site\r\n", False),
        (b"sec-fetch-site: none\r\n", True),
        (b"sec-fetch-site: same-origin\r\n", True),
    ],
)
def test_web_pages_are_refused_unless_listed(fields: bytes, allowed: bool) -> None:
    if allowed:
        assert find(own(b"/openai/v1/models", fields)).name == "openai"
    else:
        assert refused(own(b"/openai/v1/models", fields)) is ForbiddenError


def test_a_remembered_route_does_not_forget_the_checks() -> None:
    by = router()
    find(own(b"/openai/v1/models"), by=by)
    with pytest.raises(MisdirectedError):
        find(own(b"/openai/v1/models", host=b"evil.example"), by=by)
    with pytest.raises(ForbiddenError):
        find(own(b"/openai/v1/models", b"origin: https://evil.example\r\n"), by=by)


# -- absolute-form


def absolute(target: bytes, host: bytes = b"other.example") -> bytes:
    return b"GET " + target + b" HTTP/1.1\r\nhost: " + host + b"\r\n\r\n"


@pytest.mark.parametrize(
    ("target", "name", "host", "port", "path"),
    [
        (b"http://api.openai.com/v1/models", "openai", "api.openai.com", 80, b"/v1/models"),
        (b"http://example.com/a?b=c", "other", "example.com", 80, b"/a"),
        (b"http://EXAMPLE.com:8080/", "other", "example.com", 8080, b"/"),
        (b"HTTP://example.com/", "other", "example.com", 80, b"/"),
        (b"http://[2606:4700::1]:81/x", "other", "2606:4700::1", 81, b"/x"),
    ],
)
def test_an_absolute_target_counts_and_its_host_field_does_not(
    target: bytes, name: str, host: str, port: int, path: bytes
) -> None:
    route = find(absolute(target))
    assert (route.name, route.host, route.port, route.path, route.tls) == (name, host, port, path, False)
    assert target[route.prefix_bytes :].startswith(path)


@pytest.mark.parametrize(
    "target",
    [
        b"https://api.openai.com/v1", b"ftp://example.com/", b"http://example.com", b"http:///x", b"http://?x",
        b"http://user:pw@example.com/", b"http://example.com:0/", b"http://example.com:99999/", b"http://exa_mple..com/",
        b"http://0x7f.1/", b"http://2130706433/", b"http://127.1/", b"example.com:443",
    ],
)  # fmt: skip
def test_targets_that_cannot_be_used_are_bad_requests(target: bytes) -> None:
    assert refused(absolute(target)) is BadRequestError


def test_connect_in_the_middle_and_an_asterisk_are_bad_requests() -> None:
    assert refused(b"CONNECT example.com:443 HTTP/1.1\r\nhost: example.com\r\n\r\n") is BadRequestError
    assert refused(b"OPTIONS * HTTP/1.1\r\nhost: 127.0.0.1:8484\r\n\r\n") is BadRequestError


def test_egress_is_asked_about_hosts_of_nobody() -> None:
    assert refused(absolute(b"http://denied.example/")) is ForbiddenError


# -- pinned at the door

TLS = origin("connect", host="api.openai.com", port=443, tls=True)


def test_a_pinned_connection_goes_where_it_was_opened_to() -> None:
    route = find(own(b"/v1/models", host=b"api.openai.com"), TLS)
    assert (route.name, route.host, route.port, route.tls, route.prefix_bytes) == (
        "openai",
        "api.openai.com",
        443,
        True,
        0,
    )
    assert find(own(b"/v1/models", host=b"API.openai.com:443"), TLS).host == "api.openai.com"


@pytest.mark.parametrize("host", [b"evil.example", b"api.openai.com:8443", b"api.anthropic.com", b"127.0.0.1:8484"])
def test_an_inner_host_that_differs_is_misdirected(host: bytes) -> None:
    assert refused(own(b"/v1/models", host=host), TLS) is MisdirectedError


@pytest.mark.parametrize("host", [b"", b"api.openai.com:x"])
def test_an_inner_host_that_is_none_is_a_bad_request(host: bytes) -> None:
    assert refused(own(b"/v1/models", host=host), TLS) is BadRequestError


@pytest.mark.parametrize("target", [b"http://api.openai.com/v1", b"*"])
def test_inside_a_tunnel_the_target_is_a_path(target: bytes) -> None:
    assert refused(b"OPTIONS " + target + b" HTTP/1.1\r\nhost: api.openai.com\r\n\r\n", TLS) is BadRequestError


def test_a_redirected_plain_connection_goes_to_the_address_it_was_meant_for() -> None:
    came = origin("transparent", port=80, address="192.0.2.7")
    route = find(own(b"/x", host=b"example.com"), came)
    assert (route.name, route.host, route.port, route.address) == ("other", "example.com", 80, "192.0.2.7")
    provider = find(own(b"/v1/models", host=b"api.openai.com"), came)
    assert (provider.name, provider.address) == ("openai", None)


# -- what is remembered


def test_a_route_is_made_once_for_the_same_question() -> None:
    by: Any = router()
    first = find(own(b"/openai/v1/models?a=1"), by=by)
    assert find(own(b"/openai/v1/models?a=2"), by=by) is first
    assert find(own(b"/openai/v1/models").replace(b"GET", b"PUT"), by=by) is not first
    one = find(absolute(b"http://example.com/a"), by=by)
    assert find(absolute(b"http://example.com/a", host=b"x"), by=by) is one
    pinned = find(own(b"/v1/models", host=b"api.openai.com"), TLS, by=by)
    assert find(own(b"/v1/models", host=b"api.openai.com"), TLS, by=by) is pinned
    assert len(by.made) == 4


def test_what_is_remembered_is_bounded() -> None:
    by: Any = router()
    for number in range(MAX_REMEMBERED + 10):
        find(own(b"/openai/v1/models/%d" % number), by=by)
        find(absolute(b"http://example.com/%d" % number), by=by)
    assert len(by._own) <= MAX_REMEMBERED
    assert len(by._others) <= MAX_REMEMBERED
