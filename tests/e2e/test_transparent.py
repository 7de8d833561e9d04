"""The whole sidecar behind real iptables REDIRECT, IPv4 and IPv6, as another user, in namespaces made here."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from e2e.commands import clean_environ
from e2e.netns_ride import SIDECAR_UID
from e2e.rig import REAL

SCRIPT = Path(__file__).with_name("netns_ride.py")
TOOLS = ("unshare", "ip", "iptables", "ip6tables", "mount", "setpriv", "curl")
ANSWER = "Echo: hello big world"


def ride(case: str, folder: Path) -> dict[str, Any]:
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if os.geteuid() != 0 or missing:
        pytest.skip(f"Needs root and {', '.join(TOOLS)} to redirect in a network namespace of its own.")
    owner = f"-A OUTPUT -m owner --uid-owner {SIDECAR_UID} -j RETURN"
    probe = f"ip link set lo up && iptables -w -t nat {owner} && ip6tables -w -t nat {owner}"
    tried = subprocess.run(["unshare", "-n", "-m", "sh", "-c", probe], capture_output=True, text=True, check=False)
    if tried.returncode:
        pytest.skip(f"This machine cannot redirect in a network namespace: {tried.stderr.strip()[-200:]}")
    environment = clean_environ({"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)})
    command = ["unshare", "-n", "-m", sys.executable, str(SCRIPT), case, str(folder)]
    ran = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120, check=False)
    assert (ran.returncode, ran.stderr) == (0, "")
    seen: dict[str, Any] = json.loads(ran.stdout)
    return seen


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Sidecar and rules as they should be."""
    return ride("exempted", tmp_path_factory.mktemp("transparent"))


@pytest.mark.parametrize("family", ["-4", "-6"])
def test_curl_is_served_by_the_provider_and_sees_the_address_that_it_called(seen: dict[str, Any], family: str) -> None:
    assert seen[f"curl {family}"]


@pytest.mark.parametrize("app", ["openai SDK", "urllib3", "requests without a variable"])
def test_an_app_that_knows_no_proxy_rides_all_the_same(seen: dict[str, Any], app: str) -> None:
    assert seen[app] == ANSWER


def test_the_provider_gets_the_real_key_its_own_name_and_never_the_placeholder(seen: dict[str, Any]) -> None:
    assert seen["keys"] == [f"Bearer {REAL['openai']}"]
    assert seen["hosts"] == ["api.openai.com"]
    assert seen["placeholder at the provider"] is False


def test_plain_http_gets_the_same_treatment(seen: dict[str, Any]) -> None:
    assert seen["plain HTTP"].startswith("200 ")
    assert seen["plain HTTP, requests"] == 1


def test_a_host_that_nobody_claims_is_reached_where_it_was_going(seen: dict[str, Any]) -> None:
    """401 is its own answer: no key came with the call."""
    assert [seen["tunnel -4"], seen["tunnel -6"], seen["plain HTTP to another"]] == ["401"] * 3
    assert seen["far end"] == [["other.example"] * 2, ["other.example"]]


def test_a_providers_name_counts_and_not_the_address_that_came_with_it(seen: dict[str, Any]) -> None:
    assert seen["claimed name"] == "200 203.0.113.99"


def test_a_connection_straight_to_the_port_is_a_loop_and_counted(seen: dict[str, Any]) -> None:
    assert all(outcome in ("exit 52", "exit 56") for outcome in seen["direct"])  # closed, with or without a reset
    assert seen["events"]["loop"] == 2


def test_it_ends_well_and_says_no_key(seen: dict[str, Any]) -> None:
    assert seen["end"] == [0, False, False]


def test_without_the_rule_for_our_own_user_a_connection_comes_back_once_and_is_refused(tmp_path: Path) -> None:
    seen = ride("forgotten", tmp_path)
    assert seen["provider"] == seen["provider afterwards"] == "200 203.0.113.7"
    assert seen["TLS"] == "exit 35"
    assert seen["HTTP"].startswith(("exit 52", '{"error'))
    assert seen["silence"] is True
    assert seen["events"]["loop"] == 3
    assert seen["end"] == [0, False, False]
