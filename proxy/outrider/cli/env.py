"""`outrider env`: the variables by which each runtime finds the sidecar and trusts it, ready for a shell.

Standard output holds nothing but the variables; what could not be merged is said on standard error.
"""

import argparse
import os
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from outrider.cli.arguments import add_config
from outrider.config import Config, load
from outrider.config.values import UNIX
from outrider.door.ca import CertificateAuthority
from outrider.door.ca_files import cannot_write
from outrider.errors import StartError
from outrider.providers.registry import Registry, RegistryError
from outrider.runtimes import conflicts, environment, open_authority, provider_hosts_of, write_trust_files

HELP = (
    "Print the variables by which each runtime finds the sidecar and trusts it; trust files are written beside the CA."
)
EXAMPLE = 'eval "$(outrider env)"'

FORMS = ("sh", "fish", "docker", "json")
TRUST_FOLDER = "trust"
ANY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}  # noqa: S104  where a listener on all is reached


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--base-url", action="store_true", help="the SDKs' own base URLs instead of a proxy")
    parser.add_argument("--format", choices=FORMS, default="sh", help="docker is an env file (default: sh)")
    parser.add_argument("--proxy", metavar="URL", help="where the sidecar listens (default: the first of listen.proxy)")
    parser.add_argument("--php", action="store_true", help="PHP_INI_SCAN_DIR too")
    add_place_arguments(parser)


def add_place_arguments(parser: argparse.ArgumentParser) -> None:
    add_config(parser)
    parser.add_argument("--dir", type=Path, metavar="DIR", help="the CA's folder, instead of ca.dir")


def run(args: argparse.Namespace) -> int:
    config: Config = load(args.config, os.environ)
    registry = registry_of(config)
    proxy_url = args.proxy or proxy_url_of(config.listen.proxy)
    _check_url(proxy_url)
    hosts = provider_hosts_of(registry)
    folder = (args.dir or config.ca.dir).expanduser() / TRUST_FOLDER
    files = (folder / "bundle.pem", folder / "ca.pem")
    if not args.base_url:
        files = _write(open_authority(config, registry, directory=args.dir), folder, php=args.php)
    values = environment(
        proxy_url,
        *files,
        existing=os.environ,
        provider_hosts=hosts,
        base_url=args.base_url,
        providers=[name for name, bound in registry.bindings.items() if bound.origin or bound.connect_to],
        php=args.php,
    )
    for sentence in conflicts(os.environ, provider_hosts=hosts, base_url=args.base_url, proxy_url=proxy_url):
        print(f"outrider: {sentence}", file=sys.stderr)
    try:
        sys.stdout.write(quoted(values, args.format))
    except ValueError as exc:
        raise StartError(str(exc), exit_code=2) from exc
    return 0


def authority_of(args: argparse.Namespace) -> tuple[CertificateAuthority, Config]:
    """The CA that --dir or the configuration of --config names. Raises: StartError."""
    config: Config = load(args.config, os.environ)
    return open_authority(config, registry_of(config), directory=args.dir), config


def registry_of(config: Config) -> Registry:
    try:
        return Registry(config.providers)
    except RegistryError as exc:
        raise StartError(str(exc), exit_code=2) from exc


def proxy_url_of(addresses: tuple[str, ...]) -> str:
    """The URL under which a client on this machine reaches the first of the listeners."""
    tcp = [address for address in addresses if not address.startswith(UNIX)]
    if not tcp:
        raise StartError(
            "listen.proxy has Unix sockets only, and proxy variables cannot name one; add an address.", exit_code=2
        )
    host, _, port = tcp[0].rpartition(":")
    host = host.strip("[]")
    host = ANY_ADDRESS.get(host, host)
    if port == "0":
        raise StartError("listen.proxy takes any free port: say which with --proxy http://127.0.0.1:PORT.", exit_code=2)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def quoted(values: Mapping[str, str], form: str) -> str:
    """The variables as lines of a shell ("sh", "fish"), of an env file ("docker"), or as "json".

    Raises: ValueError for a line break in an env file, which has no way to write one.
    """
    if form == "json":
        import orjson

        return orjson.dumps(dict(values), option=orjson.OPT_INDENT_2).decode() + "\n"
    if form == "sh":
        return "".join(f"export {name}={shlex.quote(value)}\n" for name, value in values.items())
    if form == "fish":
        return "".join(f"set -gx {name} {_fish_quoted(value)}\n" for name, value in values.items())
    for name, value in values.items():
        if "\n" in value or "\r" in value:
            raise ValueError(f"{name} holds a line break, which an env file cannot carry: use --format json.")
    return "".join(f"{name}={value}\n" for name, value in values.items())


def _fish_quoted(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def _write(authority: CertificateAuthority, folder: Path, *, php: bool) -> tuple[Path, Path]:
    try:
        files = write_trust_files(authority, folder, os.environ, php=php)
    except OSError as exc:
        raise cannot_write(folder, exc) from exc
    return files.bundle, files.ca


def _check_url(url: str) -> None:
    try:
        parts = urlsplit(url)
        is_usable = parts.scheme == "http" and parts.hostname and parts.port and parts.path in {"", "/"}
    except ValueError:
        is_usable = False
    if not is_usable:
        raise StartError("--proxy is no proxy URL: write it as http://127.0.0.1:8484.", exit_code=2)
