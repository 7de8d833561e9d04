"""Recorded traffic of Gemini, Bedrock, Ollama and Cohere, translated to each other dialect and read by its SDK."""

import contextlib
import json
import random
from base64 import b64decode, b64encode
from collections import Counter, defaultdict
from collections.abc import Iterator
from functools import cache
from typing import Any

import orjson
import pytest

from dialects.test_recorded import spoiled
from outrider.dialects.base import Frame, UnreadableError
from outrider.dialects.canonical import Message, Request, Text
from outrider.dialects.carry import CannotCarryError
from outrider.dialects.frames import FrameReader, eventstream_frame, sse_frame
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


@cache
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
        try:
            before = read(source, answer, stream=False)
        except AttributeError:  # a Vertex client's recorder wrote enumerations as numbers
            counted["not readable by its own SDK"] += 1
            before = Reading(text=json.loads(answer)["candidates"][0]["content"]["parts"][0]["text"], finish="stop")
        compare(before, ANSWERS[target](translated), row, target)
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
        assert mine in (theirs, {"arguments": theirs}), where  # a model wrote what is no object
    if before.finish is not None:
        expected = "stop" if target == "ollama.chat" and before.finish == "filtered" else before.finish
        assert after.finish == expected, where
    if before.tokens is not None:
        assert after.tokens == before.tokens, where
        if target not in wire_judges.NO_CACHE and row["provider"] != "cohere":
            assert after.cached == before.cached, where


# -- what others keep as fixtures


def load(data: str) -> Any:
    try:
        return json.loads(data)
    except json.JSONDecodeError:
        return None


_CONVERSE = frozenset(
    {"messageStart", "contentBlockStart", "contentBlockDelta", "contentBlockStop", "messageStop", "metadata"}
)


def dialect_of_fixture(value: Any) -> str | None:
    if type(value) is not dict:
        return None
    if value.keys() & {"candidates", "promptFeedback", "usageMetadata"}:
        return "gemini.generate"
    if value.keys() & _CONVERSE or (type(value.get("output")) is dict and "message" in value["output"]):
        return "bedrock.converse"
    if value.get("type") == "message-start" or ("finish_reason" in value and type(value.get("message")) is dict):
        return "cohere.chat"
    return None


def framed(source: str, chunks: list[str], values: list[Any]) -> bytes:
    if source == "bedrock.converse":
        events = [(name, inner) for value in values for name, inner in value.items()]
        return b"".join(
            eventstream_frame(orjson.dumps(inner), name, is_exception=name.endswith("Exception"))
            for name, inner in events
        )
    return b"".join(
        sse_frame(chunk.encode(), value.get("type", "") if value else "")
        for chunk, value in zip(chunks, values, strict=True)
    )


def fixtures(*, stream: bool) -> Iterator[tuple[str, str, bytes]]:
    """(name, dialect, bytes) of those of these dialects."""
    for row in vectors.rows("provider_fixtures"):
        name = row["file"].rpartition("/")[2]
        if stream and "chunks" in row:
            values = [load(chunk) for chunk in row["chunks"]]
            source = next((one for one in map(dialect_of_fixture, values) if one is not None), None)
            if source is not None:
                yield name, source, framed(source, row["chunks"], values)
        elif not stream and "body" in row:
            body = row["body"] if type(row["body"]) is str else json.dumps(row["body"])
            value = load(body)
            source = dialect_of_fixture(value)
            if source is not None and (source != "bedrock.converse" or type(value.get("output")) is dict):
                yield name, source, body.encode()


def test_fixtures_of_answers_say_the_same_to_every_sdk(capsys: pytest.CaptureFixture[str]) -> None:
    counted: Counter[str] = Counter()
    for name, source, body in fixtures(stream=False):
        for target in (*WIRES, *CHATS):
            if target == source:
                continue
            try:
                translated = asked(source, target).answer(body)
            except UnreadableError as exc:
                counted[f"unreadable ({exc})"] += 1
                continue
            try:
                before = read(source, body, stream=False)
            except Exception:  # a fixture that the SDK itself cannot read
                counted["not readable by its own SDK"] += 1
                continue
            counted["translated"] += 1
            compare(before, ANSWERS[target](translated), {"url": name, "provider": source.partition(".")[0]}, target)
    report(capsys, "fixtures of answers", counted)
    assert counted["translated"] >= 100


def test_fixtures_of_streams_say_the_same_to_every_sdk_or_end_in_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    counted: Counter[str] = Counter()
    for name, source, raw in fixtures(stream=True):
        for target in (*WIRES, *CHATS):
            if target == source:
                continue
            stream = asked(source, target).stream()
            translated = stream.feed(raw) + stream.end()
            if stream.error is not None:
                counted[f"{name} ended in an error ({stream.error.message[:60]})"] += 1
                continue
            try:
                before = read(source, raw, stream=True)
            except Exception:
                counted["not readable by its own SDK"] += 1
                continue
            if any(called is None for called, _ in before.calls):
                counted["calls in pieces, which their own SDK does not join"] += 1
                continue
            counted["translated"] += 1
            compare(before, STREAMS[target](translated), {"url": name, "provider": source.partition(".")[0]}, target)
    report(capsys, "fixtures of streams", counted)
    assert counted["translated"] >= 100


# -- Firebase's, which are whole bodies of Google's APIs, and Anthropic's, which are whole streams


def raw_rows() -> Iterator[tuple[str, str, bool, bytes]]:
    """(name, dialect, streamed, bytes)."""
    sources = {"googleai": "gemini.generate", "vertexai": "gemini.generate", "anthropic": "anthropic.messages"}
    for row in vectors.rows("provider_fixtures"):
        if "raw" in row and row["provider"] in sources:
            yield row["file"], sources[row["provider"]], bool(row["stream"]), row["raw"].encode()


def kind_of_raw(value: Any, *, stream: bool, raw: bytes) -> str:
    """error | answer | stream | what else it is."""
    if type(value) is dict and type(value.get("error")) is dict:
        return "error"
    if stream:
        return "stream"
    if type(value) is dict and value.keys() & {"candidates", "promptFeedback", "usageMetadata"}:
        return "answer"
    if type(value) is dict and value.keys() & {"predictions", "totalTokens"}:
        return "of another operation"
    return "no answer of this API"


def test_whole_fixtures_say_the_same_to_every_sdk_or_are_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    counted: Counter[str] = Counter()
    judged = 0
    for name, source, stream, raw in raw_rows():
        kind = kind_of_raw(load(raw.decode("utf-8", "replace")), stream=stream, raw=raw)
        judged += 1
        if kind.startswith(("of", "no")):
            counted[kind] += 1
            with pytest.raises(UnreadableError):
                asked(source, "openai.chat").answer(raw)
            continue
        counted[kind] += 1
        for target in (*WIRES, *CHATS):
            reason = unlike(name, target, raw)
            if target != source:
                counted[reason or f"{kind}, {WHOLE[kind](name, source, target, raw)}"] += 1
    report(capsys, "whole fixtures", counted)
    assert judged == 134
    assert counted["answer, the same"] > 250
    assert counted["stream, the same"] > 150


def unlike(name: str, target: str, raw: bytes) -> str | None:
    """Why it cannot say the same there."""
    if target in ("ollama.chat", "cohere.chat") and b'"inlineData"' in raw:
        return "pictures in an answer, which this SDK does not read"
    if name.endswith("incomplete_partial_json_response.txt"):
        return "arguments that were cut off, which are no JSON"
    if name.endswith("refusal_response.txt") and target == "cohere.chat":
        return "a refusal, for which Cohere has no word"
    return None


def whole_error(name: str, source: str, target: str, raw: bytes) -> str:
    told = load(raw.decode())["error"]
    status, body = asked(source, target).error(told.get("code", 400), raw)
    assert status >= 400, name
    assert json.dumps(told["message"])[1:40] in json.dumps(load(body.decode())), (name, target, body)
    return "told"


def whole_answer(name: str, source: str, target: str, raw: bytes) -> str:
    try:
        translated = asked(source, target).answer(raw)
    except UnreadableError as exc:
        return f"unreadable ({exc})"
    try:
        before = read(source, raw, stream=False)
    except Exception:
        return "not readable by its own SDK"
    compare(before, ANSWERS[target](translated), {"url": name, "provider": "gemini"}, target)
    return "the same"


def whole_stream(name: str, source: str, target: str, raw: bytes) -> str:
    stream = asked(source, target).stream()
    translated = stream.feed(raw) + stream.end()
    if stream.error is not None:
        return f"ended in an error ({stream.error.message[:60]})"
    try:
        before = read(source, raw, stream=True)
    except Exception:
        return "not readable by its own SDK"
    compare(before, STREAMS[target](translated), {"url": name, "provider": "gemini"}, target)
    return "the same"


WHOLE = {"error": whole_error, "answer": whole_answer, "stream": whole_stream}


# -- and what is nearly right


def _spoiled_frame(frame: Frame, source: str, rng: random.Random) -> Frame:
    value = load(frame.data.decode())
    if not value or rng.random() < 0.5:
        return frame
    if source == "bedrock.invoke":
        inner = orjson.dumps(spoiled(load(b64decode(value["bytes"]).decode()), rng))
        return Frame(orjson.dumps({"bytes": b64encode(inner).decode()}), frame.name)
    return Frame(orjson.dumps(spoiled(value, rng)), frame.name, frame.is_exception)


@pytest.mark.parametrize("source", [*WIRES, "ollama.generate"])
def test_a_recording_with_one_wrong_value_is_a_sentence_or_an_answer(source: str) -> None:
    rng = random.Random(source)
    rows = [row for row in exchanges(source) if len(answer_of(row)) < 30_000]
    requests = [(row, body) for row in rows if (body := body_of(row)) is not None]
    answers = [value for row in rows if not row["stream"] and type(value := load(answer_of(row).decode())) is dict]
    streams = [FrameReader(adapter(source).framing).feed(answer_of(row)) for row in rows if row["stream"]]
    for _ in range(300):
        target = rng.choice((*WIRES, *CHATS))
        row, body = rng.choice(requests)
        with contextlib.suppress(UnreadableError, CannotCarryError):
            translation = Translation(adapter(source), adapter(target))
            translation.request(spoiled(body, rng), model_of(row), target_model=MODELS.get(target))
        with contextlib.suppress(UnreadableError):
            asked(source, target).answer(json.dumps(spoiled(rng.choice(answers), rng)).encode())
        reader, writer = adapter(source).stream_reader(), asked(source, target).stream()._writer
        for frame in rng.choice(streams) if streams else ():
            writer.write(reader.read(_spoiled_frame(frame, source, rng)))
        writer.write(reader.end())
