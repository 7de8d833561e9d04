"""Runs one scenario: every proxy started once, then measured in turn, `repeat` times, so that drift hits all alike."""

import contextlib
import functools
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench import certs, load
from bench.build import BenchError, program
from bench.figures import Row, add_loaded, add_scheduled, add_single, is_right, subtract_direct
from bench.peers import PROVIDER_KEY, Peer, Site, Started
from bench.peers.outrider import Outrider
from bench.ports import free_ports
from bench.process import Daemon, cores
from bench.scenarios import Scenario

NEVER_US = 600_000_000  # a stalled call's next byte
# Of the short table, which must stay short: the others that are here are guests of its wide scenarios, and give one
# loaded run each. They cost many times as much, so that one is enough to say how many.
REGULARS = ("direct", "nginx", "haproxy", "outrider")


@dataclass(frozen=True, slots=True)
class Settings:
    repeat: int = 3
    loaded_s: float = 1.0
    single_s: float = 0.3
    scheduled_s: float = 1.0
    config: str = "default"
    brief: bool = False  # the short table

    def is_guest(self, name: str) -> bool:
        return self.brief and name.partition(" ")[0] not in REGULARS


def start_upstream(folder: Path, core: int, *, rewritten: bool = False) -> tuple[Daemon, certs.Certificates, int, int]:
    """The daemon, its certificates, its plain and its TLS port. rewritten: it compares a prompt's words, not bytes."""
    certificates = certs.make(folder)
    http_port, tls_port = free_ports(2)
    words: list[str | Path] = [program("upstream"), "--http", str(http_port), "--tls", str(tls_port)]
    words += ["--cert", certificates.chain, "--key", certificates.key, "--auth", f"Bearer {PROVIDER_KEY}"]
    words += ["--rewritten", "1"] if rewritten else []
    daemon = Daemon("upstream", words, port=tls_port, core=core, log=folder / "upstream.log")
    return daemon, certificates, http_port, tls_port


def rows_for(scenario: Scenario, peers: Sequence[Peer], settings: Settings) -> list[Peer]:
    """The proxies that take part, Outrider once for each variant of its configuration."""
    taking_part: list[Peer] = []
    for peer in peers:
        if (scenario.only and peer.name not in scenario.only) or (settings.is_guest(peer.name) and not scenario.wide):
            continue
        if isinstance(peer, Outrider):
            variants = {one.row: one for one in (variant.on(settings.config) for variant in scenario.variants)}
            taking_part += [Outrider(variant) for variant in variants.values()]
        else:
            taking_part.append(peer)
    return taking_part


@dataclass(frozen=True, slots=True)
class Ground:
    """What all proxies of one scenario share."""

    scenario: Scenario
    folder: Path
    certificates: certs.Certificates
    http_port: int
    tls_port: int
    upstream: Daemon
    proxy_core: int
    client_core: int

    def site(self, peer: Peer, folder_name: str) -> Site:
        folder = self.folder / folder_name.replace(" ", "-")
        folder.mkdir()
        scenario, http_port = self.scenario, self.http_port
        if scenario.upstream_tls and peer.name != "direct":
            (http_port,) = free_ports(1)  # nobody listens there: a proxy that does not speak TLS to it cannot pass
        return Site(
            folder,
            self.certificates,
            http_port,
            self.tls_port,
            scenario.tls,
            scenario.mode == "stream",
            self.proxy_core,
            scenario.upstream_tls,
            max(scenario.prompt_bytes, scenario.answer_bytes) >= 100_000,
        )


def _stall(ground: Ground, started: Started, stack: contextlib.ExitStack) -> None:
    """Half of the slow provider's calls wait for their answer's first byte, half for a stream's second event."""
    held = functools.partial(
        load.held,
        started.slow or started.target,
        connections=ground.scenario.stalled // 2,
        auth=f"Bearer {started.key}",
        core=ground.client_core,
    )
    stack.enter_context(held(mode="keep", delay_us=NEVER_US))
    stack.enter_context(held(mode="stream", pace_us=NEVER_US))


def _runs(ground: Ground, row: Row, started: Started, settings: Settings) -> None:
    scenario, has_process = ground.scenario, started.daemon is not None
    client = functools.partial(
        load.run,
        started.target,
        started.daemon,
        mode=scenario.mode,
        auth=f"Bearer {started.key}",
        core=ground.client_core,
        upstream=ground.upstream,
        keys=(started.keys or scenario.keys) if started.key != PROVIDER_KEY else 0,
        prompt_bytes=scenario.prompt_bytes,
        answer_bytes=scenario.answer_bytes,
        refusals=scenario.refusals,
    )
    if scenario.connections:
        seconds = scenario.seconds or settings.loaded_s
        sample = client(
            connections=scenario.connections,
            seconds=seconds,
            hold=scenario.hold,
            pace_us=scenario.pace_us,
            requests=scenario.requests,
        )
        add_loaded(row, scenario, sample, has_process)
    if settings.is_guest(row.peer):
        return
    if scenario.single and not row.error:
        sample = client(connections=1, seconds=settings.single_s, pace_us=scenario.single_pace_us)
        add_single(row, scenario, sample)
    if scenario.rate and not row.error:
        connections = scenario.rate_connections
        sample = client(connections=connections, seconds=settings.scheduled_s, rate=scenario.rate)
        add_scheduled(row, scenario, sample, has_process)


def measure(ground: Ground, row: Row, started: Started, settings: Settings) -> None:
    """One repeat of one proxy. A wrong answer, or a client that gives up, becomes the row's error."""
    try:
        with contextlib.ExitStack() as stack:
            if ground.scenario.stalled:
                _stall(ground, started, stack)
            _runs(ground, row, started, settings)
    except BenchError as exc:
        row.error = str(exc)


def measure_start(ground: Ground, row: Row, peer: Peer, turn: int) -> None:
    """One start from nothing, judged by one right answer."""
    try:
        started = peer.start(ground.site(peer, f"{peer.name}-{turn}"))
        if started.daemon is None:
            return
        with started.daemon as daemon:
            row.add("start_s", daemon.start_s)
            row.add("rss_idle_mb", daemon.idle_rss_mb())
            auth = f"Bearer {started.key}"
            sample = load.run(
                started.target,
                None,
                mode="keep",
                connections=1,
                seconds=1,
                requests=1,
                auth=auth,
                core=ground.client_core,
            )
            is_right(row, ground.scenario, sample)
    except BenchError as exc:
        row.error = str(exc)


def start_all(
    ground: Ground, peers: Sequence[Peer], rows: dict[str, Row], stack: contextlib.ExitStack
) -> dict[str, Started]:
    """Those that started, by name; the rows of the others say why not."""
    all_started = {}
    for peer in peers:
        row = rows[peer.name]
        try:
            started = peer.start(ground.site(peer, peer.name))
        except BenchError as exc:
            row.error = str(exc)
            continue
        if started.daemon is not None:
            stack.enter_context(started.daemon)
            row.add("start_s", started.daemon.start_s)
            row.add("rss_idle_mb", started.daemon.idle_rss_mb())
        all_started[peer.name] = started
    return all_started


def repeats(scenario: Scenario, settings: Settings, row: Row) -> int:
    return 1 if scenario.once or settings.is_guest(row.peer) else settings.repeat


def run_scenario(
    scenario: Scenario, peers: list[Peer], settings: Settings, say: Callable[[str], None]
) -> dict[str, Row]:
    """Rows by proxy, in the order given; latencies are already what each proxy added to direct."""
    taking_part = rows_for(scenario, peers, settings)
    rows = {peer.name: Row(peer.name, error=(why := peer.absent()), is_absent=bool(why)) for peer in taking_part}
    present = [peer for peer in taking_part if not rows[peer.name].is_absent]
    proxy_core, client_core = cores()
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="outrider-bench-")))
        upstream, certificates, http_port, tls_port = start_upstream(folder, client_core, rewritten=scenario.rewritten)
        stack.enter_context(upstream)
        ground = Ground(scenario, folder, certificates, http_port, tls_port, upstream, proxy_core, client_core)
        started = {} if scenario.mode == "start" else start_all(ground, present, rows, stack)
        for turn in range(settings.repeat):
            for peer in present:
                row = rows[peer.name]
                if row.error or turn >= repeats(scenario, settings, row):
                    continue
                say(f"{scenario.name}: {row.peer}, {turn + 1} of {repeats(scenario, settings, row)}")
                if peer.name in started:
                    measure(ground, row, started[peer.name], settings)
                else:
                    measure_start(ground, row, peer, turn)
        for name, one in started.items():
            rows[name].add("rss_after_mb", one.daemon.rss_mb() if one.daemon else None)
    subtract_direct(rows)
    return rows
