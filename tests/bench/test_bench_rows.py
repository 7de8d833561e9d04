"""From made-up samples and rows to figures, ratios, marks and verdicts."""

import dataclasses
import re
from typing import Any

import pytest
from bench.load import Percentiles, Sample
from bench.scenarios import BY_NAME, SCENARIOS, Scenario, Target

from bench import figures, table
from support.benches import rows_of


def sample(**more: Any) -> Sample:
    times = Percentiles(10.0, 20.0, 30.0, 40.0)
    fields: dict[str, Any] = {
        "seconds": 2.0,
        "requests": 1000,
        "events": 0,
        "cpu_s": 0.5,
        "error": "",
        "latency": times,
    }
    return Sample(**fields | {"first_event": None} | more)


def test_a_target_is_met_or_missed_by_the_ratio_of_medians() -> None:
    scenario = BY_NAME["base_url"]
    rows = rows_of({"nginx": [20.0, 22.0, 90.0], "outrider": [26.0, 1.0, 27.0]})
    met = {verdict.key: verdict.is_met for verdict in figures.judge(scenario, rows)}
    assert met["cpu_us"] is True  # 26 / 22 = 1.18
    assert met["start_s"] is None
    rows = rows_of({"nginx": [20.0], "outrider": [26.0]})
    assert figures.judge(scenario, rows)[0].is_met is False
    assert re.search(r"MISSED CPU µs/request: 1\.30 \(at most 1\.2 × nginx\)", table.render(scenario, rows))


def test_without_nginx_nothing_is_said_of_the_ratio() -> None:
    verdict = figures.judge(BY_NAME["base_url"], rows_of({"outrider": [26.0]}))[0]
    assert verdict.is_met is None
    assert "not measured" in verdict.words


def test_a_proxy_that_left_its_core_idle_is_marked() -> None:
    rows = rows_of({"nginx": [20.0]})
    assert "*" not in table.render(BY_NAME["base_url"], rows)
    rows["nginx"].busy = [0.5]
    assert "1,000 *" in table.render(BY_NAME["base_url"], rows)


def test_latency_is_what_was_added_to_direct() -> None:
    rows = {"direct": figures.Row("direct"), "nginx": figures.Row("nginx"), "late": figures.Row("late")}
    for name, values in {"direct": [20.0, 22.0, 21.0], "nginx": [121.0, 131.0, 141.0]}.items():
        for value in values:
            rows[name].add("p50_us", value)
    figures.subtract_direct(rows)
    assert rows["nginx"].median("p50_us") == 110.0
    assert rows["direct"].median("p50_us") == 21.0
    assert rows["late"].median("p50_us") is None


def test_an_error_empties_every_figure_of_its_row() -> None:
    row = rows_of({"nginx": [20.0]})["nginx"]
    row.error = "body differs at byte 7"
    assert row.median("cpu_us") is None
    text = table.render(BY_NAME["base_url"], {"nginx": row})
    assert "nginx: body differs at byte 7" in text
    assert "20.0" not in text


def test_a_target_may_be_a_share_of_any_peers_figure() -> None:
    rows = rows_of({"nginx": [20.0], "envoy": [40.0], "litellm": [5000.0], "outrider": [30.0]})
    met = {verdict.key: verdict.is_met for verdict in figures.judge(BY_NAME["base_url"], rows)}
    assert met["cpu_us"] is False
    assert met["cpu_us of envoy"] is False
    assert met["cpu_us of litellm"] is False
    assert met["cpu_us of tensorzero"] is None
    rows["litellm"].values["cpu_us"] = [9000.0]
    words = [verdict.words for verdict in figures.judge(BY_NAME["base_url"], rows)]
    assert "CPU µs/request: 0.0033 (at most 1/250 × litellm)" in words


def test_flat_means_neither_dearer_nor_cheaper() -> None:
    scenario = BY_NAME["flat_providers"]
    rows = rows_of({"outrider": [20.0], "outrider 100 providers": [21.0], "outrider 1000 providers": [17.0]})
    assert [verdict.is_met for verdict in figures.judge(scenario, rows)] == [True, False]
    assert "from 0.9 to 1.1 × outrider)" in figures.judge(scenario, rows)[0].words


def test_each_configuration_has_its_own_promise_of_memory() -> None:
    scenario = BY_NAME["memory_100k"]
    rows = rows_of({"outrider": [20.0], "outrider all-on": [20.0]})
    for row in rows.values():
        row.values["rss_idle_mb"] = [70.0]
    met = {verdict.key: verdict.is_met for verdict in figures.judge(scenario, rows)}
    assert met["rss_idle_mb"] is False
    assert met["rss_idle_mb outrider all-on"] is True
    assert "outrider all-on: RSS idle MB: 70 (at most 85)" in table.render(scenario, rows)


def test_every_target_is_of_a_figure_and_of_rows_that_the_scenario_has() -> None:
    for scenario in SCENARIOS:
        rows = {variant.row for variant in scenario.variants} | {"outrider all-on"}
        for target in scenario.targets:
            assert target.figure in figures.FIGURES
            assert rows & set(target.rows)
            assert not target.of.startswith("outrider") or target.of in rows


@pytest.mark.parametrize(
    ("name", "fields", "word"),
    [
        ("base_url", {"error": "body differs at byte 7"}, "body differs"),
        ("base_url", {"requests": 0}, "no answer"),
        ("base_url", {"connects": 500}, "not kept"),
        ("new_intercepted", {"connects": 1000}, ""),
        ("resumed_intercepted", {"handshakes": 1000, "resumed": 10}, "only 10 of 1000 handshakes resumed"),
        ("resumed_intercepted", {"handshakes": 1000, "resumed": 1000}, ""),
        ("refused", {"refused": 10}, "only 10 of 1010 calls were refused"),
        ("refused", {"refused": 100_000}, ""),
    ],
)
def test_what_a_scenario_does_not_allow_is_an_error(name: str, fields: dict[str, Any], word: str) -> None:
    row = figures.Row("nginx")
    figures.add_loaded(row, BY_NAME[name], sample(**fields), has_process=True)
    assert word in row.error
    assert bool(row.error) == bool(word)
    assert ("cpu_us" in row.values) == (not word)


def test_cpu_is_told_by_request_by_event_and_by_stream() -> None:
    row = figures.Row("nginx")
    figures.add_loaded(row, BY_NAME["stream"], sample(events=200_000), has_process=True)
    assert row.median("cpu_us") == pytest.approx(2.5)
    assert row.median("cpu_stream_us") == pytest.approx(500.0)
    refused = figures.Row("outrider")
    figures.add_loaded(refused, BY_NAME["refused"], sample(requests=100, refused=900), has_process=True)
    assert refused.median("cpu_us") == pytest.approx(500.0)
    assert refused.median("refused_pct") == pytest.approx(90.0)


def held(row: figures.Row, **fields: Any) -> figures.Row:
    gap = Percentiles(50_000.0, 50_010.0, 50_020.0, 50_030.0)
    figures.add_loaded(row, BY_NAME["streams_1000"], sample(requests=0, gap=gap, **fields), row.peer != "direct")
    return row


def test_open_streams_are_told_in_shares_of_a_core_and_in_memory() -> None:
    row = figures.Row("nginx", values={"rss_idle_mb": [20.0]})
    held(row, events=40_000, rss_mb=50.0)
    assert row.median("core_pct") == pytest.approx(25.0)
    assert row.median("kb_each") == pytest.approx(30.0)
    assert "per_s" not in row.values
    assert not row.notes


def test_events_that_came_late_are_said() -> None:
    row = held(figures.Row("litellm"), events=10_000)
    text = table.render(BY_NAME["streams_1000"], {"litellm": row})
    assert "litellm: fell behind the pace: 10,000 of 40,000 events came in time" in text


def test_calls_that_a_schedule_left_unanswered_are_said() -> None:
    row = figures.Row("litellm")
    figures.add_scheduled(row, BY_NAME["base_url"], sample(scheduled=2000, unfinished=900), has_process=True)
    assert row.median("open_p999_us") == 40.0
    assert "could not keep up: 900 of 2,000" in table.render(BY_NAME["base_url"], {"litellm": row})


def scheduled_rows(client_cpu_s: float) -> dict[str, figures.Row]:
    rows = {name: figures.Row(name) for name in ("direct", "nginx", "outrider")}
    for name, row in rows.items():
        taken = Percentiles(*(100.0 if name == "direct" else 300.0,) * 4)
        one = sample(latency=taken, client_cpu_s=client_cpu_s if name == "direct" else 0.1)
        figures.add_scheduled(row, BY_NAME["head_of_line"], one, has_process=name != "direct")
    figures.subtract_direct(rows)
    return rows


def test_where_direct_itself_saturates_nothing_is_compared() -> None:
    scenario = BY_NAME["head_of_line"]
    rows = scheduled_rows(client_cpu_s=0.4)
    assert figures.judge(scenario, rows)[0].is_met is True
    assert figures.ratio(rows, rows["outrider"], "open_p50_us", "nginx") == 1.0
    rows = scheduled_rows(client_cpu_s=1.9)
    assert figures.judge(scenario, rows)[0].is_met is None
    assert figures.ratio(rows, rows["outrider"], "open_p50_us", "nginx") is None
    text = table.render(scenario, rows)
    assert "200 *" in text
    assert "* direct itself saturates here" in text
    assert "open   at 1,000/s p99: direct itself saturates, not compared" in text


def test_throughput_is_a_share_of_directs_unless_the_client_was_the_limit() -> None:
    rows = rows_of({"direct": [0.0], "nginx": [20.0], "outrider": [30.0]})
    rows["direct"].values["per_s"] = [4000.0]
    rows["outrider"].busy = [0.4]
    assert figures.ratio(rows, rows["nginx"], "per_s", "direct") == 0.25
    assert figures.ratio(rows, rows["outrider"], "per_s", "direct") is None


def test_columns_without_a_figure_are_left_out() -> None:
    text = table.render(BY_NAME["base_url"], rows_of({"nginx": [20.0]}))
    assert "CPU µs/request" in text
    assert "refused" not in text
    assert "event gap" not in text


def test_an_absent_proxy_is_said_and_is_no_alarm() -> None:
    rows = rows_of({"nginx": [20.0]})
    rows["squid"] = figures.Row("squid", error="squid is not installed here.", is_absent=True)
    rows["envoy"] = figures.Row("envoy", error="envoy did not start: exit 1.")
    text = table.render(BY_NAME["base_url"], rows, colours=True)
    assert f"{table.DIM}squid: squid is not installed here." in text
    assert f"{table.RED}envoy: envoy did not start" in text


def test_a_missed_target_is_red() -> None:
    scenario: Scenario = dataclasses.replace(BY_NAME["base_url"], targets=(Target("cpu_us", 1.0, of="nginx"),))
    text = table.render(scenario, rows_of({"nginx": [20.0], "outrider": [30.0]}), colours=True)
    assert f"{table.RED}  MISSED CPU µs/request: 1.50" in text
