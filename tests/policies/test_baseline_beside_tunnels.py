"""The baseline for an application that reaches other hosts too: its tunnels stay open, every other rule holds."""

from pathlib import Path
from typing import Any

import pytest

from outrider.door.contract import Deny, Intercept, Tunnel
from support.governed import World

OPENAI = {"openai": {"credential": {"env": "OPENAI_API_KEY"}, "require_placeholder": False}}


def world(folder: Path, *policies: Any, **sections: Any) -> World:
    return World(folder, providers=OPENAI, policies=list(policies), **sections)


def test_tunnels_stay_as_egress_says(tmp_path: Path) -> None:
    open_hosts = {"pack": "baseline", "with": {"hosts": ["*"]}}
    assert isinstance(world(tmp_path, "baseline").snapshot.verdict("pypi.example", 443), Deny)
    beside = world(tmp_path, open_hosts).snapshot
    assert isinstance(beside.verdict("pypi.example", 443), Tunnel)
    assert isinstance(beside.verdict("api.openai.com", 443), Intercept)
    assert isinstance(beside.verdict("169.254.169.254", 80), Deny)
    closed = world(tmp_path, open_hosts, egress={"default": "deny"}).snapshot
    assert isinstance(closed.verdict("pypi.example", 443), Deny)


@pytest.mark.parametrize(
    ("asked", "status", "said"),
    [
        ({"path": "/openai/v1/realtime/client_secrets", "model": None}, 403, "rule baseline/no-minting"),
        (
            {"path": "/openai/v1/chat/completions", "user": "AKIAIOSFODNN7EXAMPLE"},
            403,
            "holds what looks like aws_access_key",
        ),
        (
            {"path": "/openai/v1/chat/completions", "body": b'{"model":"m","x":"' + b"y" * 4_000_001 + b'"}'},
            413,
            "rule baseline/sane-size",
        ),
    ],
)
def test_every_other_rule_holds(tmp_path: Path, asked: dict[str, Any], status: int, said: str) -> None:
    refused = world(tmp_path, {"pack": "baseline", "with": {"hosts": ["*"]}}).refusal(**asked)
    assert (refused.status, said in str(refused)) == (status, True)
