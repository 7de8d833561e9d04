"""Who may use our credential, and what becomes of the app's own key."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider.errors import ForbiddenError, PlaceholderRequiredError, SidecarError
from outrider.govern.virtual_keys import HASH_PREFIX, KeyHasher, keys_in, new_key
from outrider.secrets.placeholder import Placeholder
from support.exchanges import call, exchange, origin, snapshot

CREDENTIAL = {"credential": {"env": "K"}}


def verdict(folder: Path, providers: dict[str, Any], request: bytes) -> type[SidecarError] | None:
    """What the first layer that refuses says; None lets it pass."""
    x = exchange(request)
    route = snapshot(folder, providers, environ={"K": "sk-real"}).router.find(x)
    try:
        for hook in route.request_hooks:
            assert hook(x, call(route)) is None
    except SidecarError as error:
        return type(error)
    return None


def chat(more: bytes = b"", path: bytes = b"/openai/v1/chat/completions") -> bytes:
    return b"POST " + path + b" HTTP/1.1\r\nhost: 127.0.0.1:8484\r\n" + more + b"\r\n"


@pytest.fixture(name="placeholder")
def fixture_placeholder(tmp_path: Path) -> bytes:
    return Placeholder.open(tmp_path).value.encode()


@pytest.mark.parametrize("slot", [b"authorization: Bearer ", b"authorization: ", b"x-api-key: ", b"api-key: "])
def test_the_placeholder_in_any_slot_opens(tmp_path: Path, placeholder: bytes, slot: bytes) -> None:
    assert verdict(tmp_path, {"openai": CREDENTIAL}, chat(slot + placeholder + b"\r\n")) is None


@pytest.mark.parametrize(
    "more", [b"", b"authorization: Bearer sk-other\r\n", b"authorization: Bearer \r\n", b"x-other: 1\r\n"]
)
def test_without_it_nothing_is_open(tmp_path: Path, more: bytes) -> None:
    assert verdict(tmp_path, {"openai": CREDENTIAL}, chat(more)) is PlaceholderRequiredError


def test_a_piece_of_it_is_not_it(tmp_path: Path, placeholder: bytes) -> None:
    for near in (placeholder[:-1], placeholder + b"x", placeholder.upper()):
        assert (
            verdict(tmp_path, {"openai": CREDENTIAL}, chat(b"x-api-key: " + near + b"\r\n")) is PlaceholderRequiredError
        )


def test_config_may_do_without_it(tmp_path: Path) -> None:
    assert verdict(tmp_path, {"openai": {**CREDENTIAL, "require_placeholder": False}}, chat()) is None


def test_the_placeholder_never_leaves_for_a_provider_without_a_credential(tmp_path: Path, placeholder: bytes) -> None:
    for more in (b"authorization: Bearer " + placeholder, b"x-anything: " + placeholder):
        assert verdict(tmp_path, {}, chat(more + b"\r\n")) is PlaceholderRequiredError
    assert verdict(tmp_path, {}, chat(path=b"/openai/v1/chat/completions?k=" + placeholder)) is PlaceholderRequiredError
    assert verdict(tmp_path, {}, chat(b"authorization: Bearer sk-own\r\n")) is None


def test_nor_for_an_operation_that_does_not_get_the_credential(tmp_path: Path, placeholder: bytes) -> None:
    request = chat(b"authorization: Bearer " + placeholder + b"\r\n", b"/openai/v1/nobody-knows-this")
    assert verdict(tmp_path, {"openai": CREDENTIAL}, request) is PlaceholderRequiredError


def test_byok_deny_refuses_the_apps_own_key(tmp_path: Path) -> None:
    assert verdict(tmp_path, {"openai": {"byok": "deny"}}, chat(b"authorization: Bearer sk-own\r\n")) is ForbiddenError


def test_unknown_operations_deny_refuses_them(tmp_path: Path) -> None:
    providers = {"openai": {**CREDENTIAL, "unknown_operations": "deny"}}
    request = chat(b"authorization: Bearer sk-own\r\n", b"/openai/v1/nobody-knows-this")
    assert verdict(tmp_path, providers, request) is ForbiddenError


@pytest.mark.parametrize("field", [b"x-http-method-override", b"X-HTTP-Method", b"x-method-override"])
@pytest.mark.parametrize("required", [True, False])
def test_a_field_that_names_another_method_is_refused(
    tmp_path: Path, placeholder: bytes, field: bytes, required: bool
) -> None:
    providers = {"openai": {**CREDENTIAL, "require_placeholder": required}}
    more = b"authorization: Bearer " + placeholder + b"\r\n" + field + b": DELETE\r\n"
    assert verdict(tmp_path, providers, chat(more)) is ForbiddenError


# -- virtual keys: wherever they are written, none leaves

KEYS = [new_key(), new_key()]
PIECES = [
    *KEYS,
    "PLACEHOLDER",
    "sk-own",
    "ork_",
    KEYS[0][:-1],
    KEYS[0] + "X",
    f"{KEYS[0]} {KEYS[1]}",
    "%6F" + KEYS[0][1:],
]
NAMES = ["authorization", "x-api-key", "api-key", "x-goog-api-key", "cookie", "x-b", "proxy-authorization"]
FORMS = ["{}", "Bearer {}", "bearer  {}", "Token {}", "Basic {}", "a={}; b"]
TARGETS = ["", "?key={}", "?x=1&key={}", "?other={}", "?KEY={};key={}", "/{}"]
PATHS = [
    "/openai/v1/chat/completions",
    "/gemini/v1beta/models/gemini-2.5-flash:generateContent",
    "/groq/openai/v1/models",
]
FIELDS = st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from(FORMS), st.sampled_from(PIECES)), max_size=4)


class Opened:
    """A configuration with two keys, of two principals, and a connection that remembers."""

    def __init__(self, folder: Path) -> None:
        hasher = KeyHasher.open(folder / "hmac", create=True)
        who = [
            {"id": name, "from": {"keys": [{"hash": HASH_PREFIX + hasher.hash_of(key.encode()).hex()}]}}
            for name, key in zip(("ann", "ben"), KEYS, strict=True)
        ]
        self.snapshot = snapshot(
            folder,
            {"openai": CREDENTIAL, "gemini": CREDENTIAL},
            environ={"K": "sk-real"},
            principals=who,
            virtual_keys={"hmac_key": str(folder / "hmac")},
        )
        self.placeholder = Placeholder.open(folder).value

    def sent(self, request: str, came: Any) -> tuple[str, bytes] | None:
        """(the caller's id, the head that leaves), None where it is refused."""
        x = exchange(request.replace("PLACEHOLDER", self.placeholder).encode(), came)
        route = self.snapshot.router.find(x)
        one = call(route)
        try:
            for hook in route.request_hooks:
                hook(x, one)
        except SidecarError:
            return None
        return one.principal.id, route.attempt.build(x, one, b"")[0]


@pytest.fixture(scope="module", name="opened")
def fixture_opened(tmp_path_factory: pytest.TempPathFactory) -> Opened:
    return Opened(tmp_path_factory.mktemp("opened"))


@given(
    asked=st.lists(
        st.tuples(st.sampled_from(PATHS), st.sampled_from(TARGETS), st.sampled_from(PIECES), FIELDS),
        min_size=1,
        max_size=3,
    )
)
def test_no_virtual_key_leaves_wherever_it_was_written(opened: Opened, asked: Any) -> None:
    """Several requests of one connection, judged as if each were alone: what is remembered changes nothing."""
    came = origin()
    for path, target, piece, fields in asked:
        lines = "".join(f"{name}: {form.format(value)}\r\n" for name, form, value in fields)
        in_target = piece.replace(" ", "+")
        written = f"POST {path}{target.replace('{}', in_target)} HTTP/1.1\r\nhost: 127.0.0.1:8484\r\n{lines}\r\n"
        sent = opened.sent(written, came)
        assert sent == opened.sent(written, origin())
        if sent is not None:
            assert not keys_in(sent[1])
            assert not (sent[0] == "ann" and KEYS[0] not in written and KEYS[0][1:] not in written)
            assert not (sent[0] == "ben" and KEYS[1] not in written)
