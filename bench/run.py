"""Runs one scenario: every proxy started once, then measured in turn, `repeat` times, so that drift hits all alike."""

import contextlib
import functools
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bench import certs, load
from bench.build import BenchError, program
from bench.figures import Row, add_loaded, add_single, subtract_direct
from bench.peers import PROVIDER_KEY, Peer, Site, Started
from bench.process import Daemon, cores, free_ports
from bench.scenarios import Scenario


@dataclass(frozen=True, slots=True)
class Settings:
    repeat: int = 3
    loaded_s: float = 1.2
    single_s: float = 0.5


def start_upstream(folder: Path, core: int) -> tuple[Daemon, certs.Certificates, int, int]:
    """The daemon, its certificates, its plain and its TLS port."""
    certificates = certs.make(folder)
    http_port, tls_port = free_ports(2)
    words: list[str | Path] = [program("upstream"), "--http", str(http_port), "--tls", str(tls_port)]
    words += ["--cert", certificates.chain, "--key", certificates.key, "--auth", f"Bearer {PROVIDER_KEY}"]
    daemon = Daemon("upstream", words, port=tls_port, core=core, log=folder / "upstream.log")
    return daemon, certificates, http_port, tls_port


def measure(scenario: Scenario, row: Row, started: Started, settings: Settings, core: int) -> None:
    """One repeat of one proxy. A wrong answer, or a client that gives up, becomes the row's error."""
    run = functools.partial(
        load.run, started.target, started.daemon, mode=scenario.mode, auth=f"Bearer {started.key}", core=core
    )
    try:
        loaded = run(connections=scenario.connections, seconds=settings.loaded_s)
        add_loaded(row, scenario, loaded, has_process=started.daemon is not None)
        if not row.error:
            add_single(row, run(connections=1, seconds=settings.single_s, pace_us=scenario.single_pace_us))
    except BenchError as exc:
        row.error = str(exc)


def run_scenario(
    scenario: Scenario, peers: list[Peer], settings: Settings, say: Callable[[str], None]
) -> dict[str, Row]:
    """Rows by proxy, in the order given; latencies are already what each proxy added to direct."""
    proxy_core, client_core = cores()
    rows = {peer.name: Row(peer.name, error=peer.absent()) for peer in peers}
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="outrider-bench-")))
        upstream, certificates, http_port, tls_port = start_upstream(folder, client_core)
        stack.enter_context(upstream)
        started: dict[str, Started] = {}
        for peer in peers:
            if rows[peer.name].error:
                continue
            own = folder / peer.name
            own.mkdir()
            site = Site(own, certificates, http_port, tls_port, scenario.tls, scenario.mode == "stream", proxy_core)
            try:
                started[peer.name] = peer.start(site)
            except BenchError as exc:
                rows[peer.name].error = str(exc)
                continue
            daemon = started[peer.name].daemon
            if daemon is not None:
                stack.enter_context(daemon)
                rows[peer.name].add("start_s", daemon.start_s)
                rows[peer.name].add("rss_idle_mb", daemon.rss_mb())
        for turn in range(settings.repeat):
            for name, one in started.items():
                if not rows[name].error:
                    say(f"{scenario.name}: {name}, {turn + 1} of {settings.repeat}")
                    measure(scenario, rows[name], one, settings, client_core)
        for name, one in started.items():
            if one.daemon is not None:
                rows[name].add("rss_after_mb", one.daemon.rss_mb())
    subtract_direct(rows)
    return rows
