"""Recorded requests written in another dialect and read back: the same over what the table says is carried.

And the tables of wire fields: a field of a recorded body that stands in none is an error.
"""

import json
from collections import Counter
from collections.abc import Iterator
from importlib import import_module
from typing import Any

import pytest

from dialects.test_recorded import MODELS, PAIRS, SOURCES, body_of, exchanges, report
from outrider.dialects.canonical import Media, Part, Refusal, Request, Text, ToolCall, ToolResult
from outrider.dialects.carry import CannotCarryError
from outrider.dialects.columns import COLUMNS
from outrider.dialects.registry import MODULES
from outrider.dialects.translate import Translation
from support.sdk_judges import adapter

# canonical field -> the feature whose cell says whether it is carried
SCALARS = {
    "max_tokens": "max_tokens",
    "temperature": "temperature",
    "top_p": "top_p",
    "stop": "stop sequences",
    "seed": "seed",
    "n": "several answers (n)",
    "presence_penalty": "presence_penalty",
    "frequency_penalty": "frequency_penalty",
    "logit_bias": "logit_bias",
    "output": "output by schema",
    "verbosity": "verbosity",
    "user": "the end user's id",
    "metadata": "metadata",
    "tool_choice": "a tool choice",
    "cache_key": "a cache key",
}


def parts_of(parts: list[Part]) -> Iterator[tuple[Any, ...]]:
    for part in parts:
        if isinstance(part, (Text, Refusal)) and part.text:
            yield "text", part.text
        elif isinstance(part, Media):
            yield part.kind, part.mime, part.data, part.url
        elif isinstance(part, ToolCall):
            yield "call", part.id, part.name, json.loads(part.arguments or "{}")
        elif isinstance(part, ToolResult):
            yield "result", part.call_id, list(parts_of(part.parts))


def spoken(request: Request) -> list[tuple[str, list[Any]]]:
    """Who says what: system texts in front, and what one says in a row together."""
    system = [*request.system, *(part for one in request.messages if one.role == "system" for part in one.parts)]
    turns: list[tuple[str, list[Any]]] = [("system", list(parts_of(system)))] if system else []
    for message in request.messages:
        said = list(parts_of(message.parts))
        if message.role == "system" or not said:
            continue
        if turns and turns[-1][0] == message.role:
            turns[-1][1].extend(said)
        else:
            turns.append((message.role, said))
    return [(role, list(_joined(said))) for role, said in turns]


def _joined(said: list[Any]) -> Iterator[Any]:
    """Texts that follow each other are one: some dialects have no parts."""
    text = ""
    for part in said:
        if part[0] == "text":
            text += part[1]
            continue
        if text:
            yield "text", text
            text = ""
        yield part
    if text:
        yield "text", text


def scalars(request: Request, target: str) -> dict[str, Any]:
    cells = COLUMNS[target]
    return {name: getattr(request, name) for name, feature in SCALARS.items() if cells[feature].outcome == "carried"}


def tools(request: Request) -> list[Any]:
    """Without what differs by default: no arguments may be an empty object, not strict may be nothing."""
    found = []
    for tool in request.tools:
        schema = tool.schema if tool.schema and tool.schema.get("properties") else None
        schema = {key: value for key, value in schema.items() if key != "type"} if schema else None
        found.append((tool.name, tool.description, schema, tool.strict is True))
    return found


@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_a_request_that_went_there_and_back_says_the_same(
    source: str, target: str, capsys: pytest.CaptureFixture[str]
) -> None:
    counted: Counter[str] = Counter()
    for row in exchanges(source):
        body = body_of(row)
        if body is None:
            continue
        try:
            written, _ = Translation(adapter(source), adapter(target)).request(body, target_model=MODELS[target])
        except CannotCarryError:
            counted["refused"] += 1
            continue
        before = adapter(source).read_request(body)
        if target == "anthropic.messages" and before.output is not None and before.output.kind == "json":
            before.system.append(Text("Answer with one JSON object and nothing else."))  # it is asked for so
        back = adapter(target).read_request(json.loads(json.dumps(written.body)))
        counted["the same"] += 1
        assert spoken(back) == spoken(before)
        assert tools(back) == tools(before)
        assert back.stream == before.stream
        given = {name: value for name, value in scalars(before, target).items() if value not in (None, [], {})}
        if target == "anthropic.messages":  # by model, and with a note: tested by themselves
            given = {name: value for name, value in given.items() if name not in ("temperature", "top_p")}
        if given.get("tool_choice") is not None and not before.tools:
            del given["tool_choice"]  # there is nothing to choose from, and Anthropic refuses it
        if given.get("output") is not None:  # names and descriptions of schemas are not everywhere
            assert back.output is None or back.output.schema == given.pop("output").schema
            given.pop("output", None)
        assert {name: getattr(back, name) for name in given} == given
    report(capsys, f"there and back {source} -> {target}", counted)


@pytest.mark.parametrize("name", SOURCES)
def test_a_request_written_in_its_own_dialect_keeps_everything(name: str) -> None:
    for row in exchanges(name):
        body = body_of(row)
        if body is not None:
            written, request = Translation(adapter(name), adapter(name)).request(body)
            again = adapter(name).read_request(json.loads(json.dumps(written.body)))
            assert again == request, row["url"]


# -- every field stands in a table


def fields(name: str) -> dict[str, Any]:
    found: dict[str, Any] = import_module(f"outrider.dialects.{MODULES[name]}").FIELDS
    return found


def dicts(value: Any) -> list[dict[str, Any]]:
    return [one for one in value if type(one) is dict] if type(value) is list else []


def holders(name: str, body: dict[str, Any], *, is_answer: bool) -> Iterator[tuple[str, dict[str, Any]]]:
    """(level, object) of all that a table speaks of."""
    yield ("answer" if is_answer else "request"), body
    if name in ("openai.chat", "openai.completions"):
        for choice in dicts(body.get("choices")):
            yield "choice", choice
        if name == "openai.chat":
            inner = [one.get("message") or one.get("delta") or {} for one in dicts(body.get("choices"))]
            for message in [*dicts(body.get("messages")), *inner]:
                yield "message", message
                yield from parts(message.get("content"))
                for call in dicts(message.get("tool_calls")):
                    yield "tool_call", call
            for tool in dicts(body.get("tools")):
                yield "tool", tool
                yield "function", tool.get("function", {})
    elif name == "anthropic.messages":
        for message in dicts(body.get("messages")):
            yield "message", message
            yield from parts(message.get("content"))
        yield from parts(body.get("system"))
        yield from parts(body.get("content"))
        for tool in dicts(body.get("tools")) if not is_answer else ():
            yield "tool", tool
    else:
        for item in [*dicts(body.get("input")), *dicts(body.get("output"))]:
            if item.get("type", "message") == "message":
                yield "message", item
                yield from parts(item.get("content"))
            else:
                yield f"item.{item['type']}", item
        for tool in dicts(body.get("tools")) if not is_answer else ():
            yield "tool", tool


def parts(content: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    for part in dicts(content):
        yield f"part.{part.get('type')}", part


def whole_answers(row: dict[str, Any]) -> list[dict[str, Any]]:
    """An answer, or what a stream has of its shape."""
    if not row["stream"]:
        return [json.loads(row["resp"])] if row["resp"] else []
    found = []
    for line in row["resp"].splitlines():
        if line.startswith("data: {"):
            event = json.loads(line[6:])
            inner = event.get("response") or event.get("message")
            if type(inner) is dict or "choices" in event:
                found.append(inner or event)
    return found


# Parts and tools that only their own dialect knows, kept whole (Opaque, Tool.server): their insides are in no table.
WHOLE = {"item.web_search_call", "tool of web_search_preview"}


@pytest.mark.parametrize("name", SOURCES)
def test_every_field_of_a_recorded_body_stands_in_a_table(name: str) -> None:
    table = fields(name)
    unknown: Counter[str] = Counter()
    for row in exchanges(name):
        bodies = [(one, True) for one in whole_answers(row)]
        body = body_of(row)
        bodies += [(body, False)] if body is not None else []
        for one, is_answer in bodies:
            for level, holder in holders(name, one, is_answer=is_answer):
                if level in WHOLE or (level == "tool" and f"tool of {holder.get('type')}" in WHOLE):
                    continue
                known = table.get(level)
                missing = holder.keys() - known.keys() if known is not None else ["(no table)"]
                unknown.update(f"{level}.{field}" for field in missing)
    assert not unknown, unknown


@pytest.mark.parametrize("name", SOURCES)
def test_what_a_table_calls_rest_is_kept_under_its_own_name(name: str) -> None:
    body = {"model": "m", "messages": [], "input": "x", "prompt": "x", "max_tokens": 1}
    kept = {key: {"any": "thing"} for key, meaning in fields(name)["request"].items() if meaning == "rest"}
    request = adapter(name).read_request(body | kept | {"brand_new": 1})
    rest = request.rest or {}
    assert kept.items() <= rest.items()
    assert rest["brand_new"] == 1
