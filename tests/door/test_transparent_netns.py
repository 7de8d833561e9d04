"""The transparent door with real iptables REDIRECT, IPv4 and IPv6, in a network namespace of its own."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from door import hellos
from door.netns_door import ADDRESSES

SCRIPT = Path(__file__).with_name("netns_door.py")
TOOLS = ("unshare", "ip", "iptables", "ip6tables")


@pytest.fixture(scope="module")
def cases() -> list[list[object]]:
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if os.geteuid() != 0 or missing:
        pytest.skip(f"Needs root and {', '.join(TOOLS)} to redirect in a network namespace of its own.")
    probe = "ip link set lo up && iptables -w -t nat -L -n && ip6tables -w -t nat -L -n"
    tried = subprocess.run(["unshare", "-n", "sh", "-c", probe], capture_output=True, text=True, check=False)
    if tried.returncode:
        pytest.skip(f"This machine cannot redirect in a network namespace: {tried.stderr.strip()[-200:]}")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    command = ["unshare", "-n", sys.executable, str(SCRIPT)]
    ran = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120, check=False)
    assert ran.returncode == 0, ran.stderr
    assert ran.stderr == ""
    found: list[list[object]] = json.loads(ran.stdout)
    return found


@pytest.mark.parametrize("kind", ["two listeners", "dual stack"])
@pytest.mark.parametrize("family", ["v4", "v6"])
def test_a_redirected_client_keeps_its_original_destination(cases: list[list[object]], kind: str, family: str) -> None:
    address = ADDRESSES[family]
    found = [case[2:] for case in cases if case[:2] == [kind, family]]
    provider, other = len(hellos.hello()), len(hellos.hello(b"other.example"))
    plain = len(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    assert found == [
        [443, provider, "served", "api.openai.com", address, 443, True, provider],
        [443, other, "tunnelled", address, 443, address],
        [80, plain, "served", None, address, 80, False, plain],
    ]


def test_the_user_of_a_redirected_client_is_known(cases: list[list[object]]) -> None:
    [found] = [case[1:] for case in cases if case[0] == "uids"]
    assert found == [os.geteuid()] * 12


@pytest.mark.parametrize("kind", ["two listeners", "dual stack"])
def test_a_connection_made_straight_to_the_port_is_a_loop(cases: list[list[object]], kind: str) -> None:
    assert [case[2] for case in cases if case[:2] == [kind, "direct"]] == ["loop", "loop"]
