"""The keys of a configuration, their types, defaults and bounds; nothing else is accepted.

Rules: a key that does nothing is not accepted; units stand in names; models are frozen and strict; each key is marked
`live` (a reload applies it) or `restart` (a section's mark holds for the keys below it that have none).
What depends on several keys at once is in `relations`. Sources: docs/config.yaml says in words what each key does.
Does not know: files, lines, environment variables.
"""

import functools
from collections.abc import Callable, Iterator
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
    field_validator,
    model_validator,
)

from outrider.config import values
from outrider.config.problems import KeyPath
from outrider.config.values import ProxyUrl, Rate

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


def _list_of(one: Callable[[Any], str], *after: Callable[[tuple[str, ...]], tuple[str, ...]]) -> Any:
    """The annotation of a list whose entries `one` checks, each at its own place, and `after` as a whole."""
    entries = tuple[Annotated[str, BeforeValidator(one)], ...]
    return functools.reduce(
        lambda kind, check: Annotated[kind, AfterValidator(check)],
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
else:
    Addresses = _list_of(values.listen_address, values.both_loopbacks)
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
    """Addresses as "127.0.0.1:8484" or "[::1]:8484"; port 0 takes a free one; () means off."""

    _null_means_off: ClassVar[frozenset[str]] = frozenset({"transparent", "admin"})
    proxy: Addresses = _restart(("127.0.0.1:8484", "[::1]:8484"), min_length=1)
    transparent: Addresses = _restart(())
    admin: Addresses = _restart(("127.0.0.1:8485",))
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


class Credential(_Section):
    """Where a provider's key comes from: exactly one of the three."""

    env: Annotated[str, BeforeValidator(values.env_name)] | None = None
    file: FilePath | None = None
    aws: Annotated[str, BeforeValidator(values.profile_name)] | None = None

    @model_validator(mode="before")
    @classmethod
    def _is_a_section(cls, data: Any) -> Any:
        if not isinstance(data, dict):  # never quoted: this is where a literal key would stand
            raise ValueError("must be {env: NAME}, {file: PATH} or {aws: PROFILE}; a key itself never stands here")
        known = [key for key in ("env", "file", "aws") if data.get(key) is not None]
        if len(known) != 1 and set(data) <= {"env", "file", "aws"}:
            raise ValueError("needs exactly one of env, file and aws")
        return data

    @property
    def described(self) -> str:
        kind = "env" if self.env is not None else "file" if self.file is not None else "aws"
        return f"{kind} {getattr(self, kind)}"


class Provider(_Section):
    """One entry of `providers:`. `kind` is None where the entry's name is the kind."""

    kind: str | None = _live(None)
    hosts: HostPatterns = _live(())
    connect_to: Annotated[str, BeforeValidator(values.base_url)] | None = _live(None)
    upstream_ca: FilePath | None = _live(None)
    region: Annotated[str, BeforeValidator(values.region_name)] | None = _live(None)
    credential: Credential | None = _live(None)
    byok: Literal["pass", "deny"] = _live("pass")
    require_placeholder: bool = _live(True)
    unknown_operations: Literal["byok", "deny"] = _live("byok")
    intercept: bool = _live(True)


class Limit(_Section):
    """At most `requests`, in one bucket per value of `key`; `burst` at once (default: the count of `requests`)."""

    name: str = _live(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$")
    key: tuple[Literal["provider"], ...] = _live(("provider",))
    requests: Annotated[Rate, BeforeValidator(values.rate)] = _live()
    burst: int | None = _live(None, ge=1, le=1_000_000_000)
    providers: tuple[str, ...] | None = _live(None, min_length=1)

    @field_validator("key", "providers", mode="before")
    @classmethod
    def _list(cls, value: Any) -> Any:
        return tuple(value) if isinstance(value, list) else (value,) if isinstance(value, str) else value


class Cache(_Section):
    mode: Literal["off"] = _restart("off")


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


class Usage(_Section):
    inject_stream_usage: bool = _live(True)


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
    elif get_origin(annotation) in (Union, UnionType, dict, tuple):
        for argument in get_args(annotation):
            yield from models_in(argument)


class Config(_Section):
    """A whole configuration. `source` is the file it came from, or "<embedded>"."""

    version: Literal[1] = _restart(1)
    listen: Listen = _restart(default_factory=Listen)
    egress: Egress = _live(default_factory=Egress)
    http2: Literal["tunnel", "deny"] = _live("deny")
    upstream: Upstream = _restart(default_factory=Upstream)
    ca: Ca = _restart(default_factory=Ca)
    providers: dict[str, Provider] = _live(default_factory=dict)
    limits: tuple[Limit, ...] = _live(())
    state: Literal["memory"] = _restart("memory")
    cache: Cache = _restart(default_factory=Cache)
    timeouts: Timeouts = _live(default_factory=Timeouts)
    caps: Caps = _live(default_factory=Caps)
    usage: Usage = _live(default_factory=Usage)
    telemetry: Telemetry = _live(default_factory=Telemetry)

    _path: Path | None = PrivateAttr(default=None)
    _only_found: bool = PrivateAttr(default=False)
    _origins: dict[KeyPath, str] = PrivateAttr(default_factory=dict)

    @field_validator("limits", mode="before")
    @classmethod
    def _list(cls, value: Any) -> Any:
        return tuple(value) if isinstance(value, list) else value

    @property
    def path(self) -> Path | None:
        """The file to watch for changes; None for the embedded default."""
        return self._path

    @property
    def only_found(self) -> bool:
        """The file was found in the working folder, and nobody named it."""
        return self._only_found

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
