"""The environment of each runtime: what is set, what is merged, what real clients make of it."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from cryptography.hazmat.primitives.serialization import pkcs12
from hypothesis import given
from hypothesis import strategies as st

from outrider.config import load
from outrider.door.ca import CertificateAuthority
from outrider.door.ca_files import pem_blocks
from outrider.providers import BUILT_IN
from outrider.providers.registry import Registry
from outrider.runtimes import (
    BASE_URLS,
    VARIABLES,
    Takes,
    TrustFiles,
    conflicts,
    environment,
    merge_no_proxy,
    merged_bundle,
    merged_ca,
    open_authority,
    provider_hosts_of,
    write_trust_files,
)
from support.authority import Clock

PROXY = "http://127.0.0.1:8484"
HOSTS = ("api.openai.com", "*.openai.azure.com", "bedrock-runtime.*.amazonaws.com", "llm.internal:8443", "10.9.8.7")


@pytest.fixture
def authority(tmp_path: Path) -> CertificateAuthority:
    return CertificateAuthority.open(tmp_path / "ca", now=Clock.real())


@pytest.fixture
def files(authority: CertificateAuthority, tmp_path: Path) -> TrustFiles:
    return write_trust_files(authority, tmp_path / "trust", {}, php=True)


def variables_of(files: TrustFiles, existing: dict[str, str] | None = None, **more: object) -> dict[str, str]:
    return environment(PROXY, files.bundle, files.ca, existing=existing or {}, **more)  # type: ignore[arg-type]


# -- the table


def test_replacing_variables_take_the_bundle_and_adding_ones_our_ca(files: TrustFiles) -> None:
    values = variables_of(files)
    for row in VARIABLES:
        if row.takes is Takes.BUNDLE:
            assert values[row.name] == str(files.bundle)
        if row.takes is Takes.CA:
            assert values[row.name] == str(files.ca)
    assert values["NODE_USE_ENV_PROXY"] == "1"


def test_each_proxy_variable_is_set_in_both_cases(files: TrustFiles) -> None:
    values = variables_of(files)
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "WSS_PROXY", "WS_PROXY"):
        assert values[name] == values[name.lower()] == PROXY
    assert values["NO_PROXY"] == values["no_proxy"] == "localhost,127.0.0.1,::1"


def test_no_variable_points_at_a_missing_file(tmp_path: Path) -> None:
    values = environment(PROXY, tmp_path / "bundle.pem", tmp_path / "ca.pem", existing={}, php=True)
    assert {row.name for row in VARIABLES if row.takes in {Takes.BUNDLE, Takes.CA, Takes.PHP}}.isdisjoint(values)
    assert "trustStore" not in values["JAVA_TOOL_OPTIONS"]


def test_each_variable_stands_in_the_table_once() -> None:
    names = [row.name for row in (*VARIABLES, *BASE_URLS)]
    assert len(names) == len(set(names))


# -- NO_PROXY


@pytest.mark.parametrize(
    "entry",
    [
        "api.openai.com",
        "openai.com",
        ".openai.com",
        "*.openai.com",
        "API.OpenAI.com",
        "api.openai.com:443",
        "com",
        "*",
        "https://api.openai.com",
        "azure.com",
        "mine.openai.azure.com",
        ".amazonaws.com",
        "us-east-1.amazonaws.com",
        ".internal",
        "llm.internal",
        "10.9.0.0/16",
        "10.9.8.7",
    ],
)
def test_an_entry_that_covers_a_provider_is_left_out(entry: str) -> None:
    kept, dropped = merge_no_proxy({"NO_PROXY": f"intranet.example,{entry}"}, (), HOSTS)
    assert kept == ["localhost", "127.0.0.1", "::1", "intranet.example"]
    assert dropped == [entry]
    assert any(repr(entry) in sentence for sentence in conflicts({"NO_PROXY": entry}, provider_hosts=HOSTS))


@pytest.mark.parametrize(
    "entry",
    [
        "example.com",
        ".svc",
        "*.cluster.local",
        "10.0.0.0/24",
        "192.168.1.7",
        "fe80::1",
        "db:5432",
        "openai.example",
        "storage.azure.com",
        "s3.us-east-1.amazonaws.com",
        "www.openai.com",
    ],
)
def test_an_entry_that_covers_no_provider_is_kept_as_it_is(entry: str) -> None:
    assert merge_no_proxy({"no_proxy": entry}, (), HOSTS) == (["localhost", "127.0.0.1", "::1", entry], [])


def test_both_cases_extras_and_spaces_are_merged_once_each() -> None:
    existing = {"NO_PROXY": "a.example, b.example", "no_proxy": "b.example c.example,,localhost"}
    kept, dropped = merge_no_proxy(existing, ["pod.example", "a.example"], HOSTS)
    assert kept == ["localhost", "127.0.0.1", "::1", "pod.example", "a.example", "b.example", "c.example"]
    assert dropped == []


def test_brackets_are_taken_off_and_ipv6_networks_left_out() -> None:
    kept, dropped = merge_no_proxy({"NO_PROXY": "[::1],[fe80::1]:80,fd00::/8,host:abc,foo:*,é.example"})
    assert kept == ["localhost", "127.0.0.1", "::1", "fe80::1"]
    assert dropped == ["fd00::/8", "host:abc", "foo:*", "é.example"]


def construct_httpx(monkeypatch: pytest.MonkeyPatch, values: dict[str, str]) -> None:
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    httpx.Client().close()


def test_httpx_constructs_where_the_users_own_no_proxy_would_make_it_raise(
    files: TrustFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    entries = "[::1],fd00::/8,10.0.0.0/8,.svc,[fe80::1]:80,host:abc,*.x.example,::1"
    users = {"NO_PROXY": entries, "no_proxy": entries}
    with pytest.raises(httpx.InvalidURL):
        construct_httpx(monkeypatch, users)
    construct_httpx(monkeypatch, variables_of(files, users))


@given(st.lists(st.text(alphabet="aé1.:[]/*%@-_ <>", max_size=12), max_size=6))
def test_whatever_the_user_wrote_httpx_constructs(entries: list[str]) -> None:
    kept, _ = merge_no_proxy({"NO_PROXY": ",".join(entries)})
    with pytest.MonkeyPatch.context() as patch:
        construct_httpx(patch, {"HTTPS_PROXY": PROXY, "NO_PROXY": ",".join(kept), "no_proxy": ",".join(kept)})


# -- Java and PHP


def test_java_options_are_appended_and_ours_of_before_replaced(files: TrustFiles) -> None:
    first = variables_of(files, {"JAVA_TOOL_OPTIONS": '-Xmx1g "-Dname=two words"'})["JAVA_TOOL_OPTIONS"]
    assert first.startswith('-Xmx1g "-Dname=two words" -D')
    assert f"-Djavax.net.ssl.trustStore={files.trust_store}" in first
    assert "-Dhttps.proxyPort=8484" in first
    assert variables_of(files, {"JAVA_TOOL_OPTIONS": first})["JAVA_TOOL_OPTIONS"] == first


def test_a_trust_store_of_the_users_stays_and_is_told(files: TrustFiles) -> None:
    existing = {"JAVA_TOOL_OPTIONS": "-Djavax.net.ssl.trustStore=/corp/cacerts"}
    options = variables_of(files, existing)["JAVA_TOOL_OPTIONS"]
    assert re.findall(r"trustStore=(\S+)", options) == ["/corp/cacerts"]
    assert "changeit" not in options
    assert any("trust store" in sentence for sentence in conflicts(existing))


def test_hosts_to_reach_directly_are_written_as_java_has_them(files: TrustFiles) -> None:
    options = variables_of(files, {"NO_PROXY": ".svc,*.corp.example,10.0.0.0/8,db.example:5432"})["JAVA_TOOL_OPTIONS"]
    hosts = re.search(r"http\.nonProxyHosts=(\S+)", options)
    assert hosts is not None
    assert hosts.group(1) == "localhost|127.0.0.1|[::1]|*.svc|*.corp.example|db.example"


def test_a_path_with_a_blank_survives_java_tool_options(authority: CertificateAuthority, tmp_path: Path) -> None:
    java = shutil.which("java")
    if java is None:
        pytest.skip("java is not installed.")
    files = write_trust_files(authority, tmp_path / "my trust", {})
    value = variables_of(files)["JAVA_TOOL_OPTIONS"]
    done = subprocess.run(
        (java, "-XshowSettings:properties", "-version"),
        env=dict(os.environ) | {"JAVA_TOOL_OPTIONS": value},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert f"javax.net.ssl.trustStore = {files.trust_store}" in done.stderr
    assert "https.proxyPort = 8484" in done.stderr


def test_php_gets_a_folder_only_on_demand_and_keeps_its_own(files: TrustFiles) -> None:
    folder = files.bundle.parent / "php.d"
    assert "PHP_INI_SCAN_DIR" not in variables_of(files)
    assert variables_of(files, php=True)["PHP_INI_SCAN_DIR"] == f":{folder}"
    existing = {"PHP_INI_SCAN_DIR": "/etc/php.d"}
    assert variables_of(files, existing, php=True)["PHP_INI_SCAN_DIR"] == f"/etc/php.d:{folder}"
    assert str(files.bundle) in (folder / "outrider.ini").read_text()


# -- trust files


def test_a_users_own_ca_files_are_merged_into_the_bundle(authority: CertificateAuthority, tmp_path: Path) -> None:
    for name in ("system", "corp", "node"):
        (tmp_path / f"{name}.pem").write_bytes(authority.mint(f"{name}.example.com"))
    existing = {
        "SSL_CERT_FILE": str(tmp_path / "system.pem"),
        "REQUESTS_CA_BUNDLE": str(tmp_path / "corp.pem"),
        "CURL_CA_BUNDLE": str(tmp_path / "missing.pem"),
        "NODE_EXTRA_CA_CERTS": str(tmp_path / "node.pem"),
    }
    system, corp, node = ((tmp_path / f"{name}.pem").read_bytes() for name in ("system", "corp", "node"))
    assert pem_blocks(merged_bundle(authority, existing)) == [system, authority.certificate_pem, corp, node]
    assert pem_blocks(merged_ca(authority, existing)) == [authority.certificate_pem, node]
    assert [sentence for sentence in conflicts(existing) if "CURL_CA_BUNDLE" in sentence]


def test_a_second_run_in_the_same_shell_loses_no_certificate(authority: CertificateAuthority, tmp_path: Path) -> None:
    corp = authority.mint("corp.example.com")
    (tmp_path / "corp.pem").write_bytes(corp)
    folder = authority.directory / "trust"
    first = write_trust_files(authority, folder, {"REQUESTS_CA_BUNDLE": str(tmp_path / "corp.pem")})
    again = variables_of(first)
    second = write_trust_files(authority, folder, again)
    assert corp in second.bundle.read_bytes()
    assert second.bundle.read_bytes().count(authority.certificate_pem) == 1


def test_our_own_certificate_of_before_its_renewal_leaves_the_bundle(tmp_path: Path) -> None:
    clock = Clock.real()
    old = CertificateAuthority.open(tmp_path / "ca", now=clock, days=10)
    files = write_trust_files(old, tmp_path / "trust", {})
    clock.advance(days=9, hours=12)
    new = CertificateAuthority.open(tmp_path / "ca", now=clock, days=10)
    bundle = merged_bundle(new, variables_of(files))
    assert new.certificate_pem in bundle
    assert old.certificate_pem not in bundle


def test_the_trust_store_holds_every_root_and_is_rewritten_only_with_the_bundle(
    authority: CertificateAuthority, tmp_path: Path
) -> None:
    for name in ("system", "corp"):
        (tmp_path / f"{name}.pem").write_bytes(authority.mint(f"{name}.example.com"))
    existing = {"SSL_CERT_FILE": str(tmp_path / "system.pem")}
    files = write_trust_files(authority, tmp_path / "trust", existing)
    before = files.trust_store.read_bytes()
    assert len(pkcs12.load_pkcs12(before, b"changeit").additional_certs) == 2
    write_trust_files(authority, tmp_path / "trust", existing)
    assert files.trust_store.read_bytes() == before
    write_trust_files(authority, tmp_path / "trust", existing | {"PIP_CERT": str(tmp_path / "corp.pem")})
    assert files.trust_store.read_bytes() != before


def test_trust_files_are_readable_for_every_user(files: TrustFiles) -> None:
    assert {path.stat().st_mode & 0o777 for path in (files.bundle, files.ca, files.trust_store)} == {0o644}
    assert b"PRIVATE" not in files.bundle.read_bytes() + files.ca.read_bytes()


# -- base URLs

SDKS = """
import openai, anthropic, boto3
from google import genai
print(openai.OpenAI(api_key="k").base_url)
print(anthropic.Anthropic(api_key="k").base_url)
print(genai.Client(api_key="k")._api_client._http_options.base_url)
print(boto3.client("bedrock-runtime", region_name="us-east-1").meta.endpoint_url)
print(openai.AzureOpenAI(api_key="k", api_version="v").base_url)
"""


def test_the_sdks_read_their_base_urls(tmp_path: Path) -> None:
    providers = [row.provider for row in BASE_URLS]
    values = environment(PROXY, tmp_path / "b", tmp_path / "c", existing={}, base_url=True, providers=providers)
    secrets = {
        "AWS_ACCESS_KEY_ID": "a",
        "AWS_SECRET_ACCESS_KEY": "b",
        "HOME": str(tmp_path),
        "PATH": os.environ["PATH"],
    }
    done = subprocess.run(
        (sys.executable, "-c", SDKS), env=values | secrets, capture_output=True, text=True, timeout=120, check=False
    )
    assert [url.rstrip("/") for url in done.stdout.split()] == [
        f"{PROXY}/openai/v1",
        f"{PROXY}/anthropic",
        f"{PROXY}/gemini",
        f"{PROXY}/bedrock",
        f"{PROXY}/azure/openai",
    ], done.stderr


def test_base_urls_name_built_in_providers_and_only_those_that_need_no_config_by_default(tmp_path: Path) -> None:
    assert {row.provider for row in BASE_URLS} <= set(BUILT_IN)
    values = environment(PROXY, tmp_path / "b", tmp_path / "c", existing={}, base_url=True)
    assert values["OPENAI_BASE_URL"] == f"{PROXY}/openai/v1"
    assert "AZURE_OPENAI_ENDPOINT" not in values
    assert "OLLAMA_HOST" not in values
    assert "HTTPS_PROXY" not in values
    assert "NO_PROXY" not in values


def test_a_base_url_of_the_users_stays_and_one_of_ours_moves_with_the_port(tmp_path: Path) -> None:
    existing = {"OPENAI_BASE_URL": "https://api.groq.com/openai/v1", "GROQ_BASE_URL": "http://localhost:9000/groq"}
    values = environment(PROXY, tmp_path / "b", tmp_path / "c", existing=existing, base_url=True)
    assert "OPENAI_BASE_URL" not in values
    assert values["GROQ_BASE_URL"] == f"{PROXY}/groq"
    told = conflicts(existing, base_url=True, proxy_url=PROXY)
    assert [sentence.split()[0] for sentence in told] == ["OPENAI_BASE_URL"]


def test_beside_a_proxy_of_the_users_base_urls_are_reached_directly(tmp_path: Path) -> None:
    existing = {"ALL_PROXY": "socks5://corp.example:1080", "no_proxy": "a.example"}
    values = environment(PROXY, tmp_path / "b", tmp_path / "c", existing=existing, base_url=True)
    assert values["NO_PROXY"] == "localhost,127.0.0.1,::1,a.example"


# -- from the configuration


def test_the_configuration_decides_what_the_ca_may_sign_and_what_is_expected(tmp_path: Path) -> None:
    config = load(None, {"OUTRIDER__CA__NAME_CONSTRAINTS": "true", "OUTRIDER__CA__DIR": str(tmp_path / "ca")}, tmp_path)
    registry = Registry(config.providers)
    authority = open_authority(config, registry)
    assert {"api.openai.com", "openai.azure.com", "amazonaws.com"} <= authority.permitted
    assert open_authority(config, registry).fingerprint_sha256 == authority.fingerprint_sha256
    for _ in range(3):
        authority.context_for(registry.pattern_of("mine.openai.azure.com"))
    assert "*.openai.azure.com" in provider_hosts_of(registry)
