"""What several keys must say together.

Rules: it reads the plain data, before types are known to be right, and takes nothing for granted, so that these
mistakes are reported beside the others and not after them.
Each check yields (path of the key at fault, the end of its sentence).
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from outrider.config.problems import KeyPath, quote, suggest
from outrider.config.schema import PROVIDER_KINDS, Listen, Timeouts
from outrider.config.values import UNIX, both_loopbacks, listen_address

Finding = tuple[KeyPath, str]
RESERVED_NAMES = ("v1", "v1beta", "api", "metrics", "healthz", "readyz")  # paths of our own, beside /<provider>/
_NAME_CHARS = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-_")

_NAME_RULE = (
    f"cannot be a provider's name; use lower-case letters, digits, '-' and '_', and none of {', '.join(RESERVED_NAMES)}"
)


def findings(data: Mapping[str, Any]) -> Iterator[Finding]:
    """Every relation that does not hold."""
    for check in _CHECKS:
        yield from check(data)


def _section(value: Any) -> Mapping[Any, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _entries(data: Mapping[str, Any], key: str) -> list[tuple[int, Mapping[Any, Any]]]:
    return [(index, _section(entry)) for index, entry in enumerate(_list(data.get(key)))]


def _providers(data: Mapping[str, Any]) -> set[str]:
    return {name for name in _section(data.get("providers")) if isinstance(name, str)}


def _unknown(at: KeyPath, provider: Any, known: set[str]) -> Iterator[Finding]:
    if isinstance(provider, str) and provider not in known:
        yield at, f"names a provider that is not configured: {quote(provider)}{suggest(provider, known)}"


def _twice(named: Iterable[tuple[KeyPath, Any]], kind: str, remedy: str) -> Iterator[Finding]:
    """Whatever has a name that another one before it has."""
    seen: set[str] = set()
    for at, name in named:
        if isinstance(name, str):
            if name in seen:
                yield at, f"is the second {kind} called {quote(name)}; {remedy}"
            seen.add(name)


def _provider_names(data: Mapping[str, Any]) -> Iterator[Finding]:
    for name, entry in _section(data.get("providers")).items():
        path: KeyPath = ("providers", name)
        if name in RESERVED_NAMES or not name or len(name) > 63 or not set(name) <= _NAME_CHARS or name[0] in "-_":
            yield path, _NAME_RULE
            continue
        kind = _section(entry).get("kind")
        if kind is None and name not in PROVIDER_KINDS:
            yield path, f"is not a built-in provider{suggest(name, PROVIDER_KINDS)} (any other name states its kind:)"
        elif isinstance(kind, str) and kind not in PROVIDER_KINDS:
            near = suggest(kind, PROVIDER_KINDS)
            yield (*path, "kind"), f"must be a built-in provider's name, not {quote(kind)}{near}"
        elif kind is not None and name in PROVIDER_KINDS and kind != name:
            yield (*path, "kind"), f"is not for {name}, which is built in; remove it or use another name"


def _provider_hosts(data: Mapping[str, Any]) -> Iterator[Finding]:
    claimed: dict[str, str] = {}
    for name, raw in _section(data.get("providers")).items():
        hosts = _section(raw).get("hosts")
        for place, host in enumerate(hosts if isinstance(hosts, list) else [hosts]):
            if not isinstance(host, str):
                continue
            owner = claimed.setdefault(host.lower().removesuffix("."), name)
            if owner != name:
                at: KeyPath = ("providers", name, "hosts", *((place,) if isinstance(hosts, list) else ()))
                yield at, f"names {quote(host)}, which providers.{owner} claims already; name it under one of them"


def _provider_credentials(data: Mapping[str, Any]) -> Iterator[Finding]:
    for name, raw in _section(data.get("providers")).items():
        entry = _section(raw)
        credential, kind = entry.get("credential"), entry.get("kind") or name
        if credential is None:
            continue
        aws = _section(credential).get("aws") is not None
        if aws and kind != "bedrock":
            yield ("providers", name, "credential", "aws"), "signs for bedrock only; use env: or file: here"
        if _section(credential).get("google") is not None and kind != "vertex":
            yield ("providers", name, "credential", "google"), "is for vertex only; use env: or file: here"
        placed = not aws and (entry.get("connect_to") or entry.get("hosts"))
        if kind == "bedrock" and entry.get("region") is None and not placed:
            yield ("providers", name, "region"), "is missing; a bedrock credential is for one region, such as us-east-1"


def _limits(data: Mapping[str, Any]) -> Iterator[Finding]:
    for section, kind, counted in (
        ("limits", "limit", ("requests", "tokens", "concurrent")),
        ("budgets", "budget", ("usd", "tokens")),
    ):
        yield from _named_rules(data, section, kind)
        for index, entry in _entries(data, section):
            if entry and not any(entry.get(key) is not None for key in counted):
                yield (section, index), f"counts nothing; set one of {', '.join(counted)}"
    for index, limit in _entries(data, "limits"):
        yield from _limit_words(index, limit)
    for name, entry in _section(data.get("prices")).items():
        if not isinstance(name, str) or not name.partition("/")[2] or "*" in name[:-1]:
            yield ("prices", name), "must be PROVIDER/MODEL, and may end in '*', such as openai/gpt-5*"
        elif _section(entry).get("input") is None and _section(entry).get("output") is None:
            yield ("prices", name), "has neither an input nor an output price"


def _named_rules(data: Mapping[str, Any], section: str, kind: str) -> Iterator[Finding]:
    known = _providers(data) | set(PROVIDER_KINDS)
    entries = _entries(data, section)
    named = [((section, index, "name"), entry.get("name")) for index, entry in entries]
    yield from _twice(named, kind, "give it another name")
    for index, entry in entries:
        for place, provider in enumerate(_list(entry.get("providers"))):
            yield from _unknown((section, index, "providers", place), provider, known)


def _limit_words(index: int, limit: Mapping[Any, Any]) -> Iterator[Finding]:
    """Words that mean nothing beside the others."""
    algorithm = limit.get("algorithm")
    if algorithm in ("fixed-window", "sliding-window") and limit.get("burst") is not None:
        yield ("limits", index, "burst"), f"is for token-bucket only; {algorithm} admits its count and no more"
    for key in ("count", "reserve"):
        if key in limit and limit.get("tokens") is None:
            yield ("limits", index, key), "says how tokens are counted, and this limit has no tokens"


def _models(data: Mapping[str, Any]) -> Iterator[Finding]:
    known = _providers(data) | set(PROVIDER_KINDS)
    for alias, raw in _section(data.get("models")).items():
        entry = _section(raw)
        at: KeyPath = ("models", alias, "targets")
        targets = [_target(target) for target in _list(entry.get("targets"))]
        for place, (provider, _) in enumerate(targets):
            if provider:  # one without is said where the type is checked
                yield from _unknown((*at, place), provider, known)
        yield from _twice((((*at, place), name) for place, (_, name) in enumerate(targets)), "target", "remove one")
        names = {name for _, name in targets}
        rules = _list(entry.get("rules"))
        for place, rule in enumerate(rules):
            wanted = _section(rule).get("target")
            if isinstance(wanted, str) and wanted not in names:
                where: KeyPath = ("models", alias, "rules", place, "target")
                yield where, f"is none of this model's targets: {quote(wanted)}{suggest(wanted, names)}"
        if entry.get("rules") and entry.get("strategy") != "smart":
            yield ("models", alias, "rules"), "are for strategy: smart only"


def _target(value: Any) -> tuple[Any, str]:
    """(provider, name), as a word or as a section."""
    if isinstance(value, str):
        return value.partition("/")[0], value
    entry = _section(value)
    return entry.get("provider"), f"{entry.get('provider')}/{entry.get('model')}"


def _principals(data: Mapping[str, Any]) -> Iterator[Finding]:
    named = [(("principals", index, "id"), entry.get("id")) for index, entry in _entries(data, "principals")]
    for at, name in named:
        if name == "anonymous":
            yield at, "is what callers are called whom nothing names; give it another id"
    yield from _twice((row for row in named if row[1] != "anonymous"), "principal", "give it another id")


def _listeners(data: Mapping[str, Any]) -> Iterator[Finding]:
    listen = _section(data.get("listen"))
    taken: dict[str, str] = {}
    for key in ("proxy", "transparent", "admin"):
        default = Listen.model_fields[key].default
        try:
            given = listen.get(key)
            entries = given if isinstance(given, list) else [] if given is None else [given]
            addresses = both_loopbacks(tuple(map(listen_address, entries)))
        except ValueError:
            continue  # said where the type is checked
        if key == "transparent" and any(address.startswith(UNIX) for address in addresses):
            yield ("listen", key), "takes redirected TCP connections only; use an address with a port"
        workers = data.get("workers", 1)
        if key == "proxy" and isinstance(workers, int) and workers > 1 and any(a.startswith(UNIX) for a in addresses):
            yield ("listen", key), "cannot be a Unix socket with several workers; use an address, or workers: 1"
        for address in addresses if key in listen else default:
            other = taken.setdefault(address, key)
            if other != key and not address.endswith(":0"):
                at: KeyPath = ("listen", key if key in listen else other)
                yield (
                    at,
                    f"takes {address}, which listen.{other if key in listen else key} has already; use another port",
                )


def _state(data: Mapping[str, Any]) -> Iterator[Finding]:
    """Files for TLS beside an address without it would be a secrecy that is not there."""
    state = data.get("state")
    url = state if isinstance(state, str) else _section(state).get("url", "")
    if not isinstance(url, str):
        return
    if not url.startswith("rediss"):
        for key in ("ca", "cert", "cert_key"):
            if _section(state).get(key) is not None:
                yield ("state", key), "is for TLS, and the address is without it; write rediss:// instead of redis://"
    elif _section(state).get("cert_key") is not None and _section(state).get("cert") is None:
        yield ("state", "cert_key"), "belongs to a certificate; set cert too"


def _timeouts(data: Mapping[str, Any]) -> Iterator[Finding]:
    given = _section(data.get("timeouts"))

    def seconds(key: str) -> float:
        value = given.get(key)
        if isinstance(value, (int, float)) and not isinstance(value, bool) and value > 0:
            return float(value)
        return float(Timeouts.model_fields[key].default)

    for small, large in (("connect_s", "first_byte_s"), ("tls_s", "first_byte_s"), ("detect_s", "client_idle_s")):
        if seconds(small) > seconds(large):
            at = small if small in given else large
            yield (
                ("timeouts", at),
                f"leaves {small} ({seconds(small):g}) longer than {large} ({seconds(large):g}); change one",
            )


def _semantic(data: Mapping[str, Any]) -> Iterator[Finding]:
    """What people asked goes to a provider, so it is named, and not taken from what is built in; or it stays here."""
    path: KeyPath = ("cache", "semantic")
    given = _section(_section(data.get("cache")).get("semantic"))
    wanted, known = given.get("provider"), {name for name in _section(data.get("providers")) if isinstance(name, str)}
    if isinstance(wanted, str) and wanted not in known:
        yield (*path, "provider"), f"names a provider that is not configured: {quote(wanted)}{suggest(wanted, known)}"
    if given.get("onnx") is not None:
        for key in ("provider", "model", "dimensions"):
            if given.get(key) is not None:
                yield (*path, key), "is of a provider's model, and onnx names one in this process; remove one of them"
    elif given:
        for key in ("provider", "model"):
            if given.get(key) is None:
                yield (*path, key), "is missing; say who makes vectors: a provider and its model, or onnx"


def _cache(data: Mapping[str, Any]) -> Iterator[Finding]:
    """What lies in Redis is sealed, and that takes a key that others do not know."""
    if _section(data.get("cache")).get("store") != "state":
        return
    state = data.get("state")
    url = _section(state).get("url") if isinstance(state, dict) else state
    if not isinstance(url, str) or not url.startswith("redis"):
        yield ("cache", "store"), "is state, and state names no Redis; set state.url, or cache.store: memory"
    elif not _section(state).get("fleet_key"):
        yield ("cache", "store"), "is state, and answers lie there sealed; set state.fleet_key"


_CHECKS: tuple[Callable[[Mapping[str, Any]], Iterator[Finding]], ...] = (
    _provider_names,
    _provider_hosts,
    _provider_credentials,
    _limits,
    _models,
    _principals,
    _listeners,
    _state,
    _timeouts,
    _cache,
    _semantic,
)
