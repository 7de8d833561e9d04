"""Rules in a running sidecar: what leaves, what is refused and in whose words, what is counted, what a reload does."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from attacks.test_rules import JSON, Attack, by_base_url, governed
from outrider.config import load
from outrider.mock import MockProvider
from outrider.runtime import Sidecar
from support.exchanges import call, exchange, snapshot
from support.running import KEY, client_of, get, post, settings, total

CHAT = b"/openai/v1/chat/completions"
AWS = {
    "AWS_ACCESS_KEY_ID": "AKIAREALREALREALREAL",
    "AWS_SECRET_ACCESS_KEY": "REALawssecret/0123456789+abcdefghijklmnop",
}


def rules_file(folder: Path, *rules: dict[str, Any], name: str = "mine", **file: Any) -> str:
    path = folder / f"{name}.yaml"
    named = [{"id": f"r{at}", "description": f"Rule {at}", **rule} for at, rule in enumerate(rules)]
    path.write_text(yaml.safe_dump({**file, "rules": named}))
    return str(path)


async def sent(sidecar: Sidecar, body: bytes, *, path: bytes = CHAT, more: bytes = b"") -> tuple[bytes, bytes]:
    """(head, body) of the answer."""
    peer = await client_of(sidecar)
    try:
        key = b"authorization: Bearer " + sidecar.placeholder.value.encode() + b"\r\n"
        await peer.send(post(sidecar, body, path, key + more))
        return await peer.answer()
    finally:
        peer.close()


def chat(**more: Any) -> bytes:
    return json.dumps({"model": "gpt-5", "messages": [{"role": "user", "content": "hi"}], **more}).encode()


REWRITE: dict[str, Any] = {"then": {"rewrite": {"max_tokens": 7, "set": {"store": False}, "remove": ["user"]}}}


@pytest.mark.parametrize("packed", [False, True])
async def test_a_rewritten_body_leaves_plain_with_its_own_length(tmp_path: Path, packed: bool) -> None:
    async with governed(tmp_path, [rules_file(tmp_path, REWRITE)]) as (sidecar, mock):
        body = chat(user="me", max_tokens=99)
        more = b"content-type: application/json\r\n"
        if packed:
            body, more = gzip.compress(body), more + b"content-encoding: gzip\r\n"
        head, _ = await sent(sidecar, body, more=more)
        assert head.startswith(b"HTTP/1.1 200")
        entry = mock.journal[-1]
        left = json.loads(entry.body)
        assert (left["max_tokens"], left["store"]) == (7, False)
        assert "user" not in left
        assert entry.header("content-encoding") is None
        assert entry.all("content-length") == [str(len(entry.body))]


async def test_what_no_rule_changes_leaves_byte_for_byte(tmp_path: Path) -> None:
    reads = {"when": "request.text.contains('nothing')", "then": "deny"}
    async with governed(tmp_path, [rules_file(tmp_path, reads, {**REWRITE, "mode": "shadow"})]) as (sidecar, mock):
        body = gzip.compress(chat())
        await sent(sidecar, body, more=b"content-encoding: gzip\r\n")
        assert mock.journal[-1].body == body
        assert mock.journal[-1].header("content-encoding") == "gzip"
        assert total(sidecar, "outrider_rule_decisions_total", rule="mine/r1", mode="shadow") == 1


HEADERS: dict[str, Any] = {"set": {"X-Keep": "no", "OpenAI-Project": "ours"}, "remove": ["x-debug"]}


def left(entry: Any, *names: str) -> dict[str, list[str]]:
    return {name: entry.all(name) for name in names}


@pytest.mark.parametrize("body", [chat(), chat(stream=True)])
async def test_headers_leave_as_rules_say_and_the_rest_as_it_came(tmp_path: Path, body: bytes) -> None:
    async with governed(tmp_path, [rules_file(tmp_path, {"then": {"rewrite": {"headers": HEADERS}}})]) as (
        sidecar,
        mock,
    ):
        more = JSON + b"x-keep: yes\r\nX-KEEP: always\r\nopenai-project: theirs\r\nx-debug: 1\r\nx-other: 2\r\n"
        head, _ = await sent(sidecar, body, more=more)
        assert head.startswith(b"HTTP/1.1 200"), head
        found = left(mock.journal[-1], "x-keep", "openai-project", "x-debug", "x-other", "authorization")
        assert found.pop("authorization") == [f"Bearer {KEY}"]
        assert found == {"x-keep": ["no"], "openai-project": ["ours"], "x-debug": [], "x-other": ["2"]}
        assert json.loads(mock.journal[-1].body).items() >= json.loads(body).items()


@pytest.mark.parametrize("when", ["request.messages == 1", "request.headers['x-team'] == 'a'"])
async def test_a_condition_decides_whether_headers_are_changed(tmp_path: Path, when: str) -> None:
    rule = {"when": when, "then": {"rewrite": {"headers": {"set": {"x-keep": "no"}}, "max_tokens": 5}}}
    async with governed(tmp_path, [rules_file(tmp_path, rule, {**rule, "mode": "shadow"})]) as (sidecar, mock):
        await sent(sidecar, chat(), more=JSON + b"x-team: a\r\n")
        assert left(mock.journal[-1], "x-keep") == {"x-keep": ["no"]}
        assert json.loads(mock.journal[-1].body)["max_completion_tokens"] == 5
        await sent(sidecar, chat(messages=[]), more=b"x-team: b\r\nx-keep: yes\r\n")
        assert left(mock.journal[-1], "x-keep") == {"x-keep": ["yes"]}


async def test_a_shadow_rule_and_one_that_erred_change_no_header(tmp_path: Path) -> None:
    change = {"rewrite": {"headers": {"set": {"x-keep": "no"}}}}
    failing = {"rewrite": {**change["rewrite"], "system_preamble": "x"}}
    rules = ({"then": change, "mode": "shadow"}, {"then": failing, "on_error": "allow"})
    async with governed(tmp_path, [rules_file(tmp_path, *rules)]) as (sidecar, mock):
        body, more = b'{"model":"text-embedding-3-small","input":"x"}', JSON + b"x-keep: yes\r\n"
        head, _ = await sent(sidecar, body, path=b"/openai/v1/embeddings", more=more)
        assert head.startswith(b"HTTP/1.1 200"), head
        assert left(mock.journal[-1], "x-keep") == {"x-keep": ["yes"]}


async def test_headers_are_changed_where_no_body_is(tmp_path: Path) -> None:
    async with governed(tmp_path, [rules_file(tmp_path, {"then": {"rewrite": {"headers": HEADERS}}})]) as (
        sidecar,
        mock,
    ):
        peer = await client_of(sidecar)
        key = b"authorization: Bearer " + sidecar.placeholder.value.encode() + b"\r\n"
        await peer.send(get(sidecar, b"/openai/v1/models", key + b"connection: x-keep\r\nx-keep: yes\r\n"))
        assert (await peer.head()).startswith(b"HTTP/1.1 200")
        peer.close()
        assert left(mock.journal[-1], "x-keep") == {"x-keep": ["no"]}


async def test_headers_of_a_signed_request_leave_beside_the_signature(tmp_path: Path) -> None:
    pair = ":".join(AWS.values())
    async with MockProvider(keys={"bedrock": pair}) as mock:
        provider = {"region": "us-east-1", "connect_to": mock.http_url, "credential": {"env": "AWS_ACCESS_KEY_ID"}}
        policies = [rules_file(tmp_path, {"then": {"rewrite": {"headers": HEADERS}}})]
        sidecar = Sidecar(load(settings(tmp_path, {"bedrock": provider}, policies=policies), AWS), AWS)
        await sidecar.start()
        try:
            body = b'{"messages":[{"role":"user","content":[{"text":"hi"}]}]}'
            head, _ = await sent(sidecar, body, path=b"/bedrock/model/anthropic.claude-3-haiku/converse", more=JSON)
            assert head.startswith(b"HTTP/1.1 200"), head
            assert left(mock.journal[-1], "x-keep") == {"x-keep": ["no"]}
        finally:
            await sidecar.stop()


async def test_numbers_that_a_rewrite_does_not_touch_keep_their_spelling(tmp_path: Path) -> None:
    text = (
        b'{ "model":"gpt-5", "user":"me", "n": 1.0, "big":123456789012345678901234567890, "e":[1e5, -0.10],'
        b'\r\n "t":"\\u00e9" }'
    )
    async with governed(tmp_path, [rules_file(tmp_path, REWRITE)]) as (sidecar, mock):
        await sent(sidecar, text, more=JSON)
        body = mock.journal[-1].body
        assert body == (
            b'{"model":"gpt-5","n": 1.0,"big":123456789012345678901234567890,"e":[1e5, -0.10],"t":"\\u00e9",'
            b'"max_completion_tokens":7,"store":false}'
        )


async def test_a_route_asks_for_another_model_and_records_it(tmp_path: Path) -> None:
    route = {"match": {"model": "gpt-5"}, "then": {"route": {"model": "gpt-5-mini"}}}
    async with governed(tmp_path, [rules_file(tmp_path, route)]) as (sidecar, mock):
        await sent(sidecar, chat(stream=True))
        assert json.loads(mock.journal[-1].body)["model"] == "gpt-5-mini"
        assert total(sidecar, "outrider_requests_total", model="gpt-5-mini") == 1


async def test_a_signature_is_over_the_body_as_it_leaves(tmp_path: Path) -> None:
    pair = ":".join(AWS.values())
    async with MockProvider(keys={"bedrock": pair}) as mock:
        provider = {"region": "us-east-1", "connect_to": mock.http_url, "credential": {"env": "AWS_ACCESS_KEY_ID"}}
        policies = [rules_file(tmp_path, {"then": {"rewrite": {"max_tokens": 7}}})]
        path = settings(tmp_path, {"bedrock": provider}, policies=policies)
        sidecar = Sidecar(load(path, AWS), AWS)
        await sidecar.start()
        try:
            body = b'{"messages":[{"role":"user","content":[{"text":"hi"}]}]}'
            more = b"content-type: application/json\r\n"
            head, _ = await sent(sidecar, body, path=b"/bedrock/model/anthropic.claude-3-haiku/converse", more=more)
            assert head.startswith(b"HTTP/1.1 200"), head
            assert json.loads(mock.journal[-1].body)["inferenceConfig"] == {"maxTokens": 7}
            assert "AWS4-HMAC-SHA256" in str(mock.journal[-1].header("authorization"))
        finally:
            await sidecar.stop()


@pytest.mark.parametrize(
    ("path", "body", "read"),
    [
        (CHAT, chat(), lambda answer: answer["error"]["message"]),
        (b"/bedrock/model/gpt-5/converse", b"{}", lambda answer: answer["message"]),
        (b"/gemini/v1beta/models/gpt-5:generateContent", b"{}", lambda answer: answer["error"]["message"]),
    ],
)
async def test_a_refusal_is_in_the_apps_dialect_and_names_its_rule(
    tmp_path: Path, path: bytes, body: bytes, read: Callable[[Any], str]
) -> None:
    deny = {"match": {"model": "gpt-5"}, "then": {"deny": {"status": 402, "message": "Ask finance first"}}}
    async with governed(tmp_path, [rules_file(tmp_path, deny)]) as (sidecar, mock):
        head, answer = await sent(sidecar, body, path=path)
        assert head.startswith(b"HTTP/1.1 402 ")
        for line in (b"x-outrider-error: policy_denied", b"x-outrider-decision: mine/r0", b"x-should-retry: false"):
            assert line in head
        assert read(json.loads(answer)) == "Ask finance first (rule mine/r0 of the sidecar's policies)"
        assert len(mock.journal) == 0
        assert total(sidecar, "outrider_rule_decisions_total", rule="mine/r0", mode="enforce") == 1


async def test_a_call_knows_what_rules_decided(tmp_path: Path) -> None:
    rules = (
        {"then": {"redact": {"detectors": ["pii"]}}},
        {"match": {"model": "gpt-*"}, "then": {"tag": ["t"]}},
        {"match": {"model": "gpt-*"}, "then": "deny", "mode": "shadow"},
        {"when": "request.headers['x-team'] == 'a'", "then": {"tag": "team-a"}},
    )
    whole = snapshot(tmp_path, {}, policies=[rules_file(tmp_path, *rules)])
    head = b"POST " + CHAT + b" HTTP/1.1\r\nhost: 127.0.0.1:8484\r\nX-Team: a\r\n\r\n"
    x = exchange(head, body=chat())
    route = whole.router.find(x)
    one = call(route)
    for hook in (*route.request_hooks, *route.body_hooks):
        assert hook(x, one) is None
    assert one.rules == ("mine/r0", "mine/r1", "mine/r3")
    assert one.shadow_rules == ("mine/r2",)
    assert one.tags == ("t", "team-a")
    assert [redaction.detectors for redaction in one.redactions] == [("pii",)]
    assert one.needs_body


def test_a_route_that_no_rule_can_apply_to_has_no_hook(tmp_path: Path) -> None:
    rules = [rules_file(tmp_path, {"match": {"operation": "chat", "model": "x"}, "then": "deny"})]
    (tmp_path / "without").mkdir()
    for target in (b"/openai/v1/models", b"/openai/v1/embeddings"):
        x = exchange(b"POST " + target + b" HTTP/1.1\r\nhost: 127.0.0.1:8484\r\n\r\n")
        hooks = [
            len(route.request_hooks) + len(route.body_hooks)
            for route in (
                snapshot(tmp_path, {}, policies=rules).router.find(x),
                snapshot(tmp_path / "without", {}).router.find(x),
            )
        ]
        assert hooks[0] == hooks[1]


async def test_what_costs_nothing_is_not_imported() -> None:
    import subprocess
    import sys

    code = (
        "import sys, outrider.runtime\n"
        "from outrider.config.values import PolicyUse\n"
        "from outrider.govern.packs import load_policies\n"
        "load_policies([PolicyUse('baseline'), PolicyUse('pii')])\n"
        "print('cel' in sys.modules, 're2' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["False", "False"], done.stderr


# -- reload


async def test_a_changed_rule_file_is_in_force_and_a_broken_one_changes_nothing(tmp_path: Path) -> None:
    deny = {"match": {"model": "gpt-5"}, "then": "deny"}
    path = rules_file(tmp_path, deny)
    attack = Attack("", "openai", b"/v1/chat/completions", chat())
    async with governed(tmp_path, [path]) as (sidecar, mock):
        key = sidecar.placeholder.value.encode()
        assert sidecar._watched == (tmp_path / "outrider.yaml", Path(path))
        assert (await by_base_url(sidecar, attack, key)).startswith(b"HTTP/1.1 403")
        Path(path).write_text("rules: [{id: a}]")
        sidecar.reload_from_file()
        assert total(sidecar, "outrider_events_total", event="reload_failed") == 1
        assert (await by_base_url(sidecar, attack, key)).startswith(b"HTTP/1.1 403")
        rules_file(tmp_path, {**deny, "match": {"model": "gpt-4"}})
        sidecar.reload_from_file()
        assert (await by_base_url(sidecar, attack, key)).startswith(b"HTTP/1.1 200")
        assert len(mock.journal) == 1


async def test_other_files_are_watched_when_the_policies_are_others(tmp_path: Path) -> None:
    first, second = rules_file(tmp_path, name="first"), rules_file(tmp_path, name="second")
    async with governed(tmp_path, [first]) as (sidecar, _):
        text = (tmp_path / "outrider.yaml").read_text()
        (tmp_path / "outrider.yaml").write_text(text.replace(first, second))
        sidecar.reload_from_file()
        assert sidecar._watched[1:] == (Path(second),)


async def test_a_get_without_a_body_meets_rules_that_read_one(tmp_path: Path) -> None:
    """An empty body is read as one that says nothing."""
    async with governed(tmp_path, [rules_file(tmp_path, {"when": "request.text != ''", "then": "deny"})]) as (
        sidecar,
        mock,
    ):
        peer = await client_of(sidecar)
        key = b"authorization: Bearer " + sidecar.placeholder.value.encode() + b"\r\n"
        await peer.send(get(sidecar, b"/openai/v1/models", key))
        assert (await peer.head()).startswith(b"HTTP/1.1 200")
        peer.close()
        assert len(mock.journal) == 1
