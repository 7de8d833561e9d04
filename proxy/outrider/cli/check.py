"""`outrider check`: what a configuration means, or every problem it has.

Rules: no network, no change to any file; a credential's value is never read into the output; problems go to stderr and
exit 2, warnings do not change the exit code.
"""

import argparse
import importlib.util
import json
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from outrider.cli import check_models
from outrider.cli.arguments import add_config
from outrider.config import Config, ConfigError, load, located
from outrider.config.problems import Problem
from outrider.config.reload import reload_marks, waiting_for_restart
from outrider.config.schema import Budget, Credential, Limit
from outrider.config.values import UNIX
from outrider.errors import CredentialUnavailableError
from outrider.govern.doubts import doubts
from outrider.govern.limits import unset_fields
from outrider.govern.packs import Loaded
from outrider.govern.redaction import RedactError
from outrider.providers.registry import Binding, Registry, RegistryError
from outrider.secrets.files import readable_by_others, reason, writable_by_others
from outrider.secrets.secret import looks_like_secret
from outrider.secrets.sources import EnvSource, FileSource
from outrider.snapshot import hmac_key_file, policies_of, redactions_of

_HASH: Final = re.compile(r"\bhmac-sha256:[0-9a-f]{64}\b")  # of a virtual key, which may stand there
HELP = "Validate the configuration: every problem at once, or what it means."
EXAMPLE = "outrider check --config ./outrider.yaml --verbose"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_config(parser, "the file (default: $OUTRIDER_CONFIG, ./outrider.yaml, built in)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--verbose", action="store_true", help="print which keys a reload applies and which a restart")


def run(args: argparse.Namespace) -> int:
    try:
        config, registry, policies = checked(args.config, os.environ)
    except ConfigError as exc:
        return _print_problems(exc, as_json=args.json)
    found = report(config, registry, os.environ)
    _add_policies(found, policies, registry, config)
    if args.verbose:
        found["keys"] = reload_marks()
    if args.json:
        print(json.dumps({"ok": True, **found}, indent=2))
    else:
        print("\n".join(_lines(found)))
    return 0


def checked(path: Path | None, environ: Mapping[str, str]) -> tuple[Config, Registry, Loaded]:
    """The configuration, its providers and its rules. Raises: ConfigError with every problem of all of them."""
    config = load(path, environ)
    problems: list[Problem] = [*check_models.problems(config)]
    registry = _collected(config, problems, lambda: Registry(config.providers))
    policies = _collected(config, problems, lambda: policies_of(config))
    _collected(config, problems, lambda: redactions_of(config, policies, lambda *labels: None))
    if config.cache.semantic is not None and config.cache.semantic.onnx is not None and config.cache.mode != "off":
        from outrider.stack.onnx_model import opened

        _collected(config, problems, lambda: opened(config))
    if registry is None or policies is None or problems:
        raise ConfigError(problems)
    return config, registry, policies


def _collected[T](config: Config, problems: list[Problem], make: Callable[[], T]) -> T | None:
    """What it makes, or None and its problems with the others'."""
    try:
        return make()
    except ConfigError as exc:
        problems += exc.problems
    except (RegistryError, RedactError) as exc:
        problems += located(config, exc.problems).problems
    return None


def _print_problems(exc: ConfigError, *, as_json: bool) -> int:
    if as_json:
        print(json.dumps({"ok": False, "problems": [asdict(problem) for problem in exc.problems]}, indent=2))
    else:
        print(exc, file=sys.stderr)
        count = len(exc.problems)
        print(f"outrider: {count} problem{'s' if count > 1 else ''} in the configuration", file=sys.stderr)
    return exc.exit_code


def report(config: Config, registry: Registry, environ: Mapping[str, str]) -> dict[str, Any]:
    """What the configuration means, as plain data."""
    return {
        "source": config.source,
        "listen": {key: list(getattr(config.listen, key)) for key in ("proxy", "transparent", "admin")},
        "egress": {"default": config.egress.default, "private": config.egress.private},
        "providers": [_provider(registry.bindings[name], config) for name in config.providers],
        "built_in": sorted(
            name for name, binding in registry.bindings.items() if name not in config.providers and binding.hosts
        ),
        "models": list(check_models.lines(config)),
        "limits": [f"{limit.name}: {_counted(limit)}" for limit in config.limits],
        "budgets": [f"{budget.name}: {_counted(budget)}" for budget in config.budgets],
        "audit": str(config.telemetry.audit.path) if config.telemetry.audit.path is not None else None,
        "after_restart": waiting_for_restart(config),
        "warnings": [*registry.warnings, *_warnings(config, environ), *check_models.warnings(config, registry)],
    }


def _add_policies(found: dict[str, Any], policies: Loaded, registry: Registry, config: Config) -> None:
    found["policies"] = [
        {"name": pack.name, "file": str(pack.path), "rules": [rule.rule.id for rule in pack.rules]}
        for pack in policies.packs
    ]
    tables = {name: binding.provider for name, binding in registry.bindings.items()}
    found["warnings"] += doubts(policies, tables, config.principals)


def _provider(binding: Binding, config: Config) -> dict[str, Any]:
    settings = config.providers[binding.name]
    return {
        "name": binding.name,
        "kind": binding.provider.kind,
        "intercepts": list(binding.hosts),
        "connect_to": settings.connect_to,
        "credential": settings.credential.described if settings.credential else None,
        "credential_hosts": sorted(binding.credential_hosts) if settings.credential else [],
        "require_placeholder": settings.require_placeholder,
        "byok": settings.byok,
    }


def _counted(rule: Limit | Budget) -> str:
    """ "600/min requests, 10 concurrent"."""
    words = ("requests", "tokens", "concurrent") if isinstance(rule, Limit) else ("usd", "tokens")
    return ", ".join(f"{getattr(rule, word)} {word}" for word in words if getattr(rule, word) is not None)


def _warnings(config: Config, environ: Mapping[str, str]) -> Iterator[str]:
    for name, provider in config.providers.items():
        if provider.credential is None:
            continue
        at = config.where("providers", name, "credential")
        for sentence in _credential_warnings(provider.credential, environ):
            yield f"{at}: providers.{name}.credential: {sentence}"
        if not provider.require_placeholder:
            yield (
                f"{config.where('providers', name, 'require_placeholder')}: providers.{name}.require_placeholder: "
                "false lets every process and web page that reaches this sidecar use the credential"
            )
    for address in (*config.listen.proxy, *config.listen.transparent, *config.listen.admin):
        if not address.startswith(("127.", "[::1]:", UNIX)):
            yield f"{config.where('listen')}: listen: {address} is open to other machines; prefer a loopback address"
    for section, index, field in unset_fields(config):
        name = getattr(config, section)[index].name
        yield (
            f"{config.where(section, index, 'key')}: {section}[{index}].key: no principal sets {field}, so "
            f"{name} counts all callers as one"
        )
    if any(entry.claims.keys for entry in config.principals):
        path = hmac_key_file(config)
        if not path.exists():
            yield f"{config.where('principals')}: principals: {path} is missing; `outrider keys new` makes it"
    if config.state.url.kind == "redis" and config.state.fleet_key is None:
        yield (
            f"{config.where('state')}: state.fleet_key: is not set, so who can write to that Redis can revoke keys, "
            "and names in it can be guessed; set it to a file or variable that all sidecars of the fleet share"
        )
    yield from _audit_warnings(config)
    yield from _set_secrets(config, environ)
    if config.path is not None:
        yield from _file_warnings(config.path)


def _audit_warnings(config: Config) -> Iterator[str]:
    audit = config.telemetry.audit
    if audit.path is None:
        return
    if audit.checkpoint.path is None:
        yield (
            f"{config.where('telemetry', 'audit')}: telemetry.audit.checkpoint: null lets an end that is cut off go "
            "unseen; set a path away from the log, or stderr"
        )
    elif isinstance(audit.checkpoint.path, Path) and audit.checkpoint.path.parent == audit.path.parent:
        where = config.where("telemetry", "audit", "checkpoint")
        yield f"{where}: telemetry.audit.checkpoint.path: lies in the log's own folder; whoever cuts one cuts both"


def _set_secrets(config: Config, environ: Mapping[str, str]) -> Iterator[str]:
    """Secrets that stand where a configuration does; those of the file's lines are found by their shape."""
    where = config.where("upstream", "proxy")
    if config.upstream.proxy is not None and config.upstream.proxy.authorization is not None and "$" not in where:
        yield (
            f"{where}: upstream.proxy: a password stands in the file; set $OUTRIDER__UPSTREAM__PROXY instead, "
            "or keep the file at mode 0600"
        )
    for name, value in environ.items():
        if name.startswith("OUTRIDER__") and looks_like_secret(value):
            yield f"${name}: looks like a key itself; a credential is named by {{env: NAME}} or {{file: PATH}}"


def _credential_warnings(credential: Credential, environ: Mapping[str, str]) -> Iterator[str]:
    if credential.aws is not None:
        if importlib.util.find_spec("botocore") is None:
            yield "an AWS profile needs botocore; install outrider[aws]"
        return
    if credential.google is not None:
        if importlib.util.find_spec("google") is None or importlib.util.find_spec("google.auth") is None:
            yield "a Google credential needs google-auth; install outrider[google]"
        elif credential.google != "default" and not Path(credential.google).is_file():
            yield f"{credential.google} is no file; put the service account's key there, or say google: default"
        return
    source = EnvSource(credential.env, environ) if credential.env is not None else FileSource(credential.file or Path())
    try:
        source.current()
    except CredentialUnavailableError as exc:
        yield str(exc)
    if credential.file is None:
        return
    try:
        if readable_by_others(credential.file):
            yield f"{credential.file} is open to other users (mode); an app under another uid could read it; chmod 600"
    except OSError:
        return  # said above


def _file_warnings(path: Path) -> Iterator[str]:
    try:
        if (why := writable_by_others(path)) is not None:
            yield f"{path}: {why}; its changes will not be reloaded; correct its owner or mode"
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as exc:
        yield f"{path}: cannot be read again: {reason(exc)}"
        return
    for number, line in enumerate(lines, 1):
        if looks_like_secret(_HASH.sub("", line)):
            yield f"{path}:{number}: looks like a key itself; move it to a variable or a file of mode 0600"


def _lines(found: Mapping[str, Any]) -> Iterator[str]:
    yield f"OK: {found['source']}"
    for key, addresses in found["listen"].items():
        yield f"  listen.{key}: {', '.join(addresses) or 'off'}"
    for provider in found["providers"]:
        yield f"  {provider['name']}: {'; '.join(_about(provider))}"
    if found["built_in"]:
        yield f"  intercepted without a credential of ours: {', '.join(found['built_in'])}"
    yield f"  all other hosts: {found['egress']['default']}; private addresses: {found['egress']['private']}"
    yield from (f"  model {model}" for model in found["models"])
    yield from (f"  limit {limit}" for limit in found["limits"])
    for pack in found["policies"]:
        yield f"  policy {pack['name']}: {len(pack['rules'])} rules ({pack['file']})"
    yield from (f"  budget {budget}" for budget in found["budgets"])
    if found["audit"]:
        yield f"  audit log: {found['audit']}"
    if found["after_restart"]:
        yield f"  changed only by a restart: {', '.join(found['after_restart'])}; a reload applies all else that is set"
    for key, mark in found.get("keys", {}).items():
        yield f"  {mark:<7}  {key}"
    yield from (f"warning: {sentence}" for sentence in found["warnings"])


def _about(provider: Mapping[str, Any]) -> Iterable[str]:
    yield f"intercepts {', '.join(provider['intercepts'])}" if provider["intercepts"] else "base_url only"
    if provider["connect_to"]:
        yield f"dialled at {provider['connect_to']}"
    if provider["credential"] is None:
        yield f"no credential (the app's own key: {provider['byok']})"
        return
    yield f"credential {provider['credential']} to {', '.join(provider['credential_hosts']) or 'no host'}"
    if not provider["require_placeholder"]:
        yield "no placeholder required"
