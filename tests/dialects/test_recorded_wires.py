"""Recorded traffic of Gemini, Bedrock, Ollama and Cohere, translated to each other dialect and read by its SDK."""

import json
from collections import Counter, defaultdict
from functools import cache
from typing import Any

import pytest

from outrider.dialects.base import UnreadableError
from outrider.dialects.canonical import Message, Request, Text
from outrider.dialects.carry import CannotCarryError
from outrider.dialects.translate import Translation
from support import sdk_judges, vectors, wire_judges
from support.sdk_judges import Reading, adapter
from support.wire_judges import answer_of, dialect_of, model_of, request_problems

WIRES = ("gemini.generate", "bedrock.converse", "bedrock.invoke", "ollama.chat", "cohere.chat")
CHATS = ("openai.chat", "anthropic.messages")
ANSWERS = sdk_judges.ANSWERS | wire_judges.ANSWERS
STREAMS = sdk_judges.STREAMS | wire_judges.STREAMS
PAIRS = [
    (source, target) for source in (*WIRES, *CHATS) for target in (*WIRES, *CHATS)
    if source != target and not (source in CHATS and target in CHATS)
]  # fmt: skip
MODELS = {
    "gemini.generate": "gemini-3-pro",
    "bedrock.converse": "us.anthropic.claude-sonnet-4-5-20250929-v1:0",
    "bedrock.invoke": "us.anthropic.claude-sonnet-4-5-20250929-v1:0",
}


@cache
def exchanges(source: str) -> list[dict[str, Any]]:
    """Those of one dialect that succeeded."""
    rows = [row for row in vectors.rows("exchanges") if row["status"] < 300]
    if source in CHATS:
        return [row for row in rows if row["kind"] == source]
    return [row for row in rows if dialect_of(row) == source]


def body_of(row: dict[str, Any]) -> dict[str, Any] | None:
    try:
        value = json.loads(row["req"])
    except (json.JSONDecodeError, TypeError, KeyError):
        return None
    return value if type(value) is dict else None


def report(capsys: pytest.CaptureFixture[str], title: str, counted: Counter[str]) -> None:
    with capsys.disabled():
        print(f"\n{title}: " + ", ".join(f"{number} {what}" for what, number in counted.most_common()))


@pytest.mark.parametrize(("source", "target"), [pair for pair in PAIRS if pair[1] in WIRES])
def test_a_recorded_request_is_accepted_by_the_targets_sdk(
    source: str, target: str, capsys: pytest.CaptureFixture[str]
) -> None:
    counted: Counter[str] = Counter()
    wrong: defaultdict[str, list[str]] = defaultdict(list)
    for row in exchanges(source):
        body = body_of(row)
        if body is None or (source in CHATS and "model" not in body):
            counted["not a request body"] += 1
            continue
        translation = Translation(adapter(source), adapter(target))
        try:
            request = translation.read(body, model_of(row), row["stream"])
            for media in translation.remote_media(request):  # as if they had been fetched
                media.data, media.url, media.mime = "aGVsbG8=", None, media.mime or "image/png"
            written = translation.write(request, MODELS.get(target))
        except CannotCarryError as refusal:
            counted[f"refused for {refusal.feature}"] += 1
            continue
        except UnreadableError as exc:
            counted[f"unreadable ({exc})"] += 1
            continue
        counted["translated"] += 1
        found = request_problems(target, written.body, request.model)
        if found:
            wrong[found].append(row["url"])
    report(capsys, f"requests {source} -> {target}", counted)
    assert not wrong, dict(wrong)


def asked(source: str, target: str) -> Translation:
    """As if an app of the target's dialect had asked, and a provider of the source's had answered."""
    translation = Translation(adapter(target), adapter(source))
    origin = "anthropic.messages" if target == "bedrock.invoke" else target
    translation._request = Request(origin, "m", [Message("user", [Text("x")])], stream_usage=True)
    return translation


def read(source: str, body: bytes, *, stream: bool) -> Reading:
    """The source as its own SDK reads it; InvokeModel is read by nobody's, and Converse stands in for it."""
    if source != "bedrock.invoke":
        return (STREAMS if stream else ANSWERS)[source](body)
    translation = asked(source, "bedrock.converse")
    if not stream:
        return ANSWERS["bedrock.converse"](translation.answer(body))
    translating = translation.stream()
    return STREAMS["bedrock.converse"](translating.feed(body) + translating.end())


@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_a_recorded_answer_says_the_same_to_the_targets_sdk(
    source: str, target: str, capsys: pytest.CaptureFixture[str]
) -> None:
    counted: Counter[str] = Counter()
    for row in exchanges(source):
        answer = answer_of(row)
        if row["stream"] or not answer:
            continue
        counted["answers"] += 1
        translation = asked(source, target)
        try:
            translated = translation.answer(answer)
        except UnreadableError as exc:
            counted[f"unreadable ({exc})"] += 1
            continue
        compare(read(source, answer, stream=False), ANSWERS[target](translated), row, target)
    report(capsys, f"answers {source} -> {target}", counted)


@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_a_recorded_stream_says_the_same_to_the_targets_sdk(
    source: str, target: str, capsys: pytest.CaptureFixture[str]
) -> None:
    counted: Counter[str] = Counter()
    for row in exchanges(source):
        raw = answer_of(row)
        if not row["stream"] or not raw:
            continue
        if source == "gemini.generate" and raw.lstrip()[:1] == b"[":
            counted["given as an array (judged apart)"] += 1
            continue
        counted["streams"] += 1
        stream = asked(source, target).stream()
        translated = stream.feed(raw) + stream.end()
        assert stream.error is None, (row["url"], stream.error)
        compare(read(source, raw, stream=True), STREAMS[target](translated), row, target)
    report(capsys, f"streams {source} -> {target}", counted)


def compare(before: Reading, after: Reading, row: dict[str, Any], target: str) -> None:
    where = (row["url"], before, after)
    assert after.text == before.text, where
    assert [name for name, _ in after.calls] == [name for name, _ in before.calls], where
    for (_, mine), (_, theirs) in zip(after.calls, before.calls, strict=True):
        assert mine == theirs or mine == {"arguments": theirs}, where  # a model wrote what is no object
    if before.finish is not None:
        expected = "stop" if target == "ollama.chat" and before.finish == "filtered" else before.finish
        assert after.finish == expected, where
    if before.tokens is not None:
        assert after.tokens == before.tokens, where
        if target not in wire_judges.NO_CACHE and row["provider"] != "cohere":
            assert after.cached == before.cached, where
