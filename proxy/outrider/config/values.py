"""The small values of a configuration, each checked and made one form: addresses, hosts, URLs, rates, paths.

Every function takes what the file held and returns the value, or raises ValueError with the end of a sentence that
begins with the key ("must be ...").
"""

import base64
import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, unquote_to_bytes, urlsplit
from zoneinfo import ZoneInfo

from outrider.config.problems import quote
from outrider.secrets.secret import Secret

_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
_PROJECT = re.compile(r"[a-z0-9][a-z0-9.:-]{3,62}[a-z0-9]")
_BASE_PATH = re.compile(r"(/[A-Za-z0-9._~-]{1,128}){1,16}")
_API_VERSION = re.compile(r"\d{4}-\d{2}-\d{2}(-preview)?|preview|latest")
_REGION = re.compile(r"[a-z]{2,}(-[a-z0-9]+){1,5}|global|us|eu")
_RATE = re.compile(r"([1-9][0-9]{0,8})\s*/\s*(s|min|h|day)")
_PERIOD_S = {"s": 1, "min": 60, "h": 3600, "day": 86_400}
_BUDGET = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,9})?)\s*/\s*(minute|hour|day|month)")
_LIMIT_FIELD = re.compile(
    r"principal\.(id|team|project|environment|labels\.[A-Za-z0-9_./-]{1,63})|provider|model|operation"
)
_USER = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,254}\$?")
_KEY_HASH = re.compile(r"hmac-sha256:[0-9a-f]{64}")
_KEY_ID = re.compile(r"(hmac-sha256:)?[0-9a-f]{12,64}")
_MODE = re.compile(r"0?[0-7]{3}")
_OVERFLOW_ID = 65534
LOOPBACKS = ("127.0.0.1", "[::1]")


@dataclass(frozen=True, slots=True)
class StateUrl:
    """Where state lies: kind is "memory", "shm" or "redis". addresses are tried in turn (a cluster: met there)."""

    kind: str = "memory"
    addresses: tuple[tuple[str, int], ...] = ()
    unix_path: str | None = None
    tls: bool = False
    cluster: bool = False
    sentinel: str | None = None  # the master's name; addresses are the sentinels'
    database: int = 0
    user: str | None = None
    password: Secret | None = field(default=None, repr=False)

    def __str__(self) -> str:
        """Without the password."""
        if self.kind != "redis":
            return self.kind
        where = self.unix_path or ",".join(
            f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in self.addresses
        )
        kind = "+cluster" if self.cluster else "+sentinel" if self.sentinel is not None else ""
        return f"redis{'s' if self.tls else ''}{kind}://{where}{f'/{self.sentinel}' if self.sentinel else ''}"


@dataclass(frozen=True, slots=True)
class Rate:
    """`count` in every `period_s` seconds; str() gives back "600/min"."""

    count: int
    period_s: int

    def __str__(self) -> str:
        unit = next(name for name, seconds in _PERIOD_S.items() if seconds == self.period_s)
        return f"{self.count}/{unit}"


@dataclass(frozen=True, slots=True)
class Amount:
    """`amount` in every period of the calendar: dollars or tokens; str() gives back "50/day"."""

    amount: Decimal
    unit: str

    def __str__(self) -> str:
        return f"{self.amount}/{self.unit}"


@dataclass(frozen=True, slots=True)
class ProxyUrl:
    """A proxy to go through: plain HTTP to `host:port`; `authorization` is the value of proxy-authorization."""

    host: str
    port: int
    authorization: Secret | None = field(default=None)

    @property
    def origin(self) -> str:
        """The URL without user and password."""
        return f"http://{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"

    def __str__(self) -> str:
        return self.origin.replace("//", "//****@") if self.authorization else self.origin


@dataclass(frozen=True, slots=True)
class PolicyUse:
    """One entry of `policies`: a shipped pack's name, or the path of a file or folder; `values` of its parameters."""

    pack: str
    values: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.pack


def policy_use(value: Any, context: Mapping[str, Path] | None) -> PolicyUse:
    """A name or path, or {pack: name or path, with: {parameter: value}}."""
    if isinstance(value, PolicyUse):
        return value
    values: Any = {}
    if isinstance(value, dict):
        if not set(value) <= {"pack", "with"} or "pack" not in value:
            raise ValueError("must be a pack's name, a path, or {pack: NAME, with: {parameter: value}}")
        values = value.get("with") or {}
        value = value["pack"]
    if not isinstance(values, dict):
        raise ValueError("needs a section of parameters below with:")
    if not isinstance(value, str) or not value:
        raise ValueError("must be a pack's name, a path, or {pack: NAME, with: {parameter: value}}")
    if "/" in value or value.startswith("~") or value.endswith((".yaml", ".yml")):
        value = str(file_path(value, context))
    return PolicyUse(value, values)


def one_or_many(value: Any) -> Any:
    """A list as a tuple; a single value stands for a list of one, nothing for none."""
    return tuple(value) if isinstance(value, (list, tuple)) else () if value is None else (value,)


def distinct(entries: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(entries)) != len(entries):
        raise ValueError("names the same entry twice; remove one")
    return entries


def both_loopbacks(addresses: tuple[str, ...]) -> tuple[str, ...]:
    """ "localhost:8484" as both loopback addresses: it is ::1 to Node and 127.0.0.1 to others."""
    found: list[str] = []
    for address in addresses:
        host, _, port = address.rpartition(":") if not address.startswith(UNIX) else (address, "", "")
        found += [f"{loopback}:{port}" for loopback in LOOPBACKS] if host == "localhost" else [address]
    return tuple(found)


UNIX = "unix:"
MAX_UNIX_PATH_BYTES = 107  # sun_path holds 108, its NUL included (unix(7))


def unix_address(value: str, home: Path | None) -> str:
    """ "unix:/run/outrider.sock"; `~/` is the user's home."""
    path = value.removeprefix(UNIX)
    if path.startswith("~/"):
        path = f"{home or Path.home()}/{path[2:]}"
    if not path.startswith("/") or path.endswith("/") or not path.isprintable():
        raise ValueError(
            f"must be an absolute path after unix:, such as unix:/run/outrider/proxy.sock, not {quote(value)}"
        )
    if len(path.encode()) > MAX_UNIX_PATH_BYTES:
        raise ValueError(f"has a path of more than {MAX_UNIX_PATH_BYTES} bytes after unix:; choose a shorter one")
    return UNIX + path


def _text(value: Any, what: str) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError(f"must be {what}, not {quote(value)}")
    return value


def listen_address(value: Any, home: Path | None = None) -> str:
    """ "127.0.0.1:8484", "[::1]:8484", "localhost:8484", the number alone (localhost), or "unix:PATH"."""
    if isinstance(value, str) and value.startswith(UNIX):
        return unix_address(value, home)
    if isinstance(value, int) and not isinstance(value, bool):
        value = f"localhost:{value}"
    text = _text(value, 'an address such as "127.0.0.1:8484" or a list of them')
    host, _, port_text = text.rpartition(":")
    port = _port(port_text, text, lowest=0)
    if host.lower() == "localhost":
        return f"localhost:{port}"
    try:
        if host.startswith("[") and host.endswith("]"):
            return f"[{ipaddress.IPv6Address(host[1:-1])}]:{port}"
        return f"{ipaddress.IPv4Address(host)}:{port}"
    except ValueError:
        raise ValueError(
            f'must be an IP address of this machine with a port, such as "127.0.0.1:8484", not {quote(text)}'
        ) from None


def _port(text: str, whole: str, *, lowest: int = 1) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 5 and lowest <= int(text) <= 65535):
        raise ValueError(f"needs a port from {lowest} to 65535 after ':', not {quote(whole)}")
    return int(text)


def host_name(value: Any) -> str:
    """A DNS name or an IP address in its one form: lower case, no trailing dot, IPv6 without brackets."""
    text = _text(value, "a host name").lower().removesuffix(".")
    bare = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    try:
        return str(ipaddress.ip_address(bare))
    except ValueError:
        pass
    labels = text.split(".")
    if len(text) > 253 or not all(map(_LABEL.fullmatch, labels)) or labels[-1].isdigit():
        raise ValueError(f"must be a host name such as llm.internal (no scheme, no path), not {quote(value)}")
    return text


def host_and_port(value: Any) -> str:
    """`name`, `name:port`, `1.2.3.4:port` or `[v6]:port`."""
    text = _text(value, "a host name")
    head, colon, port = text.rpartition(":")
    if not colon or (":" in head and not head.endswith("]")) or (text.startswith("[") and text.endswith("]")):
        return host_name(text)
    name = host_name(head)
    return f"{f'[{name}]' if ':' in name else name}:{_port(port, text)}"


def host_pattern(value: Any) -> str:
    """What `hosts:` takes: `name`, `name:port`, `*.suffix`, `*.suffix:port`."""
    text = _text(value, "a host name")
    if "*" not in text:
        return host_and_port(text)
    suffix = text.removeprefix("*.")
    if "*" in suffix or suffix == text:
        raise ValueError(f"must be a name, or have '*' as its whole first label (*.example.com), not {quote(text)}")
    if "." not in suffix.partition(":")[0].strip("."):
        raise ValueError(
            f"would claim a whole top-level domain with {quote(text)}; name at least two labels after '*.'"
        )
    return f"*.{host_and_port(suffix)}"


def allowed_private(value: Any) -> str:
    """A host name, an IP address or a network (CIDR)."""
    text = _text(value, "a host name or a network such as 10.0.0.0/8")
    if "/" in text:
        try:
            return str(ipaddress.ip_network(text))
        except ValueError as exc:
            raise ValueError(f"must be a network such as 10.0.0.0/8, not {quote(text)} ({exc})") from None
    return host_name(text)


def web_origin(value: Any) -> str:
    """A browser's Origin: `https://host[:port]`, lower case."""
    text = _text(value, "an origin such as https://app.example.com")
    parts = _split(text)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.path or parts.query or parts.username:
        raise ValueError(f"must be an origin such as https://app.example.com (no path), not {quote(text)}")
    return text.lower()


def _split(text: str) -> SplitResult:
    try:
        parts = urlsplit(text)
        _ = parts.port
    except ValueError:
        raise ValueError("must be a URL such as http://127.0.0.1:8000") from None
    return parts


def base_url(value: Any) -> str:
    """`http://host[:port]` or `https://host[:port]`: where to dial; no path, since the caller's is sent as it is."""
    text = _text(value, "a URL such as http://127.0.0.1:8000")
    parts = _split(text)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("must be a URL that begins with http:// or https:// and names a host")
    if parts.username is not None or parts.password is not None:
        raise ValueError("may not hold a user or password; use credential: for what the provider is to see")
    if parts.path not in ("", "/") or parts.query or parts.fragment:
        raise ValueError("may not have a path or query; the request's own path is sent as it is")
    return f"{parts.scheme}://{_netloc(parts)}"


def _netloc(parts: SplitResult) -> str:
    name = host_name(parts.hostname)
    host = f"[{name}]" if ":" in name else name
    return host if parts.port is None else f"{host}:{parts.port}"


def proxy_url(value: Any) -> ProxyUrl | None:
    """`http://[user:password@]host:port`."""
    if value is None or isinstance(value, ProxyUrl):
        return value
    parts = _split(_text(value, "a URL such as http://proxy.example.com:3128"))
    if parts.scheme != "http" or not parts.hostname or parts.path not in ("", "/") or parts.query or parts.fragment:
        raise ValueError("must be a URL such as http://proxy.example.com:3128 (scheme http, no path)")
    authorization = None
    if parts.username is not None:
        pair = unquote_to_bytes(parts.username) + b":" + unquote_to_bytes(parts.password or "")
        authorization = Secret(b"Basic " + base64.b64encode(pair))
    return ProxyUrl(host_name(parts.hostname), parts.port or 80, authorization)


@dataclass(frozen=True, slots=True)
class KeyFrom:
    """Where a secret of our own comes from: a variable or a file."""

    env: str | None = None
    file: Path | None = None


def key_from(value: Any, context: Mapping[str, Path] | None) -> KeyFrom | None:
    """`{env: NAME}` or `{file: PATH}`."""
    if value is None or isinstance(value, KeyFrom):
        return value
    if not isinstance(value, dict) or len(value) != 1 or not set(value) <= {"env", "file"}:
        # Never quoted: this is where a literal key would stand.
        raise ValueError("must be {env: NAME} or {file: PATH}; a key itself never stands here")
    if "env" in value:
        return KeyFrom(env=env_name(value["env"]))
    return KeyFrom(file=file_path(value["file"], context))


_STATE_SCHEMES = {
    "redis": (False, ""),
    "rediss": (True, ""),
    "redis+cluster": (False, "cluster"),
    "rediss+cluster": (True, "cluster"),
    "redis+sentinel": (False, "sentinel"),
    "rediss+sentinel": (True, "sentinel"),
}
_MASTER = re.compile(r"[A-Za-z0-9._-]{1,128}")


def state_url(value: Any) -> StateUrl:
    """`memory`, `shm`, or `redis[s][+cluster]://[user[:password]@]host[:port][,host[:port]...][/db][?cluster=true]`,
    `redis[s]+sentinel://[user[:password]@]sentinel[:26379][,...]/MASTER[/db]` (user and password are Redis' own), or
    `redis+unix:///path`. The address is never quoted: it may hold a password."""
    if isinstance(value, StateUrl):
        return value
    if value in ("memory", "shm"):
        return StateUrl(str(value))
    scheme, found, rest = value.partition("://") if isinstance(value, str) else ("", "", "")
    if found and scheme == "redis+unix" and rest.startswith("/"):
        return StateUrl("redis", unix_path=rest)
    if not found or scheme not in _STATE_SCHEMES:
        raise ValueError("must be memory, shm or an address such as redis://redis.internal:6379")
    tls, kind = _STATE_SCHEMES[scheme]
    authority, _, query = rest.partition("?")
    authority, _, database = authority.partition("/")
    master = None
    if kind == "sentinel":
        master, _, database = database.partition("/")
        if not _MASTER.fullmatch(master):
            raise ValueError("has to name the master that the sentinels watch, as redis+sentinel://a,b,c/mymaster")
    if query not in ("", "cluster=true", "cluster=false"):
        raise ValueError("takes no query but ?cluster=true")
    if database and not (database.isascii() and database.isdigit() and int(database) < 1024):
        raise ValueError("ends in the number of a database, as redis://redis.internal:6379/0")
    user, at, hosts = authority.rpartition("@")
    name, _, password = user.partition(":")
    cluster = kind == "cluster" or query == "cluster=true"
    if cluster and master is not None:
        raise ValueError("is of a cluster and of sentinels; a cluster needs none")
    if cluster and database not in ("", "0"):
        raise ValueError("names a database, and a cluster has but one; remove it")
    return StateUrl(
        "redis",
        addresses=tuple(_redis_host(host, 6379 if master is None else 26379) for host in hosts.split(",")),
        tls=tls,
        cluster=cluster,
        sentinel=master,
        database=int(database or 0),
        user=unquote_to_bytes(name).decode() if at and name else None,
        password=Secret(unquote_to_bytes(password)) if at and password else None,
    )


def _redis_host(text: str, port_number: int) -> tuple[str, int]:
    if ":" in text.rpartition("]")[2]:
        host, _, port = text.rpartition(":")
        return host_name(host), _port(port, text)
    return host_name(text), port_number


def rate(value: Any) -> Rate:
    """ "600/min": a whole number per s, min, h or day."""
    if isinstance(value, Rate):
        return value
    found = _RATE.fullmatch(value) if isinstance(value, str) else None
    if not found:
        raise ValueError(f"must be a count per s, min, h or day, such as 600/min, not {quote(value)}")
    return Rate(int(found[1]), _PERIOD_S[found[2]])


def amount(value: Any) -> Amount:
    """ "50/day": dollars (or tokens) per minute, hour, day or month of the calendar."""
    if isinstance(value, Amount):
        return value
    found = _BUDGET.fullmatch(value) if isinstance(value, str) else None
    if not found or not Decimal(found[1]):
        raise ValueError(f"must be an amount per minute, hour, day or month, such as 50/day, not {quote(value)}")
    return Amount(Decimal(found[1]), found[2])


def price(value: Any) -> Decimal:
    """Dollars a million tokens, exactly as they are written."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str, Decimal)):
        raise ValueError(f"must be dollars per million tokens, such as 0.15, not {quote(value)}")
    try:
        found = Decimal(repr(value) if isinstance(value, float) else value)
    except InvalidOperation:
        found = Decimal(-1)
    if not found.is_finite() or not 0 <= found < 10**6 or -int(found.as_tuple().exponent) > 12:
        raise ValueError(f"must be dollars per million tokens, such as 0.15, not {quote(value)}")
    return found


def limit_field(value: Any) -> str:
    """What a limit may be keyed by."""
    if not isinstance(value, str) or not _LIMIT_FIELD.fullmatch(value):
        raise ValueError(
            "must be principal.id, principal.team, principal.project, principal.environment, principal.labels.NAME, "
            f"provider, model or operation, not {quote(value)}"
        )
    return value


def user_or_group(value: Any) -> int | str:
    """A number, or a name that this machine's user database knows (looked up when it is used)."""
    if isinstance(value, int) and not isinstance(value, bool):
        if value == _OVERFLOW_ID:
            raise ValueError(f"must not be {value}: the kernel says so of every user it cannot name; leave it out")
        if 0 <= value < 1 << 32:
            return value
    if isinstance(value, str) and _USER.fullmatch(value):
        return value
    raise ValueError(f"must be a user's or group's number or name, not {quote(value)}")


def key_hash(value: Any) -> str:
    # Never quoted: people put the key itself here.
    if not isinstance(value, str) or not _KEY_HASH.fullmatch(value):
        raise ValueError(
            "must be hmac-sha256: and 64 hex digits, as `outrider keys new` prints it; never the key itself"
        )
    return value


def percent(value: Any) -> int:
    """50 or "50%"."""
    text = value.removesuffix("%") if isinstance(value, str) else value
    if isinstance(text, str) and text.isascii() and text.isdigit() and len(text) <= 3:
        text = int(text)
    if isinstance(text, bool) or not isinstance(text, int) or not 1 <= text <= 100:
        raise ValueError(f"must be a percentage from 1 to 100, not {quote(value)}")
    return text


def time_zone(value: Any) -> str:
    text = _text(value, "a time zone such as Europe/Berlin")
    try:
        ZoneInfo(text)
    except (OSError, ValueError, KeyError):
        raise ValueError(f"must be a time zone of this machine, such as Europe/Berlin, not {quote(text)}") from None
    return text


def revoked_key(value: Any) -> str:
    if not isinstance(value, str) or not _KEY_ID.fullmatch(value):
        raise ValueError("must be a key's hash as `outrider keys new` prints it, or its first 12 or more hex digits")
    return value


def moment(value: Any) -> datetime:
    """A day (its beginning, UTC) or a time with its zone, RFC 3339."""
    try:
        found = datetime.fromisoformat(value) if isinstance(value, str) else value
        if not isinstance(found, datetime):
            found = datetime(found.year, found.month, found.day)
    except (ValueError, AttributeError, TypeError):
        raise ValueError(
            f"must be a day or a time such as 2027-01-31 or 2027-01-31T12:00:00Z, not {quote(value)}"
        ) from None
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)


def file_mode(value: Any) -> int:
    """ "0660" """
    if not isinstance(value, str) or not _MODE.fullmatch(value):
        raise ValueError('must be three octal digits in quotes, such as "0660"')
    return int(value, 8)


def env_name(value: Any) -> str:
    # The value is never quoted: people put the key itself here.
    if not isinstance(value, str) or not _ENV_NAME.fullmatch(value):
        raise ValueError(
            "must be the name of an environment variable, such as OPENAI_API_KEY; the key itself goes into it"
        )
    return value


def profile_name(value: Any) -> str:
    if not isinstance(value, str) or not value or not value.isprintable() or len(value) > 128:
        raise ValueError('must be the name of an AWS profile, such as "default"')
    return value


def project_name(value: Any) -> str:
    """Of Google Cloud; a domain-scoped one has a colon in it."""
    text = _text(value, "a Google Cloud project such as my-project")
    if not _PROJECT.fullmatch(text):
        raise ValueError(f"must be a Google Cloud project such as my-project, not {quote(text)}")
    return text


def base_path(value: Any) -> str:
    """Where an API begins at its host: /v2/ID/openai."""
    text = _text(value, "a path such as /v2/ID/openai")
    if not _BASE_PATH.fullmatch(text) or "/." in text:
        raise ValueError(f"must be a path such as /v2/ID/openai, without a slash at its end, not {quote(text)}")
    return text


def api_version(value: Any) -> str:
    """Of Azure: a day, and perhaps -preview."""
    text = value.isoformat() if isinstance(value, date) else _text(value, "an API version such as 2024-10-21")
    if not _API_VERSION.fullmatch(text):
        raise ValueError(f"must be an API version such as 2024-10-21, not {quote(text)}")
    return text


def region_name(value: Any) -> str:
    text = _text(value, "a region such as us-east-1")
    if not _REGION.fullmatch(text):
        raise ValueError(f"must be a region such as us-east-1, not {quote(text)}")
    return text


def file_path(value: Any, context: Mapping[str, Path] | None) -> Path:
    """A path; `~` is the user's home, a relative one starts at the configuration's own folder."""
    if isinstance(value, Path):
        return value
    if not isinstance(value, str) or not value or "\0" in value or len(value) > 4096:
        raise ValueError("must be the path of a file or folder")
    context = context or {}
    if value == "~" or value.startswith("~/"):
        return context.get("home", Path.home()) / value[2:]
    return context.get("folder", Path.cwd()) / value
