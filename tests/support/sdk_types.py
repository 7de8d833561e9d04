"""Whether a body is what an SDK's own request types describe: TypedDicts walked by their hints, no key beyond them."""

import collections.abc
import types
import typing
from functools import cache
from typing import Any, Literal, NotRequired, Required, Union, get_args, get_origin, get_type_hints

from typing_extensions import ReadOnly, is_typeddict


@cache
def _hints(kind: type) -> dict[str, Any]:
    return get_type_hints(kind, include_extras=True)


def problems(value: Any, kind: Any, path: str = "") -> list[str]:
    """[] where `value` is of the type `kind`; else a line for each thing that is not."""
    origin = get_origin(kind)
    if kind in (Any, object):
        return []
    if isinstance(kind, typing.TypeAliasType):
        return problems(value, kind.__value__, path)
    if origin in (Required, NotRequired, ReadOnly, typing.Required, typing.NotRequired, typing.Annotated):
        return problems(value, get_args(kind)[0], path)
    if origin in (Union, types.UnionType):
        return _of_union(value, get_args(kind), path)
    if origin is Literal:
        return [] if value in get_args(kind) else [f"{path}: {value!r} is none of {get_args(kind)}"]
    if is_typeddict(kind):
        return _of_dict(value, kind, path)
    if origin in (collections.abc.Mapping, dict):
        return _of_mapping(value, get_args(kind), path)
    if (origin is not None and issubclass(origin, collections.abc.Iterable)) or hasattr(origin, "_is_protocol"):
        return _of_list(value, get_args(kind), path)
    if kind in (None, type(None)):
        return [] if value is None else [f"{path}: not null"]
    return _of_plain(value, kind, path)


def _of_union(value: Any, kinds: tuple[Any, ...], path: str) -> list[str]:
    tried = [problems(value, kind, path) for kind in kinds]
    if [] in tried:
        return []
    # the one that went deepest is the one that was meant
    return max(tried, key=lambda found: max(line.partition(":")[0].count(".") for line in found))


def _of_dict(value: Any, kind: Any, path: str) -> list[str]:
    if type(value) is not dict:
        return [f"{path}: no object"]
    hints = _hints(kind)
    found = [f"{path}.{key}: no key of {kind.__name__}" for key in value if key not in hints]
    found += [f"{path}.{key}: missing" for key in kind.__required_keys__ if key not in value]
    for key, one in value.items():
        if key in hints:
            found += problems(one, hints[key], f"{path}.{key}")
    return found


def _of_mapping(value: Any, kinds: tuple[Any, ...], path: str) -> list[str]:
    if type(value) is not dict:
        return [f"{path}: no object"]
    if len(kinds) < 2:
        return []
    return [line for key, one in value.items() for line in problems(one, kinds[1], f"{path}.{key}")]


def _of_list(value: Any, kinds: tuple[Any, ...], path: str) -> list[str]:
    if type(value) is not list:
        return [f"{path}: no list"]
    return [line for at, one in enumerate(value) for line in problems(one, kinds[0], f"{path}.[{at}]")]


def _of_plain(value: Any, kind: Any, path: str) -> list[str]:
    if kind is float and type(value) in (int, float):
        return []
    if not isinstance(kind, type):
        return [f"{path}: cannot judge {kind!r}"]
    return [] if type(value) is kind else [f"{path}: {type(value).__name__} and not {kind.__name__}"]
