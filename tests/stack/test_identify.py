"""Who may use our credential, and what becomes of the app's own key."""

from pathlib import Path
from typing import Any

import pytest

from outrider.errors import ForbiddenError, PlaceholderRequiredError, SidecarError
from outrider.secrets.placeholder import Placeholder
from support.exchanges import call, exchange, snapshot

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
