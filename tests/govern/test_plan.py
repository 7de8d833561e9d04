"""The order of rules and what comes of conflicts, as docs/policies.md says it; errors, shadow, what is remembered."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from outrider.errors import BodyTooLargeError
from outrider.govern.cases import Asked, Case, Judged, Runner, facts_for, judge, load_cases
from outrider.govern.cases import rules_of as rules_of_case
from outrider.govern.cel import SECRET_HEADERS
from outrider.govern.heads import combined, name_problem
from outrider.govern.packs import load_pack, load_policies
from outrider.govern.plan import RuleSet
from outrider.govern.principal import ANONYMOUS, Principal
from outrider.providers import BUILT_IN
from outrider_ext import http1

CHAT = {"model": "gpt-5", "messages": [{"role": "user", "content": "hello"}]}


def rules_of(folder: Path, *rules: dict[str, Any], **file: Any) -> RuleSet:
    path = folder / "mine.yaml"
    named = [{"id": f"r{at}", "description": f"Rule {at}", **rule} for at, rule in enumerate(rules)]
    path.write_text(yaml.safe_dump({**file, "rules": named}))
    pack = load_pack(path, {})
    return RuleSet(
        pack.rules,
        patterns=pack.policy.patterns,
        default_deny=["mine"] if pack.policy.default == "deny" else [],
    )


def asked(body: Any = CHAT, **more: Any) -> Asked:
    return Asked.model_validate({"body": body, **more})


def decided(folder: Path, *rules: dict[str, Any], request: Asked | None = None, **file: Any) -> Judged:
    return judge(rules_of(folder, *rules, **file), request if request is not None else asked())


ALLOW, DENY = {"then": "allow"}, {"then": "deny"}


def judged_with_alias(folder: Path, *rules: dict[str, Any], body: Any = None, **file: Any) -> Judged:
    found = rules_of(folder, *rules, **file)
    found.aliases = frozenset({"smart"})
    return judge(found, asked({**CHAT, "model": "smart"} if body is None else body))


# -- names of `models:`


@pytest.mark.parametrize("then", ["deny", {"require": {"max_tokens": 5}}])
def test_what_refuses_all_models_but_some_leaves_an_alias_to_its_targets(tmp_path: Path, then: Any) -> None:
    rule = {"match": {"model": "?*"}, "except": {"model": "gpt-5"}, "then": then}
    assert judged_with_alias(tmp_path, rule).refusal is None
    for body in ({"model": "smart", "fallbacks": ["gpt-4"]}, {"model": "gpt-5", "fallbacks": ["smart"]}):
        assert judged_with_alias(tmp_path, rule, body=body).refusal is not None


def test_an_exception_for_some_who_ask_is_none_for_others_who_name_an_alias(tmp_path: Path) -> None:
    rule = {"match": {"model": "?*"}, "except": {"model": "gpt-5", "principal": {"team": "a"}}, "then": "deny"}
    assert judged_with_alias(tmp_path, rule).refusal is not None


def test_what_refuses_an_alias_by_its_name_refuses_the_call(tmp_path: Path) -> None:
    for match in ({"model": "smart"}, {"model": "s*"}, {"model": "*"}, {}):
        assert judged_with_alias(tmp_path, {"match": match, "then": "deny"}).refusal is not None


def test_where_models_are_permitted_an_alias_is_left_to_its_targets(tmp_path: Path) -> None:
    rule = {"match": {"model": "gpt-5", "operation": "chat"}, "then": "allow"}
    assert judged_with_alias(tmp_path, rule, default="deny").refusal is None
    rule["match"]["operation"] = "embeddings"
    assert judged_with_alias(tmp_path, rule, default="deny").refusal is not None


def test_what_changes_a_call_looks_at_the_name_of_an_alias(tmp_path: Path) -> None:
    tag = {"match": {"model": "?*"}, "except": {"model": "gpt-5"}, "then": {"tag": "other"}}
    assert judged_with_alias(tmp_path, tag).outcome.tags == ["other"]


# -- order and conflicts


@pytest.mark.parametrize("rules", [(ALLOW, DENY), (DENY, ALLOW)])
def test_deny_wins_over_allow_in_any_order(tmp_path: Path, rules: Any) -> None:
    refusal = decided(tmp_path, *rules).outcome.refusal
    assert refusal is not None
    assert refusal.rule == f"mine/r{rules.index(DENY)}"


def test_the_first_rule_that_refuses_names_the_refusal(tmp_path: Path) -> None:
    first = {"when": "request.stream == false", "then": {"deny": {"status": 451, "message": "No"}}}
    judged = decided(tmp_path, first, {"when": "request.messages == 1", **DENY})
    assert judged.outcome.refusal is not None
    assert (judged.outcome.refusal.rule, judged.outcome.refusal.status) == ("mine/r0", 451)
    assert "No (rule mine/r0" in str(judged.outcome.refusal)
    assert judged.outcome.rules == ["mine/r0", "mine/r1"]


def test_a_refusal_that_needs_no_body_comes_before_those_that_do(tmp_path: Path) -> None:
    rules = rules_of(tmp_path, {"when": "request.text == 'hello'", **DENY}, {"match": {"provider": "openai"}, **DENY})
    plan = rules.on_route(facts_for(asked())).plan(Principal("p"), "forward", False)  # type: ignore[union-attr]
    assert plan.outcome.refusal is not None
    assert plan.outcome.refusal.rule == "mine/r1"


def test_default_deny_refuses_what_no_allow_rule_applies_to(tmp_path: Path) -> None:
    allow = {"match": {"model": "gpt-5"}, **ALLOW}
    assert decided(tmp_path, allow, default="deny").refusal is None
    other = decided(tmp_path, allow, default="deny", request=asked({**CHAT, "model": "gpt-4"})).outcome.refusal
    assert other is not None
    assert other.rule == "mine/default"
    assert (
        decided(tmp_path, allow, default="deny", request=asked(None, method="GET", path="/v1/models")).refusal
        is not None
    )


def test_an_allow_rule_in_shadow_allows_nothing(tmp_path: Path) -> None:
    judged = decided(tmp_path, {**ALLOW, "mode": "shadow"}, default="deny")
    assert judged.refusal is not None
    assert judged.outcome.shadow == ["mine/r0"]


def test_redactions_and_tags_add_up(tmp_path: Path) -> None:
    pii, secrets = ({"then": {"redact": {"detectors": [name]}}} for name in ("pii", "secrets"))
    judged = decided(tmp_path, pii, secrets, pii, {"then": {"tag": ["a", "b"]}}, {"then": {"tag": "b"}})
    assert [one.detectors for one in judged.outcome.redactions] == [("pii",), ("secrets",)]
    assert judged.outcome.tags == ["a", "b"]


def test_rewrites_are_made_in_order_and_the_first_route_holds(tmp_path: Path) -> None:
    cap, uncap = ({"then": {"rewrite": {"set": {"store": value}}}} for value in (False, True))
    routes = ({"then": {"route": {"model": name}}} for name in ("first", "second"))
    judged = decided(tmp_path, cap, uncap, *routes)
    assert judged.document is not None
    assert (judged.document["store"], judged.document["model"]) == (True, "first")
    assert "mine/r3" in judged.outcome.rules


def test_conditions_are_judged_on_the_request_as_it_was_sent(tmp_path: Path) -> None:
    judged = decided(tmp_path, {"then": {"route": {"model": "gpt-4"}}}, {"when": "request.model == 'gpt-4'", **DENY})
    assert judged.refusal is None


# -- match


@pytest.mark.parametrize(
    ("match", "applies"),
    [
        ({}, True),
        ({"provider": "OPENAI"}, True),
        ({"provider": ["anthropic", "open*"]}, True),
        ({"provider": []}, False),
        ({"operation": "chat", "method": "POST", "host": "*.openai.com", "path": "/v1/**"}, True),
        ({"path": "/v1/*"}, False),
        ({"via": "connect"}, False),
        ({"listener": "proxy", "via": ["forward", "connect"]}, True),
        ({"listener": "transparent"}, False),
        ({"model": "GPT-*"}, True),
        ({"model": "gpt-4*"}, False),
        ({"known_operation": True, "mints_secrets": False}, True),
        ({"known_operation": False}, False),
        ({"principal": {"team": "search", "roles": "admin", "labels": {"app": "web*"}}}, True),
        ({"principal": {"roles": "root"}}, False),
        ({"principal": {"labels": {"nope": "*"}}}, False),
        ({"principal": {"project": "?*"}}, False),
    ],
)
def test_a_rule_matches_where_all_its_fields_do(tmp_path: Path, match: Any, applies: bool) -> None:
    who = {"id": "a", "team": "search", "roles": ["admin", "dev"], "labels": {"app": "web-1"}}
    request = asked(principal=who)
    assert (decided(tmp_path, {"match": match, **DENY}, request=request).refusal is not None) is applies
    if match not in ({}, {"provider": []}):
        excepted = decided(tmp_path, {"except": match, **DENY}, request=request)
        assert (excepted.refusal is None) is applies


def test_what_restricts_needs_one_model_and_what_permits_needs_all(tmp_path: Path) -> None:
    request = asked({**CHAT, "models": ["gpt-5", "gpt-4"]})
    rule = {"match": {"model": "gpt-4"}}
    assert decided(tmp_path, {**rule, **DENY}, request=request).refusal is not None
    assert decided(tmp_path, {**rule, **ALLOW}, default="deny", request=request).refusal is not None
    assert decided(tmp_path, {"except": {"model": "gpt-4"}, **DENY}, request=request).refusal is not None
    assert decided(tmp_path, {"except": {"model": "gpt-?"}, **DENY}, request=request).refusal is None


# -- errors and shadow

ERRS = {"when": "request.params.temperature > 1.0"}


@pytest.mark.parametrize(("on_error", "refused"), [("deny", True), ("allow", False)])
def test_each_rules_error_is_its_own(tmp_path: Path, on_error: str, refused: bool) -> None:
    rules = ({**ERRS, "on_error": on_error, **DENY}, {"when": "request.messages == 1", "then": {"tag": "one"}})
    judged = decided(tmp_path, *rules)
    assert (judged.refusal is not None) is refused
    assert judged.outcome.errors == ["mine/r0"]
    assert judged.outcome.tags == ["one"]


def test_a_shadow_rule_that_errs_refuses_nothing(tmp_path: Path) -> None:
    judged = decided(tmp_path, {**ERRS, "mode": "shadow", **DENY})
    assert judged.refusal is None
    assert (judged.outcome.shadow, judged.outcome.errors) == (["mine/r0"], ["mine/r0"])


def test_a_value_that_cannot_be_read_errs_only_where_it_is_read(tmp_path: Path) -> None:
    request = asked({**CHAT, "max_tokens": "many"})
    judged = decided(tmp_path, {"when": "request.messages == 1", "then": {"tag": "t"}}, request=request)
    assert judged.refusal is None
    judged = decided(tmp_path, {"when": "request.max_tokens > 5", **DENY}, request=request)
    assert "max_tokens is no whole number" in str(judged.refusal)
    assert "many" not in str(judged.refusal)


def test_shadow_rules_change_nothing(tmp_path: Path) -> None:
    actions: list[Any] = [
        "deny", {"redact": {"detectors": ["pii"]}}, {"rewrite": {"max_tokens": 1, "set": {"a": 1}}},
        {"route": {"model": "x"}}, {"tag": "t"}, {"require": {"max_body_bytes": 1}},
    ]  # fmt: skip
    judged = decided(tmp_path, *({"then": action, "mode": "shadow"} for action in actions))
    assert judged.refusal is None
    assert judged.document == CHAT
    assert (judged.outcome.tags, judged.outcome.redactions, judged.outcome.rules) == ([], [], [])
    assert len(judged.outcome.shadow) == len(actions)


@pytest.mark.parametrize(("on_error", "refused"), [("deny", True), ("allow", False)])
def test_an_edit_that_cannot_be_made_is_an_error_and_leaves_nothing_half_done(
    tmp_path: Path, on_error: str, refused: bool
) -> None:
    rule = {"then": {"rewrite": {"set": {"a": 1}, "system_preamble": "x"}}, "on_error": on_error}
    body = {"model": "m", "input": "x"}
    judged = decided(tmp_path, rule, request=asked(body, path="/v1/embeddings"))
    assert (judged.refusal is not None) is refused
    if not refused:
        assert judged.document == body


def test_a_body_that_cannot_be_read_is_refused_only_for_rules_that_enforce(tmp_path: Path) -> None:
    def unreadable() -> bytes:
        raise BodyTooLargeError("too large")

    for mode in ("enforce", "shadow"):
        rules = rules_of(tmp_path, {"when": "request.text == 'x'", "mode": mode, **DENY})
        plan = rules.on_route(facts_for(asked())).plan(Principal("p"), "forward", False)  # type: ignore[union-attr]
        view = plan.view(plain_body=unreadable)
        assert plan.needs_body is (mode == "enforce")
        if mode == "enforce":
            with pytest.raises(BodyTooLargeError):
                plan.late_for(view).decide(view)
        else:
            assert plan.late_for(view).decide(view).refusal is None


# -- websockets


@pytest.mark.parametrize(
    "rule",
    [
        {"when": "request.text == ''", "then": "deny"},
        {"then": {"redact": {"detectors": ["pii"]}}},
        {"then": {"rewrite": {"max_tokens": 1}}},
        {"then": {"require": {"max_tokens": 1}}},
    ],
)
def test_a_rule_that_needs_the_body_refuses_a_websocket_unless_it_says_so(tmp_path: Path, rule: Any) -> None:
    upgrade = asked(None, method="GET", path="/v1/realtime?model=gpt-realtime", upgrade=True)
    assert "WebSocket" in str(decided(tmp_path, rule, request=upgrade).refusal)
    assert decided(tmp_path, {**rule, "websocket": "allow-uninspected"}, request=upgrade).refusal is None
    shadow = decided(tmp_path, {**rule, "mode": "shadow"}, request=upgrade)
    assert (shadow.refusal, shadow.outcome.shadow) == (None, ["mine/r0"])


# -- what is remembered


def test_what_is_decided_is_decided_once(tmp_path: Path) -> None:
    rules = rules_of(tmp_path, {"match": {"model": "gpt-4*"}, **DENY}, {"match": {"provider": "anthropic"}, **DENY})
    route = rules.on_route(facts_for(asked()))
    assert route is not None
    assert len(route.rules) == 1
    who = Principal("p")
    plan = route.plan(who, "forward", False)
    assert route.plan(who, "forward", False) is plan
    assert plan.for_name("gpt-5") is plan.for_name("gpt-5")
    assert not plan.for_name("gpt-5").dynamic
    assert plan.for_name("gpt-4o").outcome.refusal is not None


def test_the_memory_of_models_and_callers_is_bounded(tmp_path: Path) -> None:
    route = rules_of(tmp_path, {"match": {"model": "gpt-4*"}, **DENY}).on_route(facts_for(asked()))
    assert route is not None
    for at in range(1500):
        route.plan(Principal(str(at)), "forward", False)
    assert len(route.plans) <= 1024
    plan = route.plan(Principal("p"), "forward", False)
    for at in range(1500):
        plan.for_name(f"model-{at}")
    plan.for_name("x" * 2000)
    assert len(plan.by_model) <= 1024
    assert all(len("".join(key)) <= 120 for key in plan.by_model)


def test_a_route_that_no_rule_can_apply_to_has_none(tmp_path: Path) -> None:
    rules = rules_of(tmp_path, {"match": {"operation": "embeddings"}, **DENY})
    assert rules.on_route(facts_for(asked())) is None


# -- files


ONE = "rules:\n - {id: a, description: d, then: "


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("rules: [{id: a, description: d, then: deny, wen: x}]", "rules[0].wen: unknown key"),
        (ONE + "{deny: {}, allow: {}}}", "needs exactly one action"),
        (ONE + "{denie: {}}}", "unknown key"),
        (ONE + "deny, when: 'request.mdoel == 1'}", "request.mdoel, which there is not"),
        (ONE + "deny, when: 'request == 1'}", "reads request as a whole"),
        (ONE + "deny, when: 'nope(1)'}", "'nope', which there is not"),
        (ONE + "deny, when: '1 +'}", "is not CEL"),
        (ONE + "deny, when: \"request.headers['authorization'] == ''\"}", "where keys stand"),
        (ONE + "deny, when: \"request.headers[provider] == ''\"}", "without saying which"),
        (ONE + "deny}\n - {id: a, description: d, then: deny}", ":3: rules[1].id: is the second"),
        (ONE + "{deny: {status: 200}}}", "status must be one of"),
        (ONE + "{rewrite: {set: {model: x}}}}", "may not set model"),
        ("patterns: {p: '(?=x)'}\nrules: []", "patterns.p: is no RE2 pattern"),
        (ONE + "deny, match: {model: '${nope}'}}", "does not declare"),
        ("rules: 7", "must be a section with rules:"),
        ("rules: [", "is not YAML"),
    ],
)  # fmt: skip
def test_a_file_that_cannot_be_used_says_where_and_why(tmp_path: Path, text: str, problem: str) -> None:
    from outrider.config import ConfigError

    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_pack(path, {})
    assert problem in str(caught.value)
    assert str(caught.value).startswith(f"{path}:")


def test_every_problem_of_every_file_is_said_at_once(tmp_path: Path) -> None:
    from outrider.config import ConfigError
    from outrider.config.values import PolicyUse

    for name in ("a", "b"):
        (tmp_path / f"{name}.yaml").write_text("rules:\n - {id: x, description: d, then: nope}\n")
    uses = [PolicyUse(str(tmp_path / "a.yaml")), PolicyUse("basline"), PolicyUse(str(tmp_path / "b.yaml"))]
    with pytest.raises(ConfigError) as caught:
        load_policies(uses, where=lambda section, at, *more: f"c.yaml:{at + 1}")
    assert [problem.where.rpartition("/")[2] for problem in caught.value.problems] == [
        "a.yaml:2",
        "c.yaml:2",
        "b.yaml:2",
    ]
    assert "did you mean baseline?" in str(caught.value)


def test_parameters_are_put_in_before_the_file_is_checked(tmp_path: Path) -> None:
    from outrider.config import ConfigError

    path = tmp_path / "mine.yaml"
    path.write_text(
        "parameters: {most: {description: d, type: number}, names: {description: d, type: list, default: [a]}}\n"
        "rules:\n - {id: a, description: d, when: 'request.messages > ${most}', then: deny,\n"
        "    match: {model: [x, '${names}']}}\n"
    )
    pack = load_pack(path, {"most": 3, "names": ["b", "c"]})
    assert pack.rules[0].rule.when == "request.messages > 3"
    assert pack.rules[0].rule.match.model == ("x", "b", "c")
    for values, problem in (
        ({}, "has to be given"),
        ({"most": "x"}, "needs a number"),
        ({"most": 1, "z": 1}, "no such parameter"),
    ):
        with pytest.raises(ConfigError, match=problem):
            load_pack(path, values)


def test_a_wrong_parameter_is_told_where_it_was_given(tmp_path: Path) -> None:
    from outrider.config import ConfigError, load
    from outrider.snapshot import policies_of

    (tmp_path / "mine.yaml").write_text(
        "parameters: {names: {description: d, type: list}, most: {description: d, type: number, default: 1}}\n"
        "rules:\n - {id: a, description: d, match: {model: [x, '${names}', y]},\n"
        "    then: {require: {max_tokens: '${most}'}}}\n"
    )
    config = tmp_path / "outrider.yaml"
    config.write_text(
        "version: 1\npolicies:\n  - pack: ./mine.yaml\n    with:\n      names: [b, 7]\n      most: -1\n      nope: x\n"
        "  - pack: ./mine.yaml\n    with: {names: [b], most: x}\n"
        "  - ./mine.yaml\n"
    )
    with pytest.raises(ConfigError) as caught:
        policies_of(load(config, {}))
    found = {(one.where.rpartition("/")[2], one.key): one.sentence for one in caught.value.problems}
    assert sorted(found) == [
        ("outrider.yaml:10", "policies[2].with"),
        ("outrider.yaml:5", "policies[0].with.names"),
        ("outrider.yaml:6", "policies[0].with.most"),
        ("outrider.yaml:7", "policies[0].with.nope"),
        ("outrider.yaml:9", "policies[1].with.most"),
    ]
    assert "must be text" in found["outrider.yaml:5", "policies[0].with.names"]
    assert "mine.yaml" in found["outrider.yaml:5", "policies[0].with.names"]


@pytest.mark.parametrize(
    ("zone", "when", "answer"),
    [
        (None, "time.hour == 23 && time.weekday == 'sun' && time.date == '2026-03-29'", True),
        (
            "Europe/Rome",
            "time.hour == 1 && time.minute == 30 && time.weekday == 'mon'",
            True,
        ),  # summer time since today
        ("America/New_York", "time.date == '2026-03-29' && time.hour == 19 && time.day == 29", True),
        ("Asia/Kolkata", "time.getHours() == 5 && time.month == 3 && time.year == 2026", True),
        ("Asia/Kolkata", "time == timestamp('2026-03-29T23:30:00Z') && time.weekday in ['sat', 'sun']", False),
        ("Asia/Kolkata", "time > timestamp('2026-03-29T23:00:00Z') && has(time.hour)", True),
    ],
)
def test_time_is_that_of_the_files_zone(tmp_path: Path, zone: str | None, when: str, answer: bool) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(
        yaml.safe_dump(
            ({"timezone": zone} if zone else {})
            | {"rules": [{"id": "a", "description": "d", "when": when, "then": "deny"}]}
        )
    )
    case = Case.model_validate({"name": "n", "expect": {"decision": "deny"}, "time": "2026-03-29T23:30:00+00:00"})
    pack = load_pack(path, {})
    assert (judge(rules_of_case(pack, case, pack.rules), Asked(body={})).refusal is not None) is answer


@pytest.mark.parametrize("moment", ["2026-07-01T09:30:00", "'2026-07-01T07:30:00Z'", "2026-07-01 07:30:00+00:00"])
def test_a_case_states_its_time_in_the_files_zone_or_with_its_own(tmp_path: Path, moment: str) -> None:
    (tmp_path / "policy.yaml").write_text(
        "name: mine\ntimezone: Europe/Rome\nrules:\n - {id: a, description: d, when: time.hour == 9, then: deny}\n"
    )
    (tmp_path / "cases.yaml").write_text(
        f"cases:\n - {{name: n, time: {moment}, request: {{body: {{}}}}, expect: {{decision: deny, rule: a}}}}\n"
    )
    (result,) = Runner(tmp_path / "policy.yaml").run(load_cases(tmp_path / "cases.yaml"))
    assert result.passed, result.differences


def test_a_time_that_is_none_is_told_with_its_line(tmp_path: Path) -> None:
    from outrider.config import ConfigError

    (tmp_path / "cases.yaml").write_text("cases:\n - {name: n, time: noon, expect: {decision: deny}}\n")
    with pytest.raises(ConfigError, match=r"cases.yaml:2.*must be a moment"):
        load_cases(tmp_path / "cases.yaml")


def test_two_files_with_two_zones_are_one_evaluation(tmp_path: Path) -> None:
    for name, zone in (("rome", "Europe/Rome"), ("tokyo", "Asia/Tokyo")):
        rule = {"id": "a", "description": "d", "when": "time.hour == 9", "then": {"tag": name}}
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump({"timezone": zone, "rules": [rule]}))
    packs = [load_pack(tmp_path / f"{name}.yaml", {}) for name in ("rome", "tokyo")]
    for hour, tags in ((8, ["rome"]), (0, ["tokyo"]), (9, [])):
        rules = RuleSet(
            [rule for pack in packs for rule in pack.rules],
            now=lambda hour=hour: datetime(2026, 1, 5, hour, tzinfo=UTC),
        )
        assert judge(rules, Asked(body={})).outcome.tags == tags


# -- the head


def rewrites(**headers: Any) -> dict[str, Any]:
    return {"then": {"rewrite": {"headers": headers}}}


@pytest.mark.parametrize(
    ("headers", "why"),
    [
        ({"set": {"Authorization": "x"}}, "where keys stand"),
        ({"remove": ["x-goog-api-key"]}, "where keys stand"),
        ({"set": {"ocp-apim-subscription-key": "x"}}, "where keys stand"),
        ({"set": {"Cookie": "a=b"}}, "where keys stand"),
        ({"set": {"X-Outrider-Decision": "x"}}, "the sidecar's own"),
        ({"remove": ["x-outrider-request-id"]}, "the sidecar's own"),
        ({"set": {"content-length": "1"}}, "frames the message"),
        ({"set": {"Transfer-Encoding": "chunked"}}, "frames the message"),
        ({"remove": ["host"]}, "frames the message"),
        ({"set": {"connection": "x-a"}}, "frames the message"),
        ({"set": {"Content-Type": "text/plain"}}, "how the body is to be read"),
        ({"set": {"accept-encoding": "br"}}, "how the body is to be read"),
        ({"set": {"X-HTTP-Method-Override": "DELETE"}}, "which operation"),
        ({"set": {"x-amz-content-sha256": "x"}}, "where keys stand"),
        ({"set": {"Sec-WebSocket-Extensions": "x"}}, "belongs to the connection"),
        ({"set": {"x a": "b"}}, "no name of a header"),
        ({"set": {"x-a:": "b"}}, "no name of a header"),
        ({"set": {"x-a": "b\r\nauthorization: c"}}, "visible ASCII"),
        ({"set": {"x-a": ""}}, "visible ASCII"),
        ({"set": {"x-a": " b"}}, "visible ASCII"),
        ({"set": {"x-a": "é"}}, "visible ASCII"),
        ({"set": {"X-A": "b"}, "remove": ["x-a"]}, "both sets and removes"),
        ({"remove": []}, "at least one header"),
        ({}, "at least one header"),
    ],
)
def test_a_header_that_no_rule_may_touch_is_refused_when_the_file_is_loaded(
    tmp_path: Path, headers: dict[str, Any], why: str
) -> None:
    from outrider.config import ConfigError

    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump({"rules": [{"id": "a", "description": "d", **rewrites(**headers)}]}))
    with pytest.raises(ConfigError, match=why) as caught:
        load_pack(path, {})
    assert str(caught.value).startswith(f"{path}:")
    assert "rules[0].then.rewrite.headers" in str(caught.value)


def test_every_slot_of_a_key_is_refused() -> None:
    for provider in BUILT_IN.values():
        for name in (*provider.slots.headers, *SECRET_HEADERS):
            assert name_problem(name.title()) is not None, name


def test_of_two_changes_of_a_header_the_later_holds() -> None:
    edits = combined([{"X-A": "1", "x-b": "2"}, {"x-a": None}, {"X-B": "3", "Anthropic-Beta": "y"}])
    assert edits is not None
    assert edits.lines == b"x-b: 3\r\nanthropic-beta: y\r\n"
    assert (edits.drop, edits.drop_names) == (http1.mask_of(b"anthropic-beta"), frozenset({b"x-a", b"x-b"}))
    assert combined([]) is None


def test_a_rule_that_changes_the_head_alone_needs_no_body(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump({"rules": [{"id": "a", "description": "d", **rewrites(set={"x-a": "1"})}]}))
    route = RuleSet(load_pack(path, {}).rules).on_route(facts_for(Asked()))
    assert route is not None
    assert not route.can_be_late
    assert not route.can_need_body
    for upgrade in (False, True):
        plan = route.plan(ANONYMOUS, "forward", upgrade)
        assert plan.is_final
        assert plan.outcome.head_edits().lines == b"x-a: 1\r\n"  # type: ignore[union-attr]
