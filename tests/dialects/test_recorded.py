"""Recorded traffic of real providers, translated to each other dialect and read by that dialect's official SDK."""

import json
from collections import Counter
from functools import cache
from typing import Any

import pytest

from outrider.dialects.base import UnreadableError
from outrider.dialects.carry import CannotCarryError
from outrider.dialects.translate import Translation
from support import vectors
from support.sdk_judges import ANSWERS, RECORDINGS, STREAMS, Reading, adapter, request_type
from support.sdk_types import problems

SOURCES = tuple(ANSWERS)
MODELS = {
    "openai.chat": "gpt-5",
    "openai.completions": "gpt-3.5-turbo-instruct",
    "openai.responses": "gpt-5",
    "anthropic.messages": "claude-opus-4-8",
}
# Recorded under a dialect's path, and not in it.
UNLIKE = {"https://api.writer.com/v1/completions": 'of another kind ({"value": ...} events)'}
PAIRS = [(source, target) for source in SOURCES for target in SOURCES if source != target]


@cache
def exchanges(source: str) -> list[dict[str, Any]]:
    """Those of one dialect that succeeded."""
    return [row for row in vectors.rows("exchanges") if row["kind"] == source and row["status"] < 300]


def body_of(row: dict[str, Any]) -> dict[str, Any] | None:
    try:
        value = json.loads(row["req"])
    except (json.JSONDecodeError, TypeError):
        return None
    return value if type(value) is dict and "model" in value else None


def report(capsys: pytest.CaptureFixture[str], title: str, counted: Counter[str]) -> None:
    with capsys.disabled():
        print(f"\n{title}: " + ", ".join(f"{number} {what}" for what, number in counted.most_common()))


@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_a_recorded_request_is_accepted_by_the_types_of_the_targets_sdk(
    source: str, target: str, capsys: pytest.CaptureFixture[str]
) -> None:
    counted: Counter[str] = Counter()
    wrong = []
    for row in exchanges(source):
        body = body_of(row)
        if body is None:
            counted["not a request body"] += 1
            continue
        try:
            written, request = Translation(adapter(source), adapter(target)).request(body, target_model=MODELS[target])
        except CannotCarryError as refusal:
            counted[f"refused for {refusal.feature}"] += 1
            continue
        counted["translated"] += 1
        found = problems(written.body | {"stream": True}, request_type(target))
        wrong += [(row["url"], found)] if found else []
        assert request.model == written.body["model"] == MODELS[target]
    report(capsys, f"requests {source} -> {target}", counted)
    assert not wrong, wrong[:5]
    assert counted["translated"] > 25


@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_a_recorded_answer_says_the_same_to_the_targets_sdk(
    source: str, target: str, capsys: pytest.CaptureFixture[str]
) -> None:
    counted: Counter[str] = Counter()
    for row in exchanges(source):
        answer = row.get("resp")
        if row["stream"] or not answer:
            continue
        counted["answers"] += 1
        translation = asked(source, target, row)
        try:
            translated = translation.answer(answer.encode())
        except UnreadableError as exc:
            counted[f"unreadable ({exc})"] += 1
            continue
        compare(ANSWERS[source](answer.encode()), ANSWERS[target](translated), row, target)
    report(capsys, f"answers {source} -> {target}", counted)


@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_a_recorded_stream_says_the_same_to_the_targets_sdk(
    source: str, target: str, capsys: pytest.CaptureFixture[str]
) -> None:
    counted: Counter[str] = Counter()
    for row in exchanges(source):
        if not row["stream"] or not row.get("resp"):
            continue
        if row["url"] in UNLIKE:
            counted[UNLIKE[row["url"]]] += 1
            continue
        counted["streams"] += 1
        stream = asked(source, target, row).stream()
        raw = row["resp"].encode()
        translated = stream.feed(raw) + stream.end()
        assert stream.error is None, (row["url"], stream.error)
        compare(RECORDINGS[source](raw), STREAMS[target](translated), row, target)
    report(capsys, f"streams {source} -> {target}", counted)


def asked(source: str, target: str, row: dict[str, Any]) -> Translation:
    """As if an app of the target's dialect had asked, and a provider of the source's had answered."""
    translation = Translation(adapter(target), adapter(source))
    request = adapter(source).read_request(body_of(row) or {"model": "m", "messages": [], "input": "", "prompt": ""})
    request.stream_usage = True
    request.legacy_functions = False
    translation._request = request
    return translation


def compare(before: Reading, after: Reading, row: dict[str, Any], target: str) -> None:
    where = (row["url"], before, after)
    assert after.text == before.text, where
    if target == "openai.completions" and before.calls:  # it has none, and carry.py refuses who asks for them
        assert after.calls == []
        before.finish = "stop" if before.finish == "tool_calls" else before.finish
    else:
        assert after.calls == before.calls, where
    # Responses has no word for why it ended: who holds calls has called.
    if before.finish is not None and not (target == "openai.responses" and before.calls and before.finish == "stop"):
        assert after.finish == before.finish, where
    if before.tokens is not None:
        assert after.tokens == before.tokens, where
        assert after.cached == before.cached, where


# -- answers that others keep as fixtures, broken ones among them

REASONS = {
    "spliced-message-start.chunks.txt": "The provider began its answer anew in the middle of it.",
    "parallel-tool-call-wrapper.1.chunks.txt": "The provider's stream ended before it was complete.",
    "openai-error.1.chunks.txt": "You exceeded your current quota",
}
# What only its own provider runs, and what free text is to who has no tools that take it.
CUSTOM_TOOLS = ("openai-custom-tool", "xai-x-search-tool")


def dialect_of(value: Any) -> str | None:
    if type(value) is not dict:
        return None
    by_object = {
        "chat.completion": "openai.chat",
        "chat.completion.chunk": "openai.chat",
        "text_completion": "openai.completions",
        "response": "openai.responses",
    }
    kind = str(value.get("type"))
    if kind.startswith("response."):
        return "openai.responses"
    if kind in ("message", "message_start"):
        return "anthropic.messages"
    return by_object.get(str(value.get("object")))


def load(data: str) -> Any:
    try:
        return json.loads(data)
    except json.JSONDecodeError:
        return None


def fixtures(*, stream: bool) -> list[tuple[str, str, bytes]]:
    """(name, dialect, bytes) of those of our dialects; a file with several streams in a row is its first one."""
    found = []
    for row in vectors.rows("provider_fixtures"):
        name = row["file"].rpartition("/")[2]
        if stream and "chunks" in row:
            values = [load(chunk) for chunk in row["chunks"]]
            source = next((one for one in map(dialect_of, values) if one is not None), None)
            if source is not None:
                found.append((name, source, framed(source, row["chunks"], values)))
        elif not stream and "body" in row:
            body = row["body"] if type(row["body"]) is str else json.dumps(row["body"])
            source = dialect_of(load(body))
            if source is not None:
                found.append((name, source, body.encode()))
    return found


def framed(source: str, chunks: list[str], values: list[Any]) -> bytes:
    out = []
    for chunk, value in zip(chunks, values, strict=True):
        kind = value.get("type") if type(value) is dict else None
        out.append((f"event: {kind}\n" if kind else "") + f"data: {chunk}\n\n")
        if kind in ("message_stop", "response.completed", "response.incomplete"):
            break
    if source in ("openai.chat", "openai.completions"):
        out.append("data: [DONE]\n\n")
    return "".join(out).encode()


def asked_in(source: str, target: str) -> Translation:
    translation = Translation(adapter(target), adapter(source))
    ask = {"model": "m", "messages": [], "stream_options": {"include_usage": True}}
    translation._request = adapter("openai.chat").read_request(ask)
    return translation


def test_fixtures_of_answers_say_the_same_to_every_sdk(capsys: pytest.CaptureFixture[str]) -> None:
    counted: Counter[str] = Counter()
    for name, source, body in fixtures(stream=False):
        for target in SOURCES:
            if target == source:
                continue
            if name.startswith(CUSTOM_TOOLS) and target == "anthropic.messages":
                counted["tools that take free text, which Anthropic has none of"] += 1
                continue
            counted["translated"] += 1
            translated = asked_in(source, target).answer(body)
            compare(ANSWERS[source](body), ANSWERS[target](translated), {"url": name}, target)
    report(capsys, "fixtures of answers", counted)
    assert counted["translated"] >= 290


def test_fixtures_of_streams_say_the_same_to_every_sdk_or_end_in_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    counted: Counter[str] = Counter()
    for name, source, raw in fixtures(stream=True):
        for target in SOURCES:
            if target == source:
                continue
            if name.startswith(CUSTOM_TOOLS) and target == "anthropic.messages":
                counted["tools that take free text, which Anthropic has none of"] += 1
                continue
            stream = asked_in(source, target).stream()
            translated = stream.feed(raw) + stream.end()
            reason = REASONS.get(name) if stream.error is not None else None
            if reason is not None:
                assert stream.error is not None
                assert stream.error.message.startswith(reason), name
                counted[f"ended in an error ({reason})"] += 1
                continue
            assert stream.error is None, (name, stream.error)
            counted["translated"] += 1
            compare(RECORDINGS[source](raw), STREAMS[target](translated), {"url": name}, target)
    report(capsys, "fixtures of streams", counted)
    assert counted["translated"] >= 270
