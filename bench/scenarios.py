"""What is measured, as a table. A scenario stands here once the feature it measures exists."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Target:
    """A promise about Outrider's figure: at most `at_most`, times nginx's figure where `of_nginx`."""

    figure: str  # a name in figures.FIGURES
    at_most: float
    of_nginx: bool = False


@dataclass(frozen=True, slots=True)
class Scenario:
    name: str
    title: str
    tls: bool
    mode: Literal["keep", "new", "stream"]
    connections: int  # of the run that CPU and throughput come from
    unit: str  # what CPU is divided by
    targets: tuple[Target, ...]
    single_pace_us: int = 0  # between events of the run with one connection
    timed: str = ""  # what the latencies are of, where not of the whole answer


# Of every process, whatever it carries.
COMMON = (Target("rss_idle_mb", 60.0), Target("start_s", 0.6))

SCENARIOS = (
    Scenario(
        "base_url",
        "base_url: JSON over HTTP on both sides, kept connections",
        tls=False,
        mode="keep",
        connections=32,
        unit="request",
        targets=(Target("cpu_us", 1.2, of_nginx=True), *COMMON),
    ),
    Scenario(
        "intercepted",
        "intercepted HTTPS: CONNECT, TLS on both sides, kept connections (nginx and HAProxy: TLS reverse proxy)",
        tls=True,
        mode="keep",
        connections=32,
        unit="request",
        targets=(Target("cpu_us", 1.6, of_nginx=True), *COMMON),
    ),
    Scenario(
        "new_intercepted",
        "new intercepted connections: a full handshake and one request each, provider side pooled",
        tls=True,
        mode="new",
        connections=8,
        unit="connection",
        targets=(Target("cpu_us", 600.0), *COMMON),
    ),
    Scenario(
        "stream",
        "streams of 200 events over HTTP, unpaced",
        tls=False,
        mode="stream",
        connections=16,
        unit="event",
        # Unpaced, the upstream would keep its core from the client until the last event: a time to nothing.
        single_pace_us=50,
        timed="first event ",
        targets=(Target("cpu_us", 1.0, of_nginx=True), *COMMON),
    ),
)
BY_NAME = {scenario.name: scenario for scenario in SCENARIOS}
