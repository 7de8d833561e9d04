"""Planted values on every path through the whole sidecar: none at the provider or in a log, the app's answer right."""

import gzip
import json
import zlib
from pathlib import Path
from typing import Any

import httpx
import pytest

from e2e.conftest import Start
from e2e.rig import Ride
from outrider_ext.eventstream import EventStreamReader

MAIL, CARD = "ada.planted@example.com", "4111 1111 1111 1111"
KEY = "sk-ant-api03-PLANTEDplantedPLANTED00"
PLANTED = (MAIL, CARD, KEY, "ada.planted")
TEXT = f"write to {MAIL} about {CARD} with {KEY} now"
PSEUDONYMS = {"always": [{"detectors": ["pii"], "action": "pseudonymise"}, {"detectors": ["secrets"]}]}
MASKS = {"always": [{"detectors": ["pii", "secrets"]}]}


def client(ride: Ride) -> httpx.Client:
    shown = ride.placeholder
    headers = {
        "authorization": f"Bearer {shown}",
        "x-api-key": shown,
        "x-goog-api-key": shown,
        "anthropic-version": "2023-06-01",
    }
    return httpx.Client(trust_env=False, timeout=120, headers=headers)


CHAT = "/v1/chat/completions"
GENERATE = "/v1beta/models/gemini-2.5-flash"
CLAUDE = "/model/anthropic.claude-3-5-sonnet-20241022-v2:0"
USER = [{"role": "user", "content": TEXT}]
CALLS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "chat": ("openai", CHAT, {"model": "gpt-4o", "messages": [{"role": "user", "content": TEXT}]}),
    "chat stream": ("openai", CHAT, {"model": "gpt-4o", "stream": True, "messages": USER}),
    "responses": ("openai", "/v1/responses", {"model": "gpt-4o", "input": TEXT}),
    "responses stream": ("openai", "/v1/responses", {"model": "gpt-4o", "input": TEXT, "stream": True}),
    "anthropic": (
        "anthropic",
        "/v1/messages",
        {"model": "claude-sonnet-4-6", "max_tokens": 99, "messages": [{"role": "user", "content": TEXT}]},
    ),
    "anthropic stream": (
        "anthropic",
        "/v1/messages",
        {"model": "claude-sonnet-4-6", "max_tokens": 99, "stream": True, "messages": USER},
    ),
    "gemini": ("gemini", f"{GENERATE}:generateContent", {"contents": [{"role": "user", "parts": [{"text": TEXT}]}]}),
    "gemini sse": (
        "gemini",
        f"{GENERATE}:streamGenerateContent?alt=sse",
        {"contents": [{"role": "user", "parts": [{"text": TEXT}]}]},
    ),
    "gemini array": (
        "gemini",
        f"{GENERATE}:streamGenerateContent",
        {"contents": [{"role": "user", "parts": [{"text": TEXT}]}]},
    ),
    "converse": ("bedrock", f"{CLAUDE}/converse", {"messages": [{"role": "user", "content": [{"text": TEXT}]}]}),
    "converse stream": (
        "bedrock",
        f"{CLAUDE}/converse-stream",
        {"messages": [{"role": "user", "content": [{"text": TEXT}]}]},
    ),
}  # fmt: skip


def said(answer: httpx.Response) -> str:
    """The answer's text, put together by an app that knows no dialect: every string under a key that holds text."""
    kind = answer.headers["content-type"]
    if kind.startswith("application/vnd.amazon.eventstream"):
        values = [json.loads(one.payload) for one in EventStreamReader().receive_data(answer.content)]
    elif kind.startswith("text/event-stream"):
        data = [line[6:] for line in answer.text.split("\n") if line.startswith("data: {")]
        values = [json.loads(line) for line in data]
    else:
        values = [json.loads(answer.text)]
    return "".join(_texts(values))


def _texts(value: Any) -> list[str]:
    if isinstance(value, list):
        return [text for one in value for text in _texts(one)]
    if not isinstance(value, dict) or str(value.get("type", "")).endswith((".done", ".completed")):
        return []
    found = []
    for key, one in value.items():
        if isinstance(one, str) and (key in ("text", "content") or (key == "delta" and "type" in value)):
            found.append(one)
        else:
            found += _texts(one)
    return found


@pytest.mark.parametrize("name", CALLS)
def test_the_provider_sees_pseudonyms_and_the_app_its_own_words(start: Start, name: str) -> None:
    ride = start(redact=PSEUDONYMS)
    provider, path, body = CALLS[name]
    with client(ride) as app:
        answer = app.post(ride.base(provider) + path, json=body)
    assert answer.status_code == 200, answer.text
    for planted in PLANTED:
        assert planted.encode() not in ride.wire
    assert f"Echo: write to {MAIL} about {CARD} with [ANTHROPIC_KEY] now" in said(answer)
    assert b"\xe2\x80\xb9EMAIL_1_" in ride.wire or b"\\u2039EMAIL_1_" in ride.wire
    if "content-length" in answer.headers:
        assert int(answer.headers["content-length"]) == len(answer.content)


@pytest.mark.parametrize("name", ["chat", "chat stream", "anthropic stream", "converse stream"])
def test_an_answer_that_holds_a_value_is_masked(start: Start, name: str) -> None:
    ride = start(redact={"always": [{"detectors": ["pii", "secrets"], "where": ["answer"]}]})
    provider, path, body = CALLS[name]
    with client(ride) as app:
        answer = app.post(ride.base(provider) + path, json=body)
    assert MAIL.encode() in ride.wire
    assert "write to [EMAIL] about [PAYMENT_CARD] with [ANTHROPIC_KEY] now" in said(answer)


BODIES: dict[str, tuple[dict[str, str], bytes]] = {
    "plain": ({}, json.dumps(CALLS["chat"][2]).encode()),
    "\\u escapes": ({}, json.dumps(CALLS["chat"][2]).replace("4", "\\u0034").replace("@", "\\u0040").encode()),
    "pretty": ({}, json.dumps(CALLS["chat"][2], indent=2).encode()),
    "behind a line end": ({}, json.dumps(CALLS["chat"][2]).replace(" with ", "\\n").replace(" about ", "\\t").encode()),
    "surrogate pairs": ({}, json.dumps(CALLS["chat"][2]).replace("write", "\\ud83d\\ude00").encode()),
    "gzip": ({"content-encoding": "gzip"}, gzip.compress(json.dumps(CALLS["chat"][2]).encode())),
    "charset": ({"content-type": "application/json; charset=utf-8"}, json.dumps(CALLS["chat"][2]).encode()),
    "slashes": ({}, json.dumps(CALLS["chat"][2]).replace("write to ", "\\/").encode()),
}


@pytest.mark.parametrize("name", BODIES)
def test_however_the_body_is_written_nothing_planted_leaves(start: Start, tmp_path: Path, name: str) -> None:
    log = tmp_path / "log.jsonl"
    ride = start(redact=MASKS, telemetry={"log": str(log), "log_level": "debug"})
    headers, body = BODIES[name]
    with client(ride) as app:
        answer = app.post(
            ride.base("openai") + CHAT, content=body, headers={"content-type": "application/json", **headers}
        )
    assert answer.status_code == 200, answer.text
    sent = json.loads(ride.entry.body)["messages"][0]["content"]
    assert "[EMAIL]" in sent
    assert "[PAYMENT_CARD]" in sent
    assert "[ANTHROPIC_KEY]" in sent
    ride.settled()
    seen = ride.wire + log.read_bytes()
    for planted in PLANTED:
        assert planted.encode() not in seen
    assert "content-encoding" not in dict(ride.entry.headers)
    rows = {(at["detector"], at["action"], at["where"]): n for at, n in ride.metric("outrider_redactions_total")}
    assert rows["email", "mask", "request"] == 1


def test_a_body_without_a_hit_stays_byte_for_byte(start: Start) -> None:
    ride = start(redact=MASKS)
    body = b'{ "model" :"gpt-4o", "messages":[{"role":"user","content":"hello \\u00e9\\n 1e2"}], "temperature": 1.0e0 }'
    with client(ride) as app:
        app.post(ride.base("openai") + CHAT, content=body, headers={"content-type": "application/json"})
    assert ride.entry.body == body


NESTED: dict[str, dict[str, Any]] = {
    "system": {"messages": [{"role": "system", "content": TEXT}, {"role": "user", "content": "hi"}]},
    "parts": {"messages": [{"role": "user", "content": [{"type": "text", "text": TEXT}]}]},
    "tool result": {
        "messages": [
            {"role": "user", "content": "hi"},
            {"role": "assistant", "content": None, "tool_calls": [
                {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": json.dumps({"q": TEXT})}}]},
            {"role": "tool", "tool_call_id": "call_1", "content": TEXT},
        ]
    },
    "metadata": {"messages": [{"role": "user", "content": "hi"}], "user": MAIL, "metadata": {"note": TEXT}},
    "tool description": {
        "messages": [{"role": "user", "content": "hi"}],
        "tools": [
            {"type": "function", "function": {"name": "f", "description": TEXT, "parameters": {"type": "object"}}}
        ],
        "tool_choice": "none",
    },
}  # fmt: skip


@pytest.mark.parametrize("name", NESTED)
def test_wherever_the_text_stands_nothing_planted_leaves(start: Start, name: str) -> None:
    ride = start(redact=MASKS)
    with client(ride) as app:
        app.post(ride.base("openai") + CHAT, json={"model": "gpt-4o", **NESTED[name]})
    assert b"[EMAIL]" in ride.entry.body
    for planted in PLANTED:
        assert planted.encode() not in ride.wire


def test_a_blocked_request_goes_nowhere_and_the_refusal_names_no_value(start: Start) -> None:
    ride = start(redact={"always": [{"detectors": ["secrets"], "action": "block"}]})
    with client(ride) as app:
        answer = app.post(ride.base("openai") + CHAT, json=CALLS["chat"][2])
    assert answer.status_code == 403
    assert "anthropic_key" in answer.json()["error"]["message"]
    assert KEY not in answer.text
    assert not ride.mock.journal


def test_a_blocked_answer_does_not_arrive(start: Start) -> None:
    ride = start(redact={"always": [{"detectors": ["email"], "action": "block", "where": "answer"}]})
    with client(ride) as app:
        plain = app.post(ride.base("openai") + CHAT, json=CALLS["chat"][2])
        assert plain.status_code == 403
        assert MAIL not in plain.text
        got, ended = b"", True
        with app.stream("POST", ride.base("openai") + CHAT, json=CALLS["chat stream"][2]) as answer:
            try:
                for piece in answer.iter_raw():
                    got += piece
            except httpx.RemoteProtocolError:
                ended = False
    assert b"planted" not in got
    # If some of it had been passed on it is cut off, or ends in the dialect's own error.
    is_told = not ended or b'"error"' in got
    assert answer.status_code in ((200, 403) if is_told else (403,))


def test_a_websocket_is_refused_where_it_would_have_to_be_read(start: Start) -> None:
    ride = start(redact=MASKS)
    upgrade = {
        "connection": "Upgrade",
        "upgrade": "websocket",
        "sec-websocket-version": "13",
        "sec-websocket-key": "AAAAAAAAAAAAAAAAAAAAAA==",
    }
    with client(ride) as app:
        answer = app.get(ride.base("openai") + "/v1/realtime?model=gpt-realtime", headers=upgrade)
    assert answer.status_code == 403
    assert "WebSocket" in answer.text


def test_an_unknown_coding_of_the_body_is_refused(start: Start) -> None:
    ride = start(redact=MASKS)
    body = zlib.compress(json.dumps(CALLS["chat"][2]).encode())
    with client(ride) as app:
        answer = app.post(ride.base("openai") + CHAT, content=body, headers={"content-encoding": "deflate"})
    assert answer.status_code == 400
    assert not ride.mock.journal


def test_a_multipart_body_is_redacted_part_by_part(start: Start) -> None:
    ride = start(redact=MASKS)
    noise = bytes(range(256)) * 4
    with client(ride) as app:
        app.post(
            ride.base("openai") + "/v1/audio/transcriptions",
            files={"file": ("a.wav", noise, "audio/wav")},
            data={"model": "whisper-1", "prompt": TEXT},
        )
    assert noise in ride.wire
    for planted in PLANTED:
        assert planted.encode() not in ride.wire


def test_an_unknown_endpoint_is_redacted_too(start: Start) -> None:
    ride = start(redact=MASKS)
    with client(ride) as app:
        own = {"authorization": "Bearer sk-of-the-app", "x-api-key": "", "x-goog-api-key": ""}
        app.post(ride.base("openai") + "/v1/somewhere/new", json={"odd": [{"shape": TEXT}]}, headers=own)
    assert b"[EMAIL]" in ride.wire
    for planted in PLANTED:
        assert planted.encode() not in ride.wire


def test_usage_is_counted_as_before(start: Start) -> None:
    ride = start(redact=PSEUDONYMS)
    with client(ride) as app:
        answer = app.post(ride.base("openai") + CHAT, json=CALLS["chat stream"][2])
    assert '"usage":{' not in answer.text  # we asked for it, not the app
    assert ride.tokens()["openai", "gpt-4o", "output"] > 0
