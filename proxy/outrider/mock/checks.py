"""Checks that several dialects share: a body that is a JSON object, and where texts stand in message content.

Every check raises through a `fail` function that the dialect gives, since each provider words its refusal its own way.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NoReturn

import orjson

type Fail = Callable[[str, str | None], NoReturn]  # (message, parameter)


def json_object(body: bytes, fail: Fail) -> dict[str, Any]:
    """The body as a JSON object, or `fail`."""
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as exc:
        fail(f"We could not parse the JSON body of your request: {exc}", None)
    if not isinstance(value, dict):
        fail("The JSON body must be an object.", None)
    return value


def texts_in(content: Any) -> Iterator[str]:
    """Every text in a message's content: a string, or parts that carry `text`, or nested `content`."""
    if isinstance(content, str):
        yield content
    elif isinstance(content, list):
        for part in content:
            yield from texts_in(part)
    elif isinstance(content, Mapping):
        if isinstance(content.get("text"), str):
            yield content["text"]
        elif "content" in content:
            yield from texts_in(content["content"])


def in_range(body: Mapping[str, Any], name: str, low: float, high: float, fail: Fail) -> None:
    value = body.get(name)
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int | float):
        fail(f"Invalid type for '{name}': expected a number.", name)
    if not low <= value <= high:
        fail(f"Invalid '{name}': expected a value between {low} and {high}, but got {value} instead.", name)
