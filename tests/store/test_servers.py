"""The redis-server of tests: it starts where a port was taken from it, and says why where it cannot start."""

import socket
from pathlib import Path

import pytest

from store import servers
from store.servers import BUS, Server, free_port, running

CLUSTER = ("--cluster-enabled", "yes")


@pytest.mark.parametrize("above", [0, BUS])
def test_a_server_starts_on_another_port_when_its_own_or_its_bus_is_taken(
    tmp_path: Path, above: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as other:
        taken, free = free_port(), free_port()
        other.bind(("127.0.0.1", taken + above))
        other.listen()
        ports = iter([taken, free])
        monkeypatch.setattr(servers, "free_port", lambda: next(ports))
        with running(tmp_path, *CLUSTER) as server:
            assert server.port == free
            assert server.call("PING")


def test_a_server_that_ends_at_once_is_not_waited_for_and_its_log_is_told(tmp_path: Path) -> None:
    server = Server(tmp_path, "--no-such-option", "1")
    with pytest.raises(AssertionError, match=r"(?s)ended at each of 5 starts.*no-such-option"):
        server.start()


def test_after_a_restart_it_is_where_it_was(tmp_path: Path) -> None:
    with running(tmp_path) as server:
        port = server.port
        server.call("SET", "a", "1")
        server.stop()
        server.start()
        assert server.port == port
        assert server.call("GET", "a") is None
