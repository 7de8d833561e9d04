"""Rules about a target that the app did not address."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from outrider.errors import SidecarError
from outrider.stack.call import Call, Route
from outrider.stack.cheap_rules import Rules
from outrider.stack.target_rules import TargetRules
from outrider.telemetry.metrics import Metrics
from support.exchanges import exchange, snapshot

PROVIDERS: dict[str, Any] = {
    "openai": {},
    "anthropic": {},
    "eu": {"kind": "openai", "hosts": ["llm.eu.example"]},
}
BODY = json.dumps({"model": "gpt-5", "messages": [{"role": "user", "content": "call me at noon, Ada"}]}).encode()


class Calls:
    """One call to OpenAI, and the question whether it may go elsewhere."""

    def __init__(self, folder: Path, *rules: dict[str, Any], **file: Any) -> None:
        path = folder / "mine.yaml"
        named = [{"id": f"r{at}", "description": f"Rule {at}", **rule} for at, rule in enumerate(rules)]
        path.write_text(yaml.safe_dump({**file, "rules": named}))
        self.snapshot = snapshot(folder, PROVIDERS, policies=[str(path)])
        assert self.snapshot.policies is not None
        self.rules = TargetRules(Rules(self.snapshot.policies.rules, Metrics(), cap_bytes=1 << 20))
        self.front = self.route("openai", b"/v1/chat/completions")
        self.call = Call(self.front, b"1")

    def route(self, name: str, path: bytes) -> Route:
        binding = self.snapshot.registry.by_name(name)
        assert binding is not None
        assert binding.origin is not None
        return self.snapshot._make_route(binding, binding.origin[1], 443, True, b"POST", path, 0, None)

    def refusal(self, name: str, model: str, path: bytes = b"/v1/chat/completions") -> SidecarError | None:
        head = b"POST /openai/v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1:8484\r\ncontent-length: %d\r\n\r\n"
        x = exchange(head % len(BODY), body=BODY)
        return self.rules.refusal(x, self.call, self.route(name, path), model)


def test_without_a_rule_every_target_may_be_used(tmp_path: Path) -> None:
    calls = Calls(tmp_path, {"match": {"provider": "mistral"}, "then": "deny"})
    assert calls.refusal("anthropic", "claude-x", b"/v1/messages") is None


@pytest.mark.parametrize(
    "rule",
    [
        {"match": {"provider": "anthropic"}, "then": "deny"},
        {"match": {"host": "*.anthropic.com"}, "then": "deny"},
        {"match": {"model": "claude-*"}, "then": "deny"},
        {"match": {"provider": "anthropic"}, "when": "request.text.contains('Ada')", "then": "deny"},
    ],
)
def test_a_target_is_judged_as_if_the_app_had_addressed_it(tmp_path: Path, rule: dict[str, Any]) -> None:
    calls = Calls(tmp_path, rule)
    refused = calls.refusal("anthropic", "claude-x", b"/v1/messages")
    assert refused is not None
    assert (refused.code, getattr(refused, "rule", "")) == ("policy_denied", "mine/r0")
    assert calls.refusal("eu", "gpt-5") is None


def test_a_condition_that_does_not_hold_for_these_words_lets_the_target_be_used(tmp_path: Path) -> None:
    rule = {"match": {"provider": "anthropic"}, "when": "request.text.contains('Grace')", "then": "deny"}
    assert Calls(tmp_path, rule).refusal("anthropic", "claude-x", b"/v1/messages") is None


def test_what_only_some_hosts_may_see_goes_to_no_other(tmp_path: Path) -> None:
    rule = {"match": {}, "except": {"host": "*.eu.example"}, "then": "deny"}
    calls = Calls(tmp_path, rule)
    assert calls.refusal("eu", "gpt-5") is None
    assert calls.refusal("anthropic", "claude-x", b"/v1/messages") is not None


@pytest.mark.parametrize(
    "then", [{"rewrite": {"set": {"store": False}}}, {"redact": {"detectors": ["email"], "action": "mask"}}]
)
def test_a_change_that_the_call_has_not_had_is_missed(tmp_path: Path, then: dict[str, Any]) -> None:
    calls = Calls(tmp_path, {"match": {"provider": "eu"}, "then": then})
    refused = calls.refusal("eu", "gpt-5")
    assert refused is not None
    assert "mine/r0" in str(refused)
    assert calls.refusal("anthropic", "claude-x", b"/v1/messages") is None
    calls.call.rules = ("mine/r0",)
    if "rewrite" in then:
        assert calls.refusal("eu", "gpt-5") is None, "it has been carried out"
