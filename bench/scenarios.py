"""What is measured, as a table. A scenario stands here once the feature it measures exists.

Rules: `core` ones are the short table; all else runs when it is named. Targets are data, of the project's promises;
a ratio is taken between two rows of the same run.
Does not know: how a run is done (run.py), what a figure is (figures.py).
"""

from dataclasses import dataclass
from typing import Any, Literal

from bench.variants import ALL_ON, DEFAULT, Variant

MAIN_ROWS = (DEFAULT.row, ALL_ON.row)


@dataclass(frozen=True, slots=True)
class Target:
    """A promise about one of Outrider's figures: at most `at_most`, times the same figure of the row `of` if given."""

    figure: str  # a name in figures.FIGURES
    at_most: float
    of: str = ""
    rows: tuple[str, ...] = MAIN_ROWS  # that it is judged for, where they took part
    at_least: float = 0.0


@dataclass(frozen=True, slots=True)
class Scenario:
    name: str
    title: str
    tls: bool  # on both sides
    mode: Literal["keep", "new", "resume", "stream", "start"]
    connections: int  # of the run that CPU and throughput come from; 0: no such run
    unit: str  # what CPU is divided by
    targets: tuple[Target, ...]
    single_pace_us: int = 0  # between events of the run with one connection
    timed: str = ""  # what the latencies are of, where not of the whole answer
    core: bool = False
    wide: bool = False  # in the short table too every proxy takes part that is here
    single: bool = True  # a run with one connection, for the added latency
    rate: int = 0  # of the open loop, per second; 0: no such run
    rate_connections: int = 64
    hold: bool = False  # streams are open before the loaded run and after it; throughput is that of the pace
    pace_us: int = 0  # between events of the loaded run
    requests: int = 0  # the loaded run ends after so many, or after `seconds`
    seconds: float = 0.0  # of the loaded run; 0: as the settings say
    prompt_bytes: int = 0  # 0: 1.4 kB
    answer_bytes: int = 0
    keys: int = 0  # different keys that clients send
    refusals: bool = False  # most calls get our 429
    rewritten: bool = False  # the provider compares the prompt's words, since a row's body is written anew
    stalled: int = 0  # calls to a slow provider that stay open meanwhile, half before and half in their answer
    upstream_tls: bool = False  # on the provider's side only
    measures_memory: bool = False  # RSS with all connections open
    once: bool = False  # never repeated: memory is told of a fresh process, or the short table has no more time
    only: tuple[str, ...] = ()  # proxies; all
    variants: tuple[Variant, ...] = (DEFAULT,)


OWN = ("direct", "nginx", "outrider")  # where Outrider is compared with itself
BRIEF = ("nginx", "outrider")  # of what no other proxy does: nginx says how fast the machine is in this run
# Of every process, whatever it carries.
COMMON = (
    Target("rss_idle_mb", 60.0, rows=(DEFAULT.row,)),
    Target("rss_idle_mb", 85.0, rows=(ALL_ON.row,)),
    Target("start_s", 0.6),
)


def flat(*rows: str, of: str) -> tuple[Target, ...]:
    """CPU within a tenth of that of the row `of`."""
    return tuple(Target("cpu_us", 1.1, of=of, rows=(row,), at_least=0.9) for row in rows)


def json_over_http(name: str, title: str, **more: Any) -> Scenario:
    fields: dict[str, Any] = {"tls": False, "mode": "keep", "connections": 32, "unit": "request", "targets": ()}
    return Scenario(name, title, **fields | more)


def streams(name: str, title: str, **more: Any) -> Scenario:
    """tls: intercepted."""
    fields: dict[str, Any] = {"tls": False, "mode": "stream", "connections": 16, "unit": "event", "targets": ()}
    return Scenario(name, title, **fields | more)


def open_streams(name: str, title: str, connections: int, pace_us: int, **more: Any) -> Scenario:
    """Streams that are open all the while, with an event each `pace_us`."""
    return streams(name, title, connections=connections, single=False, hold=True, pace_us=pace_us, **more)


def stays_flat(name: str, title: str, of: Variant, many: tuple[Variant, ...]) -> Scenario:
    """The same call with more and more of something configured, which costs it nothing."""
    targets = flat(*(variant.row for variant in many), of=of.row)
    return json_over_http(name, title, only=OWN, variants=(of, *many), targets=targets)


MANY_PROVIDERS = tuple(Variant(f"{count} providers", providers=count) for count in (100, 1000))
MANY_RULES = tuple(Variant(f"{count} rules", rules=count) for count in (100, 1000))
MANY_PRINCIPALS = tuple(Variant(f"{count} principals", principals=count) for count in (1000, 10_000))
MANY_LIMITS = tuple(Variant(f"{count} limits", limits=count) for count in (10, 100))
NO_LOG = ("telemetry.log", "off")
NO_LIMIT: tuple[str, list[Any]] = ("limits", [])
NO_USAGE = ("usage.inject_stream_usage", False)
NO_ADMIN = ("listen.admin", None)
ONE_LIMIT = [{"name": "all", "key": ["provider"], "requests": "100/s", "burst": 1}]
BARE = Variant("bare", changes=(NO_LOG, NO_LIMIT, NO_USAGE, NO_ADMIN), without_credential=True)
NO_POLICIES: tuple[str, list[Any]] = ("policies", [])
NO_BUDGETS: tuple[str, list[Any]] = ("budgets", [])
NO_AUDIT = ("telemetry.audit.path", None)
# What governing costs: everything on, and with one part of it left out.
GOVERNED = tuple(
    Variant(f"all-on, {name}", base="all-on", changes=(change,))
    for name, change in (
        ("no policies", NO_POLICIES),
        ("no pii", ("policies", ["baseline"])),
        ("no limits", NO_LIMIT),
        ("no budget", NO_BUDGETS),
        ("no audit", NO_AUDIT),
    )
)
TRANSLATED = Variant("translated", translated=True)
CACHED = Variant("cached", changes=(("cache", {"mode": "exact", "serve": "all"}),))
SPARED = {"targets": ["local/gpt-4o-mini", "more-0001/gpt-4o-mini"]}
DEAD = {"targets": ["dead/gpt-4o-mini", "local/gpt-4o-mini"]}
DEAD_PROVIDER = {"kind": "vllm", "hosts": ["dead.bench"], "connect_to": "http://127.0.0.1:1"}
FAILOVER = (
    Variant("failover", providers=2, changes=(("models", {"gpt-4o-mini": SPARED}),)),
    Variant("failed over", changes=(("providers.dead", DEAD_PROVIDER), ("models", {"gpt-4o-mini": DEAD}))),
)
LAYERS = (
    DEFAULT,
    ALL_ON,
    *GOVERNED,
    Variant("no log", changes=(NO_LOG,)),
    Variant("no limit", changes=(NO_LIMIT,)),
    Variant("ten limits", applying=10),
    Variant("no credential", without_credential=True),
    Variant("no usage", changes=(NO_USAGE,)),
    Variant("no admin", changes=(NO_ADMIN,)),
    BARE,
)

SCENARIOS = (
    json_over_http(
        "base_url",
        "base_url: JSON over HTTP on both sides, kept connections",
        core=True,
        wide=True,
        rate=1000,
        targets=(
            Target("cpu_us", 1.2, of="nginx"),
            Target("cpu_us", 0.65, of="envoy"),
            Target("cpu_us", 1 / 6, of="tensorzero"),
            Target("cpu_us", 1 / 250, of="litellm"),
            Target("p50_us", 1.0, of="nginx"),
            # Policies, limits, a budget and the audit log together, beside a sidecar that only relays.
            Target("cpu_us", 1.5, of=BARE.row, rows=(ALL_ON.row,)),
            *COMMON,
        ),
        variants=(DEFAULT, ALL_ON, BARE),
    ),
    Scenario(
        "intercepted",
        "intercepted HTTPS: CONNECT, TLS on both sides, kept connections (nginx and HAProxy: TLS reverse proxy)",
        tls=True,
        mode="keep",
        connections=32,
        unit="request",
        core=True,
        wide=True,
        rate=1000,
        targets=(
            Target("cpu_us", 1.6, of="nginx"),
            Target("cpu_us", 1.0, of="envoy"),
            Target("cpu_us", 1 / 30, of="mitmproxy"),
            *COMMON,
        ),
    ),
    Scenario(
        "new_intercepted",
        "new intercepted connections: a full handshake and one request each, provider side pooled",
        tls=True,
        mode="new",
        connections=8,
        unit="connection",
        core=True,
        targets=(Target("cpu_us", 600.0), *COMMON),
    ),
    streams(
        "stream",
        "streams of 200 events over HTTP, unpaced",
        core=True,
        # Unpaced, the upstream would keep its core from the client until the last event: a time to nothing.
        single_pace_us=50,
        timed="first event ",
        targets=(Target("cpu_us", 1.0, of="nginx"), Target("p50_us", 1.0, of="nginx"), *COMMON),
    ),
    open_streams(
        "stream_paced",
        "100 streams over HTTP, an event every 5 ms",
        connections=100,
        core=True,
        pace_us=5000,
        targets=(Target("cpu_us", 1.0, of="nginx"), Target("gap_p99_us", 1000.0), *COMMON),
    ),
    open_streams(
        "streams_1000",
        "1,000 open streams over HTTP, an event every 50 ms",
        connections=1000,
        core=True,
        pace_us=50_000,
        measures_memory=True,
        variants=(DEFAULT, ALL_ON),
        targets=(Target("core_pct", 50.0), Target("gap_p99_us", 1000.0), Target("rss_open_mb", 100.0), *COMMON),
    ),
    open_streams(
        "streams_1000_intercepted",
        "1,000 open intercepted streams, an event every 50 ms",
        tls=True,
        connections=1000,
        pace_us=50_000,
        measures_memory=True,
        variants=(DEFAULT, ALL_ON),
        targets=(Target("rss_open_mb", 180.0), Target("gap_p99_us", 1000.0), *COMMON),
    ),
    streams(
        "stream_intercepted",
        "intercepted streams of 200 events, unpaced",
        tls=True,
        single_pace_us=50,
        timed="first event ",
        targets=COMMON,
    ),
    json_over_http(
        "translated",
        "a call made in Anthropic's API, served by a provider that speaks OpenAI's (others: relayed as it is)",
        core=True,
        once=True,
        single=False,
        rewritten=True,
        only=BRIEF,
        variants=(TRANSLATED,),
        targets=(Target("cpu_us", 120.0, rows=(TRANSLATED.row,)),),
    ),
    streams(
        "translated_stream",
        "streams of 200 events, made in OpenAI's API and translated to Anthropic's (others: relayed as they are)",
        single=False,
        rewritten=True,
        only=BRIEF,
        variants=(TRANSLATED,),
        targets=(Target("cpu_us", 15.0, rows=(TRANSLATED.row,)),),
    ),
    json_over_http(
        "cached",
        "a call that was answered before, from memory (others: asked of the provider)",
        core=True,
        once=True,
        single=False,
        only=BRIEF,
        variants=(CACHED,),
        targets=(Target("cpu_us", 20.0, rows=(CACHED.row,)),),
    ),
    json_over_http(
        "failover",
        "the same call with a second target behind it, and with a first target that is down",
        only=OWN,
        variants=(DEFAULT, *FAILOVER),
    ),
    json_over_http("http_to_tls", "base_url: HTTP from the client, TLS to the provider", upstream_tls=True, rate=1000),
    Scenario(
        "resumed_intercepted",
        "new intercepted connections with a resumed session and one request each, provider side pooled",
        tls=True,
        mode="resume",
        connections=8,
        unit="connection",
        targets=(Target("cpu_us", 600.0), *COMMON),
    ),
    json_over_http("prompt_100k", "prompts of 100 kB", connections=8, prompt_bytes=100_000),
    json_over_http("prompt_1m", "prompts of 1 MB", connections=4, prompt_bytes=1_000_000),
    json_over_http("answer_1m", "answers of 1 MB", connections=4, answer_bytes=1_000_000),
    json_over_http(
        "refused",
        "a limit that is saturated: 100 calls a second pass, all others get our 429",
        unit="answer",
        refusals=True,
        only=("outrider",),
        variants=(Variant(changes=(("limits", ONE_LIMIT),)),),
    ),
    json_over_http(
        "many_keys",
        "10,000 clients with a key each, by turns (direct: one key)",
        keys=10_000,
        variants=(DEFAULT, Variant("one key", keys=1)),
        targets=flat("outrider", of="outrider one key"),
    ),
    json_over_http(
        "head_of_line",
        "a fast provider beside a slow one with 200 calls open: 100 before their answer, 100 in a stalled stream",
        rate=1000,
        stalled=200,
        variants=(Variant(slow=True),),
        targets=(Target("open_p99_us", 1000.0),),
    ),
    stays_flat(
        "flat_providers",
        "the same call with 1, 100 and 1,000 providers configured",
        DEFAULT,
        MANY_PROVIDERS,
    ),
    stays_flat(
        "flat_limits",
        "the same call with 1, 10 and 100 limits configured, one of which applies to it",
        Variant("1 limit", providers=2),
        MANY_LIMITS,
    ),
    stays_flat(
        "flat_rules",
        "the same call with 1, 100 and 1,000 rules about fields that are known before the body, none of which applies",
        Variant("1 rule", rules=1),
        MANY_RULES,
    ),
    stays_flat(
        "flat_principals",
        "the same call with 1, 1,000 and 10,000 principals, the last of whom calls",
        Variant("1 principal", principals=1),
        MANY_PRINCIPALS,
    ),
    json_over_http("layers", "JSON over HTTP, layer by layer: what each costs", only=OWN, variants=LAYERS),
    streams(
        "layers_stream",
        "streams of 200 events, layer by layer: what each costs",
        single=False,
        only=OWN,
        variants=LAYERS,
    ),
    json_over_http(
        "memory_100k",
        "memory after 100,000 requests",
        requests=100_000,
        seconds=120.0,
        single=False,
        once=True,
        variants=(DEFAULT, ALL_ON),
        targets=COMMON,
    ),
    json_over_http(
        "connections",
        "1,000 kept client connections, 1,000 calls a second: memory of each",
        connections=0,
        single=False,
        rate=1000,
        rate_connections=1000,
        measures_memory=True,
        once=True,
    ),
    Scenario(
        "connections_intercepted",
        "1,000 kept intercepted connections, 1,000 calls a second: memory of each",
        tls=True,
        mode="keep",
        connections=0,
        unit="request",
        targets=(),
        single=False,
        rate=1000,
        rate_connections=1000,
        measures_memory=True,
        once=True,
    ),
    Scenario(
        "start",
        "start-up, each time with a folder of its own, until the port answers; then one call that must be right",
        tls=False,
        mode="start",
        connections=0,
        unit="start",
        single=False,
        variants=(DEFAULT, ALL_ON),
        targets=COMMON,
    ),
)
BY_NAME = {scenario.name: scenario for scenario in SCENARIOS}
