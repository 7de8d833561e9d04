"""Changes that rules make to a request's body, in each dialect's own shape.

Rules: what cannot be changed as a rule says is an error of that rule, never left as it was; nothing else of the body is
touched; the app's own values are not quoted in an error.
Does not know: conditions, bytes.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from outrider.govern.globs import name_matcher
from outrider.govern.models import folded
from outrider.govern.reading import Facts, max_tokens_places, token_count, tool_lists, tool_names
from outrider.govern.rules import Rewrite, Route

if TYPE_CHECKING:
    from outrider.govern.lifts import Lifting


class RewriteError(ValueError):
    """The body has no place for the change; the message is safe to show."""


type Json = dict[str, Any]

# dialect -> the path of the field that bounds the answer, where the app gave none.
_MAX_TOKENS: Final[Mapping[str, tuple[str, ...]]] = {
    "openai.chat": ("max_tokens",),
    "openai.completions": ("max_tokens",),
    "openai.responses": ("max_output_tokens",),
    "anthropic.messages": ("max_tokens",),
    "anthropic.complete": ("max_tokens_to_sample",),
    "gemini.generate": ("generationConfig", "maxOutputTokens"),
    "bedrock.converse": ("inferenceConfig", "maxTokens"),
    "cohere.chat": ("max_tokens",),
    "cohere.chat_v1": ("max_tokens",),
    "cohere.generate": ("max_tokens",),
    "mistral.conversations": ("completion_args", "max_tokens"),
    "ollama.chat": ("options", "num_predict"),
    "ollama.generate": ("options", "num_predict"),
    "tgi.generate": ("parameters", "max_new_tokens"),
}
# OpenAI's reasoning models refuse the older name; the providers that speak its dialect know only that one.
_NEWER_NAME: Final = frozenset({"openai", "azure"})


def edit(document: Json, facts: Facts, action: "Rewrite | Route | Lifting") -> bool:
    """Whether anything changed. Raises: RewriteError, ReadError."""
    if not isinstance(action, (Rewrite, Route)):
        return action.change(document)
    if isinstance(action, Route):
        return _route(document, facts, action.model)
    changed = False
    if action.max_tokens is not None:
        changed |= _cap(document, facts, action.max_tokens)
    for name in action.remove or ():
        changed |= _remove(document, name)
    for name, value in (action.set or {}).items():
        changed |= _set(document, name, value)
    if action.system_preamble is not None:
        changed |= _prepend(document, facts, action.system_preamble)
    if action.strip_tools is not None:
        changed |= _strip(document, name_matcher(action.strip_tools))
    return changed


def _route(document: Json, facts: Facts, model: str) -> bool:
    if facts.model_source != "body":
        raise RewriteError("the model of this operation does not stand in the body, so it cannot be changed")
    return _set(document, "model", model)


def _spellings(document: Json, name: str) -> list[str]:
    wanted = folded(name)
    return [key for key in document if folded(key) == wanted]


def _set(document: Json, name: str, value: Any) -> bool:
    if (
        document.get(name, document) == value
        and _spellings(document, name) == [name]
        and type(document[name]) is type(value)
    ):
        return False
    for key in _spellings(document, name):
        del document[key]
    document[name] = value
    return True


def _remove(document: Json, name: str) -> bool:
    gone = [key for key in document if name_matcher((name,))(key)]
    for key in gone:
        del document[key]
    return bool(gone)


def _cap(document: Json, facts: Facts, cap: int) -> bool:
    changed = stated = False
    for place, key in list(max_tokens_places(document)):
        count = token_count(place[key])
        if count == 0 and place[key] is None:
            del place[key]
            changed = True
            continue
        stated = True
        if count < 0 or count > cap:
            place[key] = cap
            changed = True
    if stated:
        return changed
    path = _MAX_TOKENS.get(facts.operation.dialect)
    if path is None:
        raise RewriteError(f"{facts.operation.name} has no field that bounds the answer")
    if path == ("max_tokens",) and facts.operation.dialect == "openai.chat" and facts.kind in _NEWER_NAME:
        path = ("max_completion_tokens",)
    at = document
    for step in path[:-1]:
        known = _spellings(at, step)
        inner = at[known[0]] if known else at.setdefault(step, {})
        if not isinstance(inner, dict):
            raise RewriteError(f"{step} is no object")
        at = inner
    at[path[-1]] = cap
    return True


# -- the system's words


def _prepend(document: Json, facts: Facts, text: str) -> bool:
    put = _PREAMBLES.get(facts.operation.dialect)
    if put is None:
        raise RewriteError(f"{facts.operation.name} has no place for a system preamble")
    put(document, text)
    return True


def _message(document: Json, text: str) -> None:
    messages = document.get("messages")
    if not isinstance(messages, list):
        raise RewriteError("messages is no list")
    document["messages"] = [{"role": "system", "content": text}, *messages]


def _joined(name: str) -> Callable[[Json, str], None]:
    def put(document: Json, text: str) -> None:
        said = document.get(name)
        if said is None or said == "":
            document[name] = text
        elif isinstance(said, str):
            document[name] = f"{text}\n\n{said}"
        else:
            raise RewriteError(f"{name} is no text")

    return put


def _anthropic(document: Json, text: str) -> None:
    said = document.get("system")
    if isinstance(said, list):
        document["system"] = [{"type": "text", "text": text}, *said]
    else:
        _joined("system")(document, text)


def _gemini(document: Json, text: str) -> None:
    key = next(iter(_spellings(document, "systemInstruction")), "systemInstruction")
    said = document.get(key)
    if said is None:
        document[key] = {"parts": [{"text": text}]}
    elif isinstance(said, dict) and isinstance(said.get("parts"), list):
        said["parts"] = [{"text": text}, *said["parts"]]
    elif isinstance(said, dict) and isinstance(said.get("parts"), dict):
        said["parts"] = [{"text": text}, said["parts"]]
    else:
        raise RewriteError("systemInstruction has no parts")


def _converse(document: Json, text: str) -> None:
    said = document.get("system")
    if said is not None and not isinstance(said, list):
        raise RewriteError("system is no list")
    document["system"] = [{"text": text}, *(said or [])]


_PREAMBLES: Final[Mapping[str, Callable[[Json, str], None]]] = {
    "openai.chat": _message,
    "openai.responses": _joined("instructions"),
    "anthropic.messages": _anthropic,
    "gemini.generate": _gemini,
    "bedrock.converse": _converse,
    "cohere.chat": _message,
    "cohere.chat_v1": _joined("preamble"),
    "mistral.conversations": _joined("instructions"),
    "ollama.chat": _message,
    "ollama.generate": _joined("system"),
}


# -- tools


def _strip(document: Json, is_unwanted: Callable[[str], bool]) -> bool:
    changed = False
    for place, key in list(tool_lists(document)):
        kept = [one for tool in place[key] if (one := _without(tool, is_unwanted)) is not None]
        if kept != place[key]:
            changed = True
            if kept:
                place[key] = kept
            else:
                _forget(place, key)
    if changed:
        _free_choice(document)
    return changed


def _without(tool: Any, is_unwanted: Callable[[str], bool]) -> Any:
    """The tool without what is unwanted, None where nothing is left."""
    names = tool_names(tool)
    if not any(map(is_unwanted, names)):
        return tool
    if isinstance(tool, dict) and (key := next((key for key in tool if folded(key) == "functiondeclarations"), None)):
        declared = [one for one in tool[key] if not (isinstance(one, dict) and is_unwanted(str(one.get("name", ""))))]
        kept = {name: value for name, value in tool.items() if name != key and not is_unwanted(name)}
        return kept | {key: declared} if declared else kept or None
    return None


def _forget(place: Json, key: str) -> None:
    del place[key]
    for choice in [name for name in place if folded(name) in ("toolchoice", "functioncall", "paralleltoolcalls")]:
        del place[choice]


def _free_choice(document: Json) -> None:
    """A choice that names a tool which is gone would be refused by the provider: it is free again."""
    names = {name for place, key in tool_lists(document) for tool in place[key] for name in tool_names(tool)}
    for key in [name for name in document if folded(name) in ("toolchoice", "functioncall")]:
        choice = document[key]
        if isinstance(choice, dict):
            inner = choice.get("function", choice)
            named = inner.get("name") if isinstance(inner, dict) else None
            if named is not None and named not in names:
                del document[key]
