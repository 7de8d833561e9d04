"""How each runtime learns of the proxy and of its CA: one table of variables, read by `env`, `exec` and the docs.

Rules:
- A variable that *replaces* a client's trust takes the bundle (system roots and our CA); one that *adds* to it takes
  our CA only.
- A variable never points at a missing file: a file that is not there leaves its variable out.
- What the user has set is merged, not lost: NO_PROXY is joined, JAVA_TOOL_OPTIONS appended to, files that a trust
  variable names go into the bundle. What cannot be merged stays as it is, and `conflicts` says so in a sentence.
- Both cases of the proxy variables: curl reads only http_proxy, Java agents and some SDKs only the upper case.
- NO_PROXY holds nothing that a provider's host would match, and nothing on which httpx 0.28 raises InvalidURL
  (bracketed IPv6, IPv6 networks, a port that is no number, non-ASCII names).

Does not know: which providers are configured, the process's environment (both are handed in), how a sidecar runs.

No variable helps: urllib3's bare PoolManager, aiohttp without trust_env, Node's `ws` and AWS SDK v3, Go's
`&http.Transport{}`, Rust with webpki roots, PHP streams. They need the transparent door or a base URL.
"""

import ipaddress
import re
import warnings
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from functools import lru_cache
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from outrider.config import Config
from outrider.door.ca import CertificateAuthority, utc_now
from outrider.door.ca_files import pem_blocks, read_certificates, write_file
from outrider.providers.registry import Registry

__all__ = [
    "BASE_URLS",
    "VARIABLES",
    "BaseUrl",
    "Takes",
    "TrustFiles",
    "Variable",
    "conflicts",
    "environment",
    "merge_no_proxy",
    "merged_bundle",
    "merged_ca",
    "open_authority",
    "provider_hosts_of",
    "trust_store",
    "write_trust_files",
]

TRUST_STORE_PASSWORD: Final = "changeit"  # noqa: S105  Java's own default; what it protects is public
BUNDLE_NAME: Final = "bundle.pem"
CA_NAME: Final = "ca.pem"
PHP_FOLDER: Final = "php.d"
# An app's calls to itself never ride through a proxy; a provider on loopback is reached by its base URL.
LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")


class Takes(StrEnum):
    PROXY = "the proxy's URL"
    NO_PROXY = "hosts that are reached directly"
    BUNDLE = "system roots and our CA"
    CA = "our CA only, for it adds to the runtime's own roots"
    FLAG = "1"
    JAVA = "system properties, appended"
    PHP = "a folder of ini files, appended; only on demand"


@dataclass(frozen=True, slots=True)
class Variable:
    name: str
    takes: Takes
    serves: str


VARIABLES: Final = (
    Variable("HTTPS_PROXY", Takes.PROXY, "every client that reads proxy variables"),
    Variable("https_proxy", Takes.PROXY, "wget, grpcio"),
    Variable("HTTP_PROXY", Takes.PROXY, "every client but curl, which fears CGI"),
    Variable("http_proxy", Takes.PROXY, "curl, wget"),
    Variable("WSS_PROXY", Takes.PROXY, "aiohttp with trust_env, for wss://"),
    Variable("wss_proxy", Takes.PROXY, "aiohttp with trust_env, for wss://"),
    Variable("WS_PROXY", Takes.PROXY, "aiohttp with trust_env, for ws://"),
    Variable("ws_proxy", Takes.PROXY, "aiohttp with trust_env, for ws://"),
    Variable("NO_PROXY", Takes.NO_PROXY, "every client that reads proxy variables"),
    Variable("no_proxy", Takes.NO_PROXY, "curl, wget, grpcio"),
    Variable("NODE_USE_ENV_PROXY", Takes.FLAG, "Node 22.21 and newer, 24.5 and newer"),
    Variable(
        "SSL_CERT_FILE", Takes.BUNDLE, "OpenSSL: httpx, openai, anthropic, google-genai, urllib, Go, Ruby, .NET, curl"
    ),
    Variable("REQUESTS_CA_BUNDLE", Takes.BUNDLE, "Python requests, boto3"),
    Variable("CURL_CA_BUNDLE", Takes.BUNDLE, "curl, Python requests"),
    Variable("AWS_CA_BUNDLE", Takes.BUNDLE, "boto3, AWS CLI"),
    Variable("GRPC_DEFAULT_SSL_ROOTS_FILE_PATH", Takes.BUNDLE, "grpcio"),
    Variable("GIT_SSL_CAINFO", Takes.BUNDLE, "git"),
    Variable("CARGO_HTTP_CAINFO", Takes.BUNDLE, "cargo"),
    Variable("PIP_CERT", Takes.BUNDLE, "pip"),
    Variable("CLOUDSDK_CORE_CUSTOM_CA_CERTS_FILE", Takes.BUNDLE, "gcloud"),
    Variable("HTTPLIB2_CA_CERTS", Takes.BUNDLE, "httplib2, Google's older API client"),
    Variable("NIX_SSL_CERT_FILE", Takes.BUNDLE, "OpenSSL and curl as Nix builds them"),
    Variable("NODE_EXTRA_CA_CERTS", Takes.CA, "Node, Bun, Deno"),
    Variable("DENO_CERT", Takes.CA, "Deno"),
    Variable("JAVA_TOOL_OPTIONS", Takes.JAVA, "Java's HttpClient and URLConnection"),
    Variable("PHP_INI_SCAN_DIR", Takes.PHP, "PHP's curl extension"),
)


@dataclass(frozen=True, slots=True)
class BaseUrl:
    """An SDK's own variable for its base URL; `path` is what the SDK expects in front of the paths it appends.

    is_fixed: the provider has one host, so that its route exists without any configuration.
    """

    name: str
    provider: str
    path: str
    serves: str
    is_fixed: bool = True


# Each was seen in the SDK's source. No variable is read by: mistralai, huggingface_hub, xai-sdk (gRPC), and the
# OpenAI-compatible ones without an SDK of their own. GOOGLE_VERTEX_BASE_URL is left out on purpose: google-genai drops
# project and location from its paths when it is set.
BASE_URLS: Final = (
    BaseUrl("OPENAI_BASE_URL", "openai", "/openai/v1", "openai for Python and Node"),
    BaseUrl("ANTHROPIC_BASE_URL", "anthropic", "/anthropic", "anthropic for Python and Node"),
    BaseUrl(
        "GOOGLE_GEMINI_BASE_URL", "gemini", "/gemini", "google-genai (asks /v1 then, where it asks /v1beta of Google)"
    ),
    BaseUrl("GROQ_BASE_URL", "groq", "/groq", "groq"),
    BaseUrl("TOGETHER_BASE_URL", "together", "/together", "together 3 (before: /together/v1)"),
    BaseUrl("CO_API_URL", "cohere", "/cohere", "cohere"),
    BaseUrl("FIREWORKS_BASE_URL", "fireworks", "/fireworks/inference", "fireworks-ai 1"),
    BaseUrl("PERPLEXITY_BASE_URL", "perplexity", "/perplexity", "perplexityai"),
    BaseUrl("REPLICATE_BASE_URL", "replicate", "/replicate", "replicate 1"),
    BaseUrl("AI21_API_HOST", "ai21", "/ai21/studio/v1", "ai21"),
    BaseUrl("AWS_ENDPOINT_URL_BEDROCK_RUNTIME", "bedrock", "/bedrock", "boto3 and AWS SDKs", is_fixed=False),
    BaseUrl("ANTHROPIC_BEDROCK_BASE_URL", "bedrock", "/bedrock", "anthropic, AnthropicBedrock", is_fixed=False),
    BaseUrl("ANTHROPIC_VERTEX_BASE_URL", "vertex", "/vertex/v1", "anthropic, AnthropicVertex", is_fixed=False),
    BaseUrl("AZURE_OPENAI_ENDPOINT", "azure", "/azure", "openai, AzureOpenAI", is_fixed=False),
    BaseUrl("OLLAMA_HOST", "ollama", "/ollama", "ollama for Python, Node and the command line", is_fixed=False),
)


@dataclass(frozen=True, slots=True)
class TrustFiles:
    bundle: Path
    ca: Path
    trust_store: Path


def provider_hosts_of(registry: Registry) -> tuple[str, ...]:
    """Every name and pattern that the door intercepts: what NO_PROXY must not cover and the CA may sign."""
    return (*sorted(registry.exact_hosts()), *registry.patterns())


def open_authority(
    config: Config, registry: Registry, *, directory: Path | None = None, now: Callable[[], datetime] = utc_now
) -> CertificateAuthority:
    """The CA that config asks for. Every command opens it here, for each that constrained it otherwise would renew it.

    directory: instead of `ca.dir`. Raises: StartError.
    """
    hosts = provider_hosts_of(registry)
    constraints = hosts if config.ca.name_constraints else ()
    authority = CertificateAuthority.open(directory or config.ca.dir, now=now, name_constraints=constraints)
    authority.expect(host for host in hosts if "*" not in host.removeprefix("*."))
    return authority


def environment(
    proxy_url: str,
    bundle_path: Path,
    ca_path: Path,
    *,
    existing: Mapping[str, str],
    no_proxy_extra: Iterable[str] = (),
    provider_hosts: Iterable[str] = (),
    base_url: bool = False,
    providers: Collection[str] | None = None,
    php: bool = False,
) -> dict[str, str]:
    """The variables that send a child's traffic through `proxy_url` and make it trust the CA, to lay over `existing`.

    bundle_path, ca_path: the files of `write_trust_files`; the Java trust store and PHP's folder stand beside the
    bundle. existing: the environment to merge with. provider_hosts: names and patterns ("*.openai.azure.com") that
    NO_PROXY may not cover. base_url: variables of the SDKs' own base URLs instead, for `providers` (None: those that
    need no configuration); one that the user set is kept. php: PHP_INI_SCAN_DIR too.
    Source: each runtime's own custom, tried with the client that the row of VARIABLES names.
    """
    direct, _ = merge_no_proxy(existing, no_proxy_extra, provider_hosts)
    if base_url:
        return _base_urls(proxy_url, existing, providers) | _direct_loopback(existing, direct)
    store = bundle_path.with_suffix(".p12")
    php_folder = bundle_path.parent / PHP_FOLDER
    values = {
        Takes.PROXY: proxy_url,
        Takes.NO_PROXY: ",".join(direct),
        Takes.BUNDLE: str(bundle_path) if bundle_path.is_file() else None,
        Takes.CA: str(ca_path) if ca_path.is_file() else None,
        Takes.FLAG: "1",
        Takes.JAVA: _java_options(proxy_url, direct, store if store.is_file() else None, existing),
        Takes.PHP: _php_folders(existing, php_folder) if php and php_folder.is_dir() else None,
    }
    return {row.name: value for row in VARIABLES if (value := values[row.takes]) is not None}


def conflicts(
    existing: Mapping[str, str],
    *,
    provider_hosts: Iterable[str] = (),
    base_url: bool = False,
    proxy_url: str = "",
) -> list[str]:
    """A sentence for each thing in the user's environment that stays in our way or had to go."""
    found = [
        f"NO_PROXY entry {entry!r} is left out: it covers a provider, or httpx would fail on it."
        for entry in merge_no_proxy(existing, (), provider_hosts)[1]
    ]
    if base_url:
        found += [
            f"{row.name} is set already and stays: unset it to reach {row.provider} by the sidecar."
            for row in BASE_URLS
            if not _is_replaceable(existing.get(row.name), proxy_url, row)
        ]
        return found
    if _own_java_store(existing):
        found.append("JAVA_TOOL_OPTIONS names a trust store, which stays: import the CA into it with keytool.")
    for row in VARIABLES:
        named = existing.get(row.name)
        if named and row.takes in {Takes.BUNDLE, Takes.CA} and not read_certificates(Path(named)):
            found.append(f"{row.name} named {named}, which holds no readable certificate: nothing of it is merged.")
    return found


def merged_bundle(authority: CertificateAuthority, existing: Mapping[str, str]) -> bytes:
    """System roots, our CA, and whatever the user's own trust variables name: PEM, each certificate once.

    A client whose variable held fewer roots than the system trusts more under the sidecar; it is still the sidecar
    that verifies providers.
    """
    return _merged(authority, existing, authority.bundle(existing), {Takes.BUNDLE, Takes.CA})


def merged_ca(authority: CertificateAuthority, existing: Mapping[str, str]) -> bytes:
    """Our CA and what the user's own adding variables (NODE_EXTRA_CA_CERTS, DENO_CERT) name: PEM."""
    return _merged(authority, existing, authority.certificate_pem, {Takes.CA})


def trust_store(certificates: bytes) -> bytes:
    """The PEM certificates as a PKCS#12 trust store that Java reads (password "changeit"), made without a JDK.

    A root that does not parse is left out: a store with one such certificate would not load at all.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, pkcs12

    entries = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # old roots with serial numbers that are none any more
        for number, block in enumerate(pem_blocks(certificates)):
            try:
                certificate = x509.load_pem_x509_certificate(block)
            except ValueError:
                continue
            entries.append(pkcs12.PKCS12Certificate(certificate, f"root-{number}".encode()))
        return pkcs12.serialize_java_truststore(entries, BestAvailableEncryption(TRUST_STORE_PASSWORD.encode()))


def write_trust_files(
    authority: CertificateAuthority, directory: Path, existing: Mapping[str, str], *, php: bool = False
) -> TrustFiles:
    """Writes bundle, CA and Java trust store into `directory` (readable for all), each atomically. Raises: OSError."""
    directory.mkdir(mode=0o755, parents=True, exist_ok=True)
    files = TrustFiles(directory / BUNDLE_NAME, directory / CA_NAME, directory / Path(BUNDLE_NAME).with_suffix(".p12"))
    bundle = merged_bundle(authority, existing)
    is_same = files.trust_store.is_file() and files.bundle.is_file() and files.bundle.read_bytes() == bundle
    write_file(files.ca, merged_ca(authority, existing))
    if not is_same:  # the store costs 50 ms and is different each time: the last one is kept while the roots are
        write_file(files.trust_store, trust_store(bundle))
        write_file(files.bundle, bundle)
    if php:
        folder = directory / PHP_FOLDER
        folder.mkdir(exist_ok=True)
        write_file(folder / "outrider.ini", f'curl.cainfo="{files.bundle}"\nopenssl.cafile="{files.bundle}"\n'.encode())
    return files


def merge_no_proxy(
    existing: Mapping[str, str], extra: Iterable[str] = (), provider_hosts: Iterable[str] = ()
) -> tuple[list[str], list[str]]:
    """(entries to set, entries of the user's and of `extra` that were left out).

    Loopback comes first and always. Brackets are taken off ("[::1]" -> "::1"), for httpx raises on them.
    """
    patterns = [host.lower() for host in provider_hosts]
    kept: dict[str, None] = dict.fromkeys(LOOPBACK)
    dropped: dict[str, None] = {}
    users = (entry for name in ("NO_PROXY", "no_proxy") for entry in re.split(r"[,\s]+", existing.get(name, "")))
    for entry in (*extra, *users):
        if not entry:
            continue
        plain = _plain_entry(entry)
        if plain is None or (plain not in LOOPBACK and any(_covers(plain, pattern) for pattern in patterns)):
            dropped[entry] = None
        else:
            kept[plain] = None
    return list(kept), list(dropped)


def _plain_entry(entry: str) -> str | None:
    """The entry as every client can read it, or None where one of them would raise."""
    bracketed = re.fullmatch(r"\[([0-9A-Fa-f:.]+)\](?::\d+)?", entry)
    if bracketed:
        entry = bracketed.group(1)
    try:
        is_v4 = ipaddress.ip_network(entry, strict=False).version == 4
    except ValueError:
        is_name = re.fullmatch(r"(?:[a-z]+://)?[*]?[A-Za-z0-9_.-]{0,253}(?::\d{1,5})?", entry)
        return entry if entry == "*" or (is_name and entry.strip("*.")) else None
    return entry if is_v4 or "/" not in entry else None


def _covers(entry: str, pattern: str) -> bool:
    """Would a client that has `entry` in NO_PROXY reach some host of `pattern` directly?

    As the loosest reader has it: requests takes an entry for a plain suffix, and others know leading dots and stars.
    """
    host, _, port = pattern.rpartition(":")
    pattern = host if host and port.isdigit() else pattern
    try:
        return ipaddress.ip_address(pattern.strip("[]")) in ipaddress.ip_network(entry, strict=False)
    except ValueError:  # at least one of them is a name
        pass
    name = entry.partition("://")[2] or entry
    name = re.sub(r":\d+$", "", name) if name.count(":") == 1 else name
    return _overlap("*" + name.lower().lstrip("*."), pattern[:1] + pattern[1:].replace("*", "+"))


@lru_cache(maxsize=4096)
def _overlap(left: str, right: str) -> bool:
    """Is there a text that both globs match? `*` stands for anything, `+` (in `right` only) for a part of one label."""
    if not left or not right:
        return not (left or right).strip("*+")
    if left[0] == "*":
        return _overlap(left[1:], right) or _overlap(left, right[1:])
    if right[0] in "*+":
        return _overlap(left, right[1:]) or ((left[0] != "." or right[0] == "*") and _overlap(left[1:], right))
    return left[0] == right[0] and _overlap(left[1:], right[1:])


def _merged(
    authority: CertificateAuthority, existing: Mapping[str, str], first: bytes, kinds: Collection[Takes]
) -> bytes:
    """`first`, and what the user's variables of these kinds name.

    A variable may well name the bundle that an earlier `env` wrote: what was merged then is kept, our own certificate
    from before its renewal is not.
    """
    certificates = dict.fromkeys(pem_blocks(first))
    for row in VARIABLES:
        named = existing.get(row.name)
        if named and row.takes in kinds:
            certificates.update(dict.fromkeys(read_certificates(Path(named))))
    current = authority.certificate_pem
    return b"".join(block for block in certificates if block == current or not authority.is_former(block))


def _base_urls(proxy_url: str, existing: Mapping[str, str], providers: Collection[str] | None) -> dict[str, str]:
    return {
        row.name: proxy_url.rstrip("/") + row.path
        for row in BASE_URLS
        if (row.is_fixed if providers is None else row.provider in providers)
        and _is_replaceable(existing.get(row.name), proxy_url, row)
    }


def _is_replaceable(value: str | None, proxy_url: str, row: BaseUrl) -> bool:
    """Not set, or set by an earlier `env` of ours (perhaps with another port)."""
    if not value:
        return True
    is_near = urlsplit(value).hostname in {*LOOPBACK, urlsplit(proxy_url).hostname}
    return is_near and urlsplit(value).path.rstrip("/") == row.path


def _direct_loopback(existing: Mapping[str, str], direct: list[str]) -> dict[str, str]:
    """A user's own proxy must not get between the app and our base URL."""
    proxies = (*(row.name for row in VARIABLES if row.takes is Takes.PROXY), "ALL_PROXY", "all_proxy")
    has_proxy = any(existing.get(name) for name in proxies)
    return dict.fromkeys(("NO_PROXY", "no_proxy"), ",".join(direct)) if has_proxy else {}


def _java_options(proxy_url: str, direct: Iterable[str], store: Path | None, existing: Mapping[str, str]) -> str:
    """The user's options, less those of ours from an earlier time, and ours behind them (the last one wins in Java)."""
    proxy = urlsplit(proxy_url)
    host, port = proxy.hostname or "127.0.0.1", str(proxy.port or 80)
    ours = {
        f"{scheme}.proxy{key}": value for scheme in ("http", "https") for key, value in (("Host", host), ("Port", port))
    }
    ours["http.nonProxyHosts"] = "|".join(_java_hosts(direct))
    if store is not None and not _own_java_store(existing):
        ours |= {
            "javax.net.ssl.trustStore": str(store),
            "javax.net.ssl.trustStoreType": "PKCS12",
            "javax.net.ssl.trustStorePassword": TRUST_STORE_PASSWORD,
        }
    kept = [
        word for word in _java_words(existing) if word.strip("\"'").removeprefix("-D").partition("=")[0] not in ours
    ]
    return " ".join([*kept, *(_java_quoted(f"-D{key}={value}") for key, value in ours.items())])


def _java_hosts(direct: Iterable[str]) -> Iterable[str]:
    """NO_PROXY as http.nonProxyHosts has it: a star in front or behind, brackets about IPv6, no networks, no ports."""
    for entry in direct:
        if "/" in entry:
            continue
        if entry.count(":") > 1:
            yield f"[{entry}]"
        else:
            name = entry.partition(":")[0]
            yield f"*{name}" if name.startswith(".") else name


def _java_words(existing: Mapping[str, str]) -> list[str]:
    """The user's options one by one, in the spelling that they had, quotes included."""
    return re.findall(r"""(?:[^\s"']|"[^"]*"|'[^']*')+""", existing.get("JAVA_TOOL_OPTIONS", ""))


def _java_quoted(word: str) -> str:
    return f'"{word}"' if re.search(r"\s", word) else word


def _own_java_store(existing: Mapping[str, str]) -> bool:
    """Does the user's JAVA_TOOL_OPTIONS name a trust store that is not one of ours?"""
    for word in _java_words(existing):
        key, _, value = word.strip("\"'").partition("=")
        if key == "-Djavax.net.ssl.trustStore":
            return not value.strip("\"'").endswith("/" + Path(BUNDLE_NAME).with_suffix(".p12").name)
    return False


def _php_folders(existing: Mapping[str, str], folder: Path) -> str:
    """An empty part stands for PHP's compiled-in folder."""
    before = existing.get("PHP_INI_SCAN_DIR", "")
    return before if str(folder) in before.split(":") else f"{before}:{folder}"
