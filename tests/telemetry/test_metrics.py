"""What /metrics says: it parses, its names are the contract's, and nothing from outside makes it grow without bound."""

from prometheus_client.parser import text_string_to_metric_families

from outrider.telemetry.metrics import MAX_MODEL_CHARS, OTHER, Metrics


def shown(metrics: Metrics) -> dict[str, dict[tuple[tuple[str, str], ...], float]]:
    """sample name -> labels -> value."""
    found: dict[str, dict[tuple[tuple[str, str], ...], float]] = {}
    for family in text_string_to_metric_families(metrics.exposition().decode()):
        for sample in family.samples:
            found.setdefault(sample.name, {})[tuple(sorted(sample.labels.items()))] = sample.value
    return found


def counted() -> Metrics:
    metrics = Metrics()
    series = metrics.series("openai", "chat", "openai", metrics.model("gpt-5"), "200", "allow")
    series.exchange(20_000, 1_500_000_000, 40_000_000)
    series.count_tokens(30, 12, 8, 0, 5)
    metrics.count("stale_retry", "openai")
    metrics.limits.add(("rpm", "reject"))
    metrics.gauges.append(
        lambda: iter([("outrider_connections", "Now.", ("side", "state"), {("client", "open"): 2.0})])
    )
    return metrics


def test_the_exposition_parses_and_has_the_names_of_the_contract() -> None:
    found = shown(counted())
    labels = {"provider": "openai", "operation": "chat", "model": "gpt-5", "status": "200", "decision": "allow"}
    assert found["outrider_requests_total"] == {tuple(sorted(labels.items())): 1.0}
    assert sorted((dict(key)["type"], value) for key, value in found["outrider_tokens_total"].items()) == [
        ("cache_read", 8.0), ("input", 30.0), ("output", 12.0), ("reasoning", 5.0),
    ]  # fmt: skip
    assert set(found) >= {
        "outrider_overhead_seconds_bucket", "outrider_upstream_seconds_sum", "outrider_limit_decisions_total",
        "outrider_time_to_first_event_seconds_count", "outrider_events_total", "outrider_connections",
        "gen_ai_client_operation_duration_seconds_count", "gen_ai_client_token_usage_sum",
    }  # fmt: skip


def test_buckets_are_cumulative_and_end_in_infinity() -> None:
    found = shown(counted())
    cells = sorted((float(dict(key)["le"]), value) for key, value in found["outrider_upstream_seconds_bucket"].items())
    assert cells[-1] == (float("inf"), 1.0)
    assert [value for _, value in cells] == sorted(value for _, value in cells)
    assert next(bound for bound, value in cells if value) == 2.5


def test_models_have_a_bounded_number_of_names() -> None:
    metrics = Metrics(models_max=3)
    assert [metrics.model(f"m{number}") for number in range(5)] == ["m0", "m1", "m2", OTHER, OTHER]
    assert metrics.model("m1") == "m1"
    assert metrics.model(None) == metrics.model("") == ""


def test_names_that_are_no_names_are_other() -> None:
    metrics = Metrics()
    for name in ("x" * (MAX_MODEL_CHARS + 1), "a\nb", 'a\x1b[31m"', "\ud800"):
        assert metrics.model(name) == OTHER


def test_label_values_are_escaped() -> None:
    metrics = Metrics()
    metrics.series("p", "o", "p", metrics.model('a"b\\c'), "200", "allow").exchange(1, -1, -1)
    assert {dict(key)["model"] for key in shown(metrics)["outrider_requests_total"]} == {'a"b\\c'}
