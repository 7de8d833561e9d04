"""The keys of a configuration, their types, defaults and bounds; nothing else is accepted.

Rules: a key that does nothing is not accepted; units stand in names; models are frozen and strict; each key is marked
`live` (a reload applies it) or `restart` (a section's mark holds for the keys below it that have none).
What depends on several keys at once is in `relations`. Sources: docs/config.yaml says in words what each key does.
Does not know: files, lines, environment variables.
"""

import functools
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Union, get_args, get_origin

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    ValidationInfo,
    create_model,
    field_validator,
    model_validator,
)

from outrider.config import values
from outrider.config.problems import KeyPath, quote
from outrider.config.values import Amount, KeyFrom, PolicyUse, ProxyUrl, Rate, StateUrl

PROVIDER_KINDS = (
    "openai", "anthropic", "gemini", "vertex", "azure", "bedrock", "mistral", "cohere", "together", "moonshot", "groq",
    "deepseek", "xai", "perplexity", "fireworks", "openrouter", "huggingface", "replicate", "ai21", "ollama", "vllm",
)  # fmt: skip
EMBEDDED = "<embedded>"


def _live(default: Any = ..., **more: Any) -> Any:
    return Field(default, json_schema_extra={"reload": "live"}, **more)


def _restart(default: Any = ..., **more: Any) -> Any:
    return Field(default, json_schema_extra={"reload": "restart"}, **more)


def _path(value: Any, info: ValidationInfo) -> Any:
    return value if value is None or value == "" else values.file_path(value, info.context)


def _policy(value: Any, info: ValidationInfo) -> Any:
    return values.policy_use(value, info.context)


def _address(value: Any, info: ValidationInfo) -> str:
    return values.listen_address(value, (info.context or {}).get("home"))


def _list_of(one: Callable[..., Any], *after: Callable[[tuple[str, ...]], tuple[str, ...]], kind: Any = str) -> Any:
    """The annotation of a list whose entries `one` checks, each at its own place, and `after` as a whole."""
    entries = tuple[Annotated[kind, BeforeValidator(one)], ...]
    return functools.reduce(
        lambda so_far, check: Annotated[so_far, AfterValidator(check)],
        (*after, values.distinct),
        Annotated[entries, BeforeValidator(values.one_or_many)],
    )


FilePath = Annotated[Path, BeforeValidator(_path)]
Seconds = Annotated[float, Field(gt=0, le=86_400)]
if TYPE_CHECKING:
    Addresses = tuple[str, ...]
    Hosts = tuple[str, ...]
    HostPatterns = tuple[str, ...]
    Networks = tuple[str, ...]
    Origins = tuple[str, ...]
    Users = tuple[int | str, ...]
    RevokedKeys = tuple[str, ...]
else:
    Addresses = _list_of(_address, values.both_loopbacks)
    Users = _list_of(values.user_or_group, kind=int | str)
    RevokedKeys = _list_of(values.revoked_key)
    Hosts = _list_of(values.host_and_port)
    HostPatterns = _list_of(values.host_pattern)
    Networks = _list_of(values.allowed_private)
    Origins = _list_of(values.web_origin)


class _Section(BaseModel):
    model_config: ClassVar[ConfigDict] = ConfigDict(
        frozen=True, strict=True, extra="forbid", validate_default=False, arbitrary_types_allowed=True,
        hide_input_in_errors=True, allow_inf_nan=False,
    )  # fmt: skip

    @model_validator(mode="before")
    @classmethod
    def _an_empty_key_is_its_default(cls, data: Any) -> Any:
        """`limits:` with every line below it commented out is YAML for null: take it as not there."""
        if data is None:
            return {}
        if not isinstance(data, dict) or None not in data.values():
            return data
        return {key: value for key, value in data.items() if value is not None or cls._takes_null(key)}

    @classmethod
    def _takes_null(cls, key: str) -> bool:
        field = cls.model_fields.get(key)
        return field is None or NoneType in get_args(field.annotation) or key in cls._null_means_off

    _null_means_off: ClassVar[frozenset[str]] = frozenset()


class Listen(_Section):
    """Addresses as "127.0.0.1:8484", "[::1]:8484" or "unix:PATH"; port 0 takes a free one; () means off."""

    _null_means_off: ClassVar[frozenset[str]] = frozenset({"transparent", "admin"})
    proxy: Addresses = _restart(("127.0.0.1:8484", "[::1]:8484"), min_length=1)
    transparent: Addresses = _restart(())
    admin: Addresses = _restart(("127.0.0.1:8485",))
    unix_mode: Annotated[int, BeforeValidator(values.file_mode)] = _restart(0o600)
    unix_group: Annotated[int | str, BeforeValidator(values.user_or_group)] | None = _restart(None)
    max_connections: int = _restart(10_000, ge=1, le=1_000_000)
    allowed_hosts: Hosts = _live(())
    allowed_origins: Origins = _live(())


class Egress(_Section):
    default: Literal["tunnel", "deny"] = _live("tunnel")
    private: Literal["tunnel", "deny"] = _live("tunnel")
    allow_private: Networks = _live(())


class Upstream(_Section):
    proxy: Annotated[ProxyUrl | None, BeforeValidator(values.proxy_url)] = _restart(None)
    ca: FilePath | None = _restart(None)
    pool_max_idle: int = _restart(64, ge=0, le=100_000)
    idle_timeout_s: Seconds = _restart(55.0)
    max_connections_per_host: int = _restart(1024, ge=1, le=100_000)


class Ca(_Section):
    dir: FilePath = _restart(Path("~/.outrider/ca"), validate_default=True)
    name_constraints: bool = _restart(False)

    @field_validator("dir", mode="before")
    @classmethod
    def _home(cls, value: Any, info: ValidationInfo) -> Any:
        return values.file_path(str(value), info.context) if isinstance(value, (str, Path)) else value


_CREDENTIAL_KINDS = ("env", "file", "aws", "google")


def _google_credential(value: Any, info: ValidationInfo) -> str:
    """The absolute path of a credential file, or the word for what the environment offers."""
    return "default" if value == "default" else str(values.file_path(value, info.context))


class Credential(_Section):
    """Where a provider's key comes from: exactly one of the four."""

    env: Annotated[str, BeforeValidator(values.env_name)] | None = None
    file: FilePath | None = None
    aws: Annotated[str, BeforeValidator(values.profile_name)] | None = None
    google: Annotated[str, BeforeValidator(_google_credential)] | None = None

    @model_validator(mode="before")
    @classmethod
    def _is_a_section(cls, data: Any) -> Any:
        if not isinstance(data, dict):  # never quoted: this is where a literal key would stand
            raise ValueError(
                "must be {env: NAME}, {file: PATH}, {aws: PROFILE} or {google: PATH or default}; "
                "a key itself never stands here"
            )
        known = [key for key in _CREDENTIAL_KINDS if data.get(key) is not None]
        if len(known) != 1 and set(data) <= set(_CREDENTIAL_KINDS):
            raise ValueError("needs exactly one of env, file, aws and google")
        return data

    @property
    def described(self) -> str:
        kind = next(kind for kind in _CREDENTIAL_KINDS if getattr(self, kind) is not None)
        return f"{kind} {getattr(self, kind)}"


class Provider(_Section):
    """One entry of `providers:`. `kind` is None where the entry's name is the kind."""

    kind: str | None = _live(None)
    hosts: HostPatterns = _live(())
    connect_to: Annotated[str, BeforeValidator(values.base_url)] | None = _live(None)
    upstream_ca: FilePath | None = _live(None)
    region: Annotated[str, BeforeValidator(values.region_name)] | None = _live(None)
    project: Annotated[str, BeforeValidator(values.project_name)] | None = _live(None)
    base_path: Annotated[str, BeforeValidator(values.base_path)] | None = _live(None)
    api_version: Annotated[str, BeforeValidator(values.api_version)] | None = _live(None)
    credential: Credential | None = _live(None)
    byok: Literal["pass", "deny"] = _live("pass")
    require_placeholder: bool = _live(True)
    unknown_operations: Literal["byok", "deny"] = _live("byok")
    intercept: bool = _live(True)
    adaptive: bool = _live(False)


class Queue(_Section):
    """Where a caller waits. priority: a number for all, or by a principal's id, team or role (else 0)."""

    max_wait_s: Seconds = _live(30.0)
    max_waiting: int = _live(1000, ge=1, le=100_000)
    priority: int | dict[str, int] = _live(0)

    def priority_of(self, principal: Any) -> int:
        if isinstance(self.priority, int):
            return self.priority
        names = (principal.id, principal.team, *principal.roles)
        return max((self.priority[name] for name in names if name in self.priority), default=0)


def _names(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else (value,) if isinstance(value, str) else value


class OnExceed(_Section):
    """What becomes of a caller beyond the limit."""

    queue: Queue = _live(default_factory=Queue)


def _on_exceed(value: Any) -> Any:
    """`reject`, `queue`, or {queue: {...}}; None is to reject."""
    if value == "queue":
        return OnExceed()
    if isinstance(value, str) and value != "reject":
        raise ValueError(f"must be reject, queue or {{queue: {{max_wait_s: 30}}}}, not {quote(value)}")
    return None if value == "reject" else value


Names = Annotated[tuple[str, ...], BeforeValidator(_names)]
Fields = Annotated[
    tuple[Annotated[str, BeforeValidator(values.limit_field)], ...],
    BeforeValidator(_names),
    AfterValidator(values.distinct),
]
RateOf = Annotated[Rate, BeforeValidator(values.rate)]
AmountOf = Annotated[Amount, BeforeValidator(values.amount)]
Percents = Annotated[tuple[Annotated[int, BeforeValidator(values.percent)], ...], BeforeValidator(values.one_or_many)]
Dollars = Annotated[Decimal, BeforeValidator(values.price)]
RULE_NAME = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$"


class VirtualKey(_Section):
    """One key of a principal; the key itself stands nowhere."""

    hash: Annotated[str, BeforeValidator(values.key_hash)] = _live()
    expires: Annotated[datetime, BeforeValidator(values.moment)] | None = _live(None)


class PodClaim(_Section):
    """Every field that is given has to hold for the pod of this sidecar."""

    namespace: str | None = _live(None, min_length=1)
    service_account: str | None = _live(None, min_length=1)
    labels: dict[str, str] = _live(default_factory=dict)

    @model_validator(mode="after")
    def _asks_for_something(self) -> "PodClaim":
        if self.namespace is None and self.service_account is None and not self.labels:
            raise ValueError("asks for nothing, so that it would be every pod; name a namespace, an account or labels")
        return self


class Claims(_Section):
    """`from:` of a principal: by what it is known. One that holds is enough."""

    users: Users = _live(())
    groups: Users = _live(())
    keys: tuple[VirtualKey, ...] = _live(())
    pod: PodClaim | None = _live(None)

    @field_validator("keys", mode="before")
    @classmethod
    def _list(cls, value: Any) -> Any:
        return tuple(value) if isinstance(value, list) else value


class _Principal(_Section):
    id: str = _live(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.@/-]{0,126}$")
    team: str = _live("", max_length=127)
    project: str = _live("", max_length=127)
    environment: str = _live("", max_length=127)
    roles: tuple[str, ...] = _live(())
    labels: dict[str, str] = _live(default_factory=dict)
    uids: Users = _live(())

    @field_validator("roles", mode="before")
    @classmethod
    def _list(cls, value: Any) -> Any:
        return tuple(value) if isinstance(value, list) else (value,) if isinstance(value, str) else value

    @property
    def claims(self) -> Claims:
        found: Claims = getattr(self, "from")
        return found


if TYPE_CHECKING:
    Principal = _Principal
else:  # `from` is a word of Python's, and the right one for the file
    Principal = create_model("Principal", __base__=_Principal, **{"from": (Claims, _live(default_factory=Claims))})


class VirtualKeys(_Section):
    """`hmac_key` is None for the file beside the CA."""

    hmac_key: FilePath | None = _restart(None)
    revoked: RevokedKeys = _live(())
    revoked_file: FilePath | None = _live(None)


class Limit(_Section):
    """At most `requests`, `tokens` and `concurrent`, each counted apart for every value of `key`.

    burst: at once (default: the count). on_exceed: None to reject, else where callers wait.
    """

    name: str = _live(pattern=RULE_NAME)
    key: Fields = _live(("provider",))
    requests: RateOf | None = _live(None)
    tokens: RateOf | None = _live(None)
    count: Literal["total", "input", "output"] = _live("total")
    concurrent: int | None = _live(None, ge=1, le=1_000_000)
    burst: int | None = _live(None, ge=1, le=1_000_000_000)
    algorithm: Literal["token-bucket", "fixed-window", "sliding-window"] = _live("token-bucket")
    reserve: Literal["estimate", "max"] = _live("estimate")
    on_exceed: Annotated[OnExceed | None, BeforeValidator(_on_exceed)] = _live(None)
    providers: Names | None = _live(None, min_length=1)
    models: Names | None = _live(None, min_length=1)


class Budget(_Section):
    """At most `usd` and `tokens` in a period of the calendar, for every value of `key`. soft: percentages told."""

    name: str = _live(pattern=RULE_NAME)
    key: Fields = _live(("provider",))
    usd: AmountOf | None = _live(None)
    tokens: AmountOf | None = _live(None)
    time_zone: Annotated[str, BeforeValidator(values.time_zone)] = _live("UTC")
    soft: Percents = _live((80,))
    on_exceed: Literal["deny", "alert"] = _live("deny")
    unpriced: Literal["deny", "allow"] = _live("deny")
    providers: Names | None = _live(None, min_length=1)
    models: Names | None = _live(None, min_length=1)


class PriceStep(_Section):
    """Dollars a million tokens (request: a thousand requests). What is left out has the price of its whole."""

    input: Dollars | None = _live(None)
    output: Dollars | None = _live(None)
    cache_read: Dollars | None = _live(None)
    cache_write: Dollars | None = _live(None)
    cache_write_1h: Dollars | None = _live(None)
    reasoning: Dollars | None = _live(None)
    input_audio: Dollars | None = _live(None)
    output_audio: Dollars | None = _live(None)
    cache_audio: Dollars | None = _live(None)
    request: Dollars | None = _live(None)


class PriceAbove(PriceStep):
    """The prices of a call whose input has more than so many tokens."""

    tokens: int = _live(ge=1, le=1_000_000_000)


class Price(PriceStep):
    """tiers: rows of their own for batch, flex, priority, ..."""

    above: Annotated[tuple[PriceAbove, ...], BeforeValidator(values.one_or_many)] = _live(())
    tiers: dict[str, PriceStep] = _live(default_factory=dict)


def _key_from(value: Any, info: ValidationInfo) -> Any:
    return values.key_from(value, info.context)


Key = Annotated[KeyFrom | None, BeforeValidator(_key_from)]


class State(_Section):
    """Where limits and budgets are counted. Written as a word, it is the url."""

    url: Annotated[StateUrl, BeforeValidator(values.state_url)] = _restart(StateUrl())
    fleet_key: Key = _restart(None)
    password: Key = _restart(None)
    sentinel_password: Key = _restart(None)
    ca: FilePath | None = _restart(None)
    cert: FilePath | None = _restart(None)
    cert_key: FilePath | None = _restart(None)
    on_store_error: Literal["local", "deny", "allow"] = _restart("local")
    deadline_ms: int = _restart(250, ge=20, le=10_000)
    lease_s: Annotated[float, Field(ge=1, le=600)] = _restart(10.0)


def _state(value: Any) -> Any:
    return {"url": value} if isinstance(value, (str, StateUrl)) else value


class ModelTarget(_Section):
    """One place that serves an alias. Written as a word, it is provider/model. has: None is everything."""

    provider: str = _live(min_length=1, max_length=63)
    model: str = _live(min_length=1, max_length=256, pattern=r"^[!-~]+$")
    weight: float = _live(1.0, ge=0, le=1_000_000)
    has: Annotated[tuple[Literal["vision", "tools", "json", "reasoning"], ...], BeforeValidator(_names)] | None = _live(
        None
    )
    context_tokens: int | None = _live(None, ge=1, le=1_000_000_000)
    max_concurrent: int | None = _live(None, ge=1, le=1_000_000)

    @property
    def name(self) -> str:
        return f"{self.provider}/{self.model}"


def _target(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    provider, slash, model = value.partition("/")
    if not slash or not provider or not model:
        raise ValueError(f"must be PROVIDER/MODEL, such as openai/gpt-5, not {quote(value)}")
    return {"provider": provider, "model": model}


class ModelRule(_Section):
    """A row of `strategy: smart`: the first whose condition holds names the target that is tried first."""

    when: str = _live(min_length=1, max_length=4096)
    target: str = _live(min_length=3, max_length=320)


class Hedge(_Section):
    """A second target for a call whose answer is late. after_ms: None is the learned 90th percentile."""

    percent: float = _live(5.0, gt=0, le=100)
    after_ms: float | None = _live(None, ge=1, le=600_000)
    min_after_ms: float = _live(50.0, ge=1, le=600_000)


class AttemptTimeouts(_Section):
    """Seconds; of one try, but for total_s, which is for all of them and not for streams."""

    first_byte_s: Seconds = _live(60.0)
    first_event_s: Seconds = _live(60.0)
    idle_s: Seconds = _live(120.0)
    total_s: Seconds = _live(600.0)


class TargetQueue(Queue):
    """Where a caller waits for a target that has a place."""

    max_waiting: int = _live(1000, ge=0, le=100_000)


class StaticAnswer(_Section):
    """What the app is told when nobody can answer, marked as such."""

    text: str = _live(min_length=1, max_length=65_536)


class ModelAlias(_Section):
    """One entry of `models:`."""

    targets: tuple[Annotated[ModelTarget, BeforeValidator(_target)], ...] = _live(min_length=1, max_length=64)
    strategy: Literal["failover", "round-robin", "weighted", "least-busy", "latency", "cost", "smart"] = _live(
        "failover"
    )
    sticky: Literal["none", "principal", "conversation"] = _live("none")
    rules: tuple[ModelRule, ...] = _live(())
    hedge: Hedge | None = _live(None)
    queue: TargetQueue = _live(default_factory=TargetQueue)
    timeouts: AttemptTimeouts | None = _live(None)
    static_answer: StaticAnswer | None = _live(None)

    @field_validator("targets", "rules", mode="before")
    @classmethod
    def _list(cls, value: Any) -> Any:
        return tuple(value) if isinstance(value, list) else value


def _statuses(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else (value,) if isinstance(value, int) else value


class Retry(_Section):
    """attempts: tries in all, the first included. budget_percent of the calls, and min_per_s, may be tried again."""

    attempts: int = _live(4, ge=1, le=10)
    statuses: Annotated[tuple[Annotated[int, Field(ge=400, le=599)], ...], BeforeValidator(_statuses)] = _live(
        (408, 409, 429, 500, 502, 503, 504, 520, 521, 522, 523, 524, 529)
    )
    base_ms: float = _live(100.0, ge=0, le=60_000)
    max_ms: float = _live(5000.0, ge=0, le=600_000)
    max_wait_s: float = _live(10.0, ge=0, le=600)
    budget_percent: float = _live(25.0, ge=0, le=100)
    min_per_s: float = _live(5.0, ge=0, le=10_000)


class BreakerKeys(_Section):
    """failures: in a row. rate_percent: of failures in window_s, of at least min_calls. open_s: the first time."""

    failures: int = _live(5, ge=1, le=10_000)
    rate_percent: float = _live(50.0, gt=0, le=100)
    window_s: Seconds = _live(30.0)
    min_calls: int = _live(20, ge=1, le=1_000_000)
    open_s: Seconds = _live(10.0)
    probes: int = _live(1, ge=1, le=1000)
    credential_out_s: Seconds = _live(60.0)


class Probe(_Section):
    """A connection of our own to targets that are left alone. every_s: None is never."""

    every_s: Seconds | None = _live(None)


class Resilience(_Section):
    """What holds for the targets of `models:`, and with plain_calls for every call that names its own model."""

    plain_calls: bool = _live(False)
    retry: Retry = _live(default_factory=Retry)
    breaker: BreakerKeys = _live(default_factory=BreakerKeys)
    timeouts: AttemptTimeouts = _live(default_factory=AttemptTimeouts)
    probe: Probe = _live(default_factory=Probe)


class Onnx(_Section):
    """A model of sentences in this process. max_tokens: of a text, what is beyond is not read; max_waiting: texts."""

    model: FilePath = _live()
    tokenizer: FilePath = _live()
    max_tokens: int = _live(256, ge=2, le=8192)
    pooling: Literal["mean", "cls"] = _live("mean")
    threads: int = _live(1, ge=1, le=64)
    max_waiting: int = _live(16, ge=1, le=1024)


class Semantic(_Section):
    """Answers to what was asked in other words: vectors of a provider's model, or of one in this process (onnx).

    ttl_s: None is the cache's own. dimensions: None is the model's own.
    """

    provider: Annotated[str, Field(min_length=1, max_length=63)] | None = _live(None)
    model: Annotated[str, Field(min_length=1, max_length=256)] | None = _live(None)
    onnx: Onnx | None = _live(None)
    threshold: float = _live(0.95, ge=0.5, le=1)
    max_entries: int = _live(1000, ge=1, le=20_000)
    ttl_s: Annotated[float, Field(gt=0, le=31_536_000)] | None = _live(None)
    timeout_ms: float = _live(500.0, ge=1, le=60_000)
    text_bytes: int = _live(4096, ge=1, le=65_536)
    dimensions: int | None = _live(None, ge=8, le=16_384)


class Cache(_Section):
    """Remembered answers. tokens_per_s: events of a stream given again, so many a second; it goes before `pace`."""

    mode: Literal["off", "exact"] = _live("off")
    scope: Literal["team", "principal", "global"] = _live("team")
    serve: Literal["deterministic", "all", "rules"] = _live("deterministic")
    ttl_s: Annotated[float, Field(gt=0, le=31_536_000)] = _live(3600.0)
    stale_while_revalidate_s: Annotated[float, Field(ge=0, le=31_536_000)] = _live(0.0)
    stale_if_error_s: Annotated[float, Field(ge=0, le=31_536_000)] = _live(0.0)
    single_flight: bool = _live(True)
    pace: Literal["none", "recorded"] = _live("none")
    tokens_per_s: Annotated[float, Field(gt=0, le=100_000)] | None = _live(None)
    store: Literal["memory", "state"] = _restart("memory")
    memory_bytes: int = _restart(64 << 20, ge=1 << 20, le=1 << 40)
    answer_bytes: int = _live(1 << 20, ge=1024, le=1 << 30)
    semantic: Semantic | None = _live(None)


class Batch(_Section):
    """Embedding calls that are made as one. wait_ms: how long the first waits for others, 0 for off."""

    wait_ms: Annotated[float, Field(ge=0, le=1000)] = _live(0.0)
    inputs: int = _live(256, ge=2, le=2048)
    bytes: int = _live(1 << 20, ge=1024, le=1 << 28)


class Timeouts(_Section):
    client_head_s: Seconds = _live(10.0)
    client_idle_s: Seconds = _live(75.0)
    body_idle_s: Seconds = _live(60.0)
    connect_s: Seconds = _live(5.0)
    tls_s: Seconds = _live(10.0)
    first_byte_s: Seconds = _live(300.0)
    stream_idle_s: Seconds = _live(300.0)
    detect_s: Seconds = _live(5.0)
    drain_s: Seconds = _live(30.0)


class Caps(_Section):
    head_bytes: int = _live(65_536, ge=4096, le=1 << 20)
    held_body_bytes: int = _live(8 << 20, ge=65_536, le=1 << 30)
    event_bytes: int = _live(1 << 20, ge=4096, le=1 << 28)
    usage_bytes: int = _live(1 << 20, ge=4096, le=1 << 28)
    write_buffer_bytes: int = _live(262_144, ge=16_384, le=1 << 28)
    limit_keys: int = _live(100_000, ge=100, le=10_000_000)


class Usage(_Section):
    inject_stream_usage: bool = _live(True)


class RedactPattern(_Section):
    """A pattern of one's own. max_bytes: how far an unbounded repeat goes; without it such a pattern is refused."""

    pattern: str = _live(min_length=1, max_length=4096)
    max_bytes: int | None = _live(None, ge=1, le=1000)


class RedactKey(_Section):
    """Where the key of `action: hash` comes from."""

    file: FilePath = _live()


def _words(value: Any, info: ValidationInfo) -> Any:
    return tuple(value) if isinstance(value, list) else _path(value, info)


Words = Annotated[tuple[str, ...] | Path, BeforeValidator(_words)]


class RedactRow(_Section):
    """What is redacted in every exchange: as a rule's `then: redact` has it."""

    detectors: tuple[str, ...] = _live(min_length=1)
    action: Literal["mask", "hash", "pseudonymise", "block"] = _live("mask")
    where: tuple[Literal["request", "answer"], ...] = _live(("request", "answer"), min_length=1)
    restore_in: tuple[Literal["text", "tool_arguments", "urls"], ...] = _live(("text",))

    @field_validator("detectors", "where", "restore_in", mode="before")
    @classmethod
    def _list(cls, value: Any) -> Any:
        return tuple(value) if isinstance(value, list) else (value,) if isinstance(value, str) else value


class Redact(_Section):
    """`patterns` and `words` are detectors of one's own, by the names under which they stand."""

    always: tuple[RedactRow, ...] = _live(())
    patterns: dict[str, RedactPattern] = _live(default_factory=dict)
    words: dict[str, Words] = _live(default_factory=dict)
    key: RedactKey | None = _live(None)

    @field_validator("always", mode="before")
    @classmethod
    def _list(cls, value: Any) -> Any:
        return tuple(value) if isinstance(value, list) else value


class Checkpoint(_Section):
    """`path` is None, "stderr" or a Path."""

    path: Literal["stderr"] | Path | None = _restart(None)
    every_s: Seconds = _live(60.0)
    every_n: int = _live(1000, ge=1, le=1_000_000_000)

    @field_validator("path", mode="before")
    @classmethod
    def _word_or_path(cls, value: Any, info: ValidationInfo) -> Any:
        if value is None or value == "stderr":
            return value
        if not isinstance(value, (str, Path)) or not value:
            raise ValueError("must be stderr, null or the path of a file")
        return values.file_path(value, info.context)


class Audit(_Section):
    """`path` None means off; worker N writes to its name with `-N` before the suffix."""

    path: FilePath | None = _restart(None)
    content: Literal["none", "redacted", "full"] = _live("none")
    content_bytes: int = _live(65_536, ge=256, le=16 << 20)
    durability: Literal["os", "fsync"] = _live("os")
    on_audit_error: Literal["deny", "drop"] = _live("deny")
    key_file: FilePath | None = _restart(None)
    rotate_bytes: int = _live(256 << 20, ge=4096, le=1 << 40)
    rotate_daily: bool = _live(True)
    checkpoint: Checkpoint = _restart(default_factory=Checkpoint)


class Telemetry(_Section):
    """`log` is "stderr", "stdout", "off" or a Path."""

    log_level: Literal["debug", "info", "warning", "error"] = _live("info")
    log: Literal["stderr", "stdout", "off"] | Path = _restart("stderr")
    models_max: int = _restart(200, ge=1, le=100_000)
    audit: Audit = _restart(default_factory=Audit)

    @field_validator("log", mode="before")
    @classmethod
    def _word_or_path(cls, value: Any, info: ValidationInfo) -> Any:
        if value in ("stderr", "stdout", "off"):
            return value
        if value is False:
            return "off"
        if not isinstance(value, (str, Path)) or not value:
            raise ValueError('must be stderr, stdout, "off" or the path of a file')
        return values.file_path(value, info.context)


def models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """The sections that a field's type holds, through Optional, dict and tuple."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    elif get_origin(annotation) in (Union, UnionType, dict, tuple, Annotated):
        for argument in get_args(annotation):
            yield from models_in(argument)


class Config(_Section):
    """A whole configuration. `source` is the file it came from, or "<embedded>"."""

    version: Literal[1] = _live(1)
    listen: Listen = _restart(default_factory=Listen)
    egress: Egress = _live(default_factory=Egress)
    http2: Literal["tunnel", "deny"] = _live("deny")
    upstream: Upstream = _restart(default_factory=Upstream)
    ca: Ca = _restart(default_factory=Ca)
    providers: dict[str, Provider] = _live(default_factory=dict)
    principals: tuple[Principal, ...] = _live(())
    anonymous: Literal["allow", "deny"] = _live("allow")
    proxy_token: Literal["ignore", "check", "require"] = _live("check")
    virtual_keys: VirtualKeys = _live(default_factory=VirtualKeys)
    pod_info: FilePath | None = _live(None)
    models: dict[Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[!-~]+$")], ModelAlias] = _live(
        default_factory=dict
    )
    resilience: Resilience = _live(default_factory=Resilience)
    policies: tuple[Annotated[PolicyUse, BeforeValidator(_policy)], ...] = _live(())
    limits: tuple[Limit, ...] = _live(())
    budgets: tuple[Budget, ...] = _live(())
    prices: dict[str, Price] = _live(default_factory=dict)
    state: Annotated[State, BeforeValidator(_state)] = _restart(default_factory=State)
    workers: int = _restart(1, ge=1, le=32)
    cache: Cache = _live(default_factory=Cache)
    batch: Batch = _live(default_factory=Batch)
    timeouts: Timeouts = _live(default_factory=Timeouts)
    caps: Caps = _live(default_factory=Caps)
    usage: Usage = _live(default_factory=Usage)
    redact: Redact = _live(default_factory=Redact)
    telemetry: Telemetry = _live(default_factory=Telemetry)

    _path: Path | None = PrivateAttr(default=None)
    _only_found: bool = PrivateAttr(default=False)
    _content: bytes = PrivateAttr(default=b"")
    _files: Mapping[str, bytes] = PrivateAttr(default_factory=dict)
    _origins: dict[KeyPath, str] = PrivateAttr(default_factory=dict)

    @field_validator("limits", "budgets", "principals", mode="before")
    @classmethod
    def _list(cls, value: Any) -> Any:
        return tuple(value) if isinstance(value, list) else value

    @field_validator("policies", mode="before")
    @classmethod
    def _one_or_many(cls, value: Any) -> Any:
        return (value,) if isinstance(value, (str, dict)) else tuple(value) if isinstance(value, list) else value

    @property
    def path(self) -> Path | None:
        """The file to watch for changes; None for the embedded default."""
        return self._path

    @property
    def only_found(self) -> bool:
        """The file was found in the working folder, and nobody named it."""
        return self._only_found

    @property
    def content(self) -> bytes:
        """The file's bytes as they were read."""
        return self._content

    @property
    def files(self) -> Mapping[str, bytes]:
        """Files that the configuration names, by path, where somebody else has read them; all others are read."""
        return self._files

    @property
    def source(self) -> str:
        return EMBEDDED if self._path is None else str(self._path)

    @property
    def set_keys(self) -> tuple[KeyPath, ...]:
        """The keys that were set, by the file or a variable; all others have their defaults."""
        return tuple(self._origins)

    def where(self, *path: str | int) -> str:
        """Where a key was set: "outrider.yaml:7", "$OUTRIDER__CA__DIR"; for a key left out, where its section is."""
        for end in range(len(path), -1, -1):
            if (found := self._origins.get(path[:end])) is not None:
                return found
        return self.source
