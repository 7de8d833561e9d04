"""What `exec` takes over from an environment, and what it leaves in its place."""

import json
from pathlib import Path

import pytest

from outrider.cli.takeover import Hidden, Overlay, hide, overlay, user_roots
from outrider.config import Config, load
from outrider.door.ca import CertificateAuthority, utc_now
from outrider.errors import StartError
from outrider.providers.registry import Registry
from outrider.secrets.placeholder import Placeholder
from outrider.secrets.sources import AwsCredentials, source_for

PLACEHOLDER = Placeholder("sk-outrider-" + "a" * 40)
KEY = "sk-planted-0123456789abcdef"
OTHER = "planted-other-0123456789abcdef"


def take(
    environ: dict[str, str], tmp_path: Path, text: str = "", keep: tuple[str, ...] = ()
) -> tuple[Config, Overlay, Hidden]:
    """The configuration after taking over, what was taken, and what is hidden."""
    path = tmp_path / "outrider.yaml"
    path.write_text(text)
    before = load(path, environ, tmp_path)
    taken = overlay(before, Registry(before.providers), environ, keep)
    config = load(path, taken.over(environ), tmp_path)
    sources = {
        name: source_for(settings.credential, environ)
        for name, settings in config.providers.items()
        if settings.credential is not None
    }
    hidden = hide(config, Registry(config.providers), environ, sources=sources, placeholder=PLACEHOLDER, keep=keep)
    return config, taken, hidden


def credentials(config: Config) -> dict[str, str]:
    return {name: entry.credential.described for name, entry in config.providers.items() if entry.credential}


@pytest.mark.parametrize(
    ("environ", "held"),
    [
        ({"OPENAI_API_KEY": KEY}, {"openai": "env OPENAI_API_KEY"}),
        ({"OPENAI_API_KEY": ""}, {}),
        ({"GEMINI_API_KEY": KEY}, {"gemini": "env GEMINI_API_KEY"}),
        ({"GOOGLE_API_KEY": KEY, "GEMINI_API_KEY": OTHER}, {"gemini": "env GOOGLE_API_KEY"}),
        ({"ANTHROPIC_AUTH_TOKEN": KEY}, {}),
        ({"AZURE_OPENAI_API_KEY": KEY}, {}),
        (
            {"AZURE_OPENAI_API_KEY": KEY, "AZURE_OPENAI_ENDPOINT": "https://acme.openai.azure.com/"},
            {"azure": "env AZURE_OPENAI_API_KEY"},
        ),
        ({"AWS_BEARER_TOKEN_BEDROCK": KEY}, {}),
        ({"AWS_BEARER_TOKEN_BEDROCK": KEY, "AWS_REGION": "eu-west-1"}, {"bedrock": "env AWS_BEARER_TOKEN_BEDROCK"}),
        ({"AWS_ACCESS_KEY_ID": "AKIA", "AWS_SECRET_ACCESS_KEY": KEY, "AWS_REGION": "eu-west-1"}, {}),
        ({"OLLAMA_API_KEY": KEY}, {}),
        ({"OPENAI_API_KEY": KEY, "OPENAI_BASE_URL": "https://gateway.example.com/v1"}, {}),
        (
            {"OPENAI_API_KEY": KEY, "OPENAI_BASE_URL": "https://eu.api.openai.com/v1"},
            {"openai": "env OPENAI_API_KEY"},
        ),
        ({"OPENAI_API_KEY": "two\nlines"}, {}),
    ],
)
def test_a_key_is_taken_over_where_the_sidecar_can_use_it(
    environ: dict[str, str], held: dict[str, str], tmp_path: Path
) -> None:
    config, taken, hidden = take(environ, tmp_path)
    assert credentials(config) == held
    assert hidden.keys == len(held) + (len(set(environ.values())) - 1 if "GEMINI_API_KEY" in environ else 0)
    present = [value for name, value in environ.items() if name.endswith(("KEY", "TOKEN", "BEDROCK")) and value]
    if present and not held and "AWS_ACCESS_KEY_ID" not in environ:
        assert not hidden.variables
        assert not any(value in note for note in taken.notes for value in present)


def test_what_config_says_about_a_credential_stands(tmp_path: Path) -> None:
    (tmp_path / "key").write_text(OTHER)
    config, _, hidden = take(
        {"OPENAI_API_KEY": KEY}, tmp_path, f"providers: {{openai: {{credential: {{file: {tmp_path}/key}}}}}}"
    )
    assert credentials(config) == {"openai": f"file {tmp_path}/key"}
    assert hidden.variables == {"OPENAI_API_KEY": PLACEHOLDER.value}


def test_an_absent_sdk_variable_is_set_where_config_holds_the_key(tmp_path: Path) -> None:
    (tmp_path / "key").write_text(OTHER)
    text = f"providers: {{gemini: {{credential: {{file: {tmp_path}/key}}}}, openai: {{credential: {{env: MY_KEY}}}}}}"
    _, _, hidden = take({"MY_KEY": KEY}, tmp_path, text)
    assert hidden.variables == dict.fromkeys(("GOOGLE_API_KEY", "OPENAI_API_KEY", "MY_KEY"), PLACEHOLDER.value)
    assert hidden.keys == 1


def test_the_same_secret_is_hidden_under_every_name_and_within_longer_values(tmp_path: Path) -> None:
    environ = {
        "OPENAI_API_KEY": KEY,
        "COPY": f" {KEY}\n",
        "HEADERS": f'{{"authorization": "Bearer {KEY}"}}',
        "UNRELATED": "sk-planted",
    }
    _, _, hidden = take(environ, tmp_path)
    assert set(hidden.variables) == {"OPENAI_API_KEY", "COPY", "HEADERS"}
    assert KEY not in json.dumps(hidden.variables)
    assert hidden.keys == 1


def test_a_short_key_is_not_looked_for_in_other_variables(tmp_path: Path) -> None:
    _, _, hidden = take({"OPENAI_API_KEY": "test", "STAGE": "test", "NAME": "latest"}, tmp_path)
    assert set(hidden.variables) == {"OPENAI_API_KEY"}


def test_all_variables_that_a_providers_sdks_read_hold_the_placeholder(tmp_path: Path) -> None:
    environ = {"ANTHROPIC_API_KEY": KEY, "ANTHROPIC_AUTH_TOKEN": OTHER}
    _, _, hidden = take(environ, tmp_path)
    assert hidden.variables == dict.fromkeys(environ, PLACEHOLDER.value)
    assert hidden.keys == 2


def test_aws_access_keys_that_config_names_become_an_aws_shaped_pair(tmp_path: Path) -> None:
    environ = {"AWS_ACCESS_KEY_ID": "AKIAPLANTED012345678", "AWS_SECRET_ACCESS_KEY": KEY, "AWS_SESSION_TOKEN": OTHER}
    text = "providers: {bedrock: {region: us-east-1, credential: {env: AWS_ACCESS_KEY_ID}}}"
    config, _, hidden = take(environ, tmp_path, text)
    assert hidden.variables == {
        "AWS_ACCESS_KEY_ID": PLACEHOLDER.aws_access_key_id,
        "AWS_SECRET_ACCESS_KEY": PLACEHOLDER.aws_secret_access_key,
        "AWS_SESSION_TOKEN": None,
    }
    assert hidden.keys == 1
    setting = config.providers["bedrock"].credential
    assert setting is not None
    held = source_for(setting, environ).current()
    assert isinstance(held, AwsCredentials)
    assert (held.access_key, held.secret.expose()) == ("AKIAPLANTED012345678", KEY.encode())
    assert held.token is not None
    assert held.token.expose() == OTHER.encode()


def test_a_bedrock_bearer_key_leaves_the_access_keys_to_other_services(tmp_path: Path) -> None:
    environ = {"AWS_ACCESS_KEY_ID": "AKIA", "AWS_SECRET_ACCESS_KEY": OTHER, "AWS_REGION": "us-east-1"}
    _, _, hidden = take(environ | {"AWS_BEARER_TOKEN_BEDROCK": KEY}, tmp_path)
    assert hidden.variables == {"AWS_BEARER_TOKEN_BEDROCK": PLACEHOLDER.value}


@pytest.mark.parametrize("text", ["", "providers: {openai: {credential: {env: OPENAI_API_KEY}}}"])
def test_a_kept_variable_stays_and_its_provider_gets_no_credential(text: str, tmp_path: Path) -> None:
    environ = {"OPENAI_API_KEY": KEY, "GROQ_API_KEY": OTHER, "OUTRIDER__PROVIDERS__OPENAI__BYOK": "pass"}
    config, _, hidden = take(environ, tmp_path, text, keep=("OPENAI_API_KEY",))
    assert set(credentials(config)) == {"groq"}
    assert set(hidden.variables) == {"GROQ_API_KEY"}


def test_keeping_what_is_not_set_is_noted(tmp_path: Path) -> None:
    _, taken, _ = take({}, tmp_path, keep=("OPENAI_KEY",))
    assert taken.notes == ["--keep OPENAI_KEY keeps nothing, for no such variable is set"]


def test_beside_another_sidecar_the_placeholder_is_a_key_like_any_other(tmp_path: Path) -> None:
    config, _, hidden = take({"OPENAI_API_KEY": PLACEHOLDER.value}, tmp_path)
    assert credentials(config) == {"openai": "env OPENAI_API_KEY"}
    assert hidden.keys == 0


def test_a_provider_that_is_not_intercepted_keeps_the_apps_own_key(tmp_path: Path) -> None:
    config, _, hidden = take({"OPENAI_API_KEY": KEY}, tmp_path, "providers: {openai: {intercept: false}}")
    assert not credentials(config)
    assert not hidden.variables


@pytest.mark.parametrize(
    ("environ", "proxy"),
    [
        ({"HTTPS_PROXY": "http://corp:3128"}, "http://corp:3128"),
        ({"https_proxy": "corp:3128"}, "http://corp:3128"),
        ({"ALL_PROXY": "http://user:pass@corp"}, "http://****@corp:80"),
        ({"HTTP_PROXY": "http://corp:3128"}, "None"),
        ({"HTTPS_PROXY": "http://corp:3128", "NO_PROXY": "a, *"}, "None"),
        ({"HTTPS_PROXY": ""}, "None"),
    ],
)
def test_the_users_own_proxy_is_gone_through(environ: dict[str, str], proxy: str, tmp_path: Path) -> None:
    config, _, _ = take(environ, tmp_path)
    assert str(config.upstream.proxy) == proxy


def test_a_proxy_that_config_names_stands(tmp_path: Path) -> None:
    config, _, _ = take({"HTTPS_PROXY": "http://corp:3128"}, tmp_path, "upstream: {proxy: 'http://mine:1'}")
    assert str(config.upstream.proxy) == "http://mine:1"


def test_a_proxy_that_cannot_be_gone_through_is_refused_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(StartError, match=r"^ALL_PROXY must be .*; set upstream.proxy, or unset") as failed:
        take({"ALL_PROXY": "socks5://u:planted@corp:1080"}, tmp_path)
    assert failed.value.exit_code == 2
    assert "planted" not in str(failed.value)


def test_a_key_of_ours_is_not_set_again_by_a_users_variable_below_it() -> None:
    found = Overlay()
    found.set("providers", "openai", "credential", to=None)
    environ = {"OUTRIDER__PROVIDERS__OPENAI__CREDENTIAL__ENV": "K", "OUTRIDER__PROVIDERS__OPENAI__BYOK": "deny"}
    assert found.over(environ) == {
        "OUTRIDER__PROVIDERS__OPENAI__BYOK": "deny",
        "OUTRIDER__PROVIDERS__OPENAI__CREDENTIAL": "null",
    }


def test_roots_that_cannot_be_read_do_not_spoil_the_others(tmp_path: Path) -> None:
    good = CertificateAuthority.open(tmp_path / "ca", now=utc_now).certificate_pem
    bad = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
    (tmp_path / "both.pem").write_bytes(bad + good)
    assert user_roots({"REQUESTS_CA_BUNDLE": str(tmp_path / "both.pem"), "PIP_CERT": "/nowhere"}) == good
