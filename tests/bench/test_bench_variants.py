"""Every configuration that the bench gives to Outrider is one that it takes, and holds what its row's name says."""

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
from bench.peers import all_peers
from bench.run import Settings, rows_for
from bench.scenarios import BY_NAME, SCENARIOS
from bench.variants import ALL_ON, DEFAULT, RULES_FILE, Variant, configuration, rules

from outrider.config.load import load
from outrider.govern.packs import load_pack

VALUES: dict[str, object] = {
    "PORT": 1001,
    "ADMIN_PORT": 1002,
    "TRANSPARENT_PORT": 1003,
    "CONNECT_TO": "http://127.0.0.1:1004",
    "UPSTREAM_CA": "",
    "HOST": "llm.bench",
}
VARIANTS = {variant.row: variant for scenario in SCENARIOS for variant in scenario.variants}


def document(variant: Variant, folder: Path) -> dict[str, Any]:
    return configuration(variant, VALUES | {"FOLDER": folder})


@pytest.mark.parametrize("row", list(VARIANTS))
def test_outrider_takes_the_configuration(row: str, tmp_path: Path) -> None:
    path = tmp_path / "outrider.yaml"
    path.write_text(json.dumps(document(VARIANTS[row], tmp_path)))
    config = load(path, {})
    assert "local" in config.providers


def test_a_variant_adds_as_many_as_it_says(tmp_path: Path) -> None:
    assert len(document(VARIANTS["outrider 1000 providers"], tmp_path)["providers"]) == 1000
    limits = document(VARIANTS["outrider 100 limits"], tmp_path)["limits"]
    assert len(limits) == 100
    assert sum("providers" not in limit for limit in limits) == 1  # that applies to the provider which is called
    applying = document(VARIANTS["outrider ten limits"], tmp_path)["limits"]
    assert len(applying) == 10
    assert all("providers" not in limit for limit in applying)


def test_as_many_rules_are_loaded_and_as_many_principals_known(tmp_path: Path) -> None:
    path = tmp_path / RULES_FILE
    path.write_text(json.dumps(rules(1000)))
    assert document(VARIANTS["outrider 1000 rules"], tmp_path)["policies"] == [str(path)]
    assert len(load_pack(path, {}).rules) == 1000
    principals = document(VARIANTS["outrider 1000 principals"], tmp_path)["principals"]
    assert len({principal["id"] for principal in principals}) == 1000
    assert principals[-1]["from"] == {"users": [os.getuid()]}


def test_a_variant_takes_away_what_it_says(tmp_path: Path) -> None:
    bare = document(VARIANTS["outrider bare"], tmp_path)
    assert bare["limits"] == []
    assert bare["telemetry"]["log"] == "off"
    assert bare["listen"]["admin"] is None
    assert bare["usage"] == {"inject_stream_usage": False}
    assert "credential" not in bare["providers"]["local"]
    assert document(DEFAULT, tmp_path)["limits"] != []


def test_all_on_is_more_than_default(tmp_path: Path) -> None:
    more, less = document(ALL_ON, tmp_path), document(DEFAULT, tmp_path)
    assert len(more["providers"]) > 10
    assert all("credential" in provider for provider in more["providers"].values())
    assert len(more["limits"]) > len(less["limits"])
    assert more["listen"]["transparent"]


def test_a_row_names_the_base_it_was_asked_to_run_on() -> None:
    outrider = all_peers()["outrider"]
    assert [peer.name for peer in rows_for(BY_NAME["intercepted"], [outrider], Settings())] == ["outrider"]
    assert [peer.name for peer in rows_for(BY_NAME["intercepted"], [outrider], Settings(config="all-on"))] == [
        "outrider all-on"
    ]
    assert [peer.name for peer in rows_for(BY_NAME["base_url"], [outrider], Settings(config="all-on"))] == [
        "outrider all-on",
        "outrider all-on bare",
    ]
    assert [peer.name for peer in rows_for(BY_NAME["start"], [outrider], Settings(config="all-on"))] == [
        "outrider all-on"
    ]
    assert "outrider all-on no log" in [
        peer.name for peer in rows_for(BY_NAME["layers"], [outrider], Settings(config="all-on"))
    ]


def test_a_scenario_of_outrider_alone_has_no_other_row() -> None:
    peers = list(all_peers().values())
    assert [peer.name for peer in rows_for(BY_NAME["refused"], peers, Settings())] == ["outrider"]


def test_the_page_of_the_bench_has_a_row_for_every_scenario() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "bench.md").read_text()
    table = page.partition("| scenario |")[2].partition("\n\n")[0]
    found = re.findall(r"^\| `(\w+)`( \*)? \|", table, re.M)
    assert [(name, bool(star)) for name, star in found] == [(scenario.name, scenario.core) for scenario in SCENARIOS]
