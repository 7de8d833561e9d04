"""Anthropic Messages.

Rules
- System texts that stand among the messages go in front; they have no other place.
- max_tokens has to be there: MAX_TOKENS where the app named none, and more than the thinking budget.
- Thinking goes with no other temperature, top_p below 0.95, top_k or forced tool: what stands in its way is left out,
  with a note.
- input_tokens leaves both cache parts out; the canonical count has them in.

Does not know: HTTP (anthropic-version, anthropic-beta), which host it is served by.
Source: anthropic/types of the Python SDK; recorded answers; docs.anthropic.com "Extended thinking".
"""

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final, Literal

from outrider.dialects import anthropic_errors
from outrider.dialects.anthropic_parts import (
    FINISH,
    NAME,
    PART_FIELDS,
    read_part,
    usage_body,
    written_finish,
    written_part,
)
from outrider.dialects.anthropic_stream import AnthropicStreamReader, AnthropicStreamWriter
from outrider.dialects.base import (
    Adapter,
    Dialect,
    Json,
    Notes,
    UnreadableError,
    WrittenRequest,
)
from outrider.dialects.canonical import (
    Answer,
    Choice,
    Message,
    OutputFormat,
    Part,
    Reasoning,
    Request,
    Text,
    Tool,
    ToolChoice,
    ToolResult,
)
from outrider.dialects.usage import anthropic_usage
from outrider.dialects.values import (
    NUMBER,
    REST,
    Fields,
    Plain,
    known,
    new_id,
    note_rest,
    objects,
    optional,
    plain_fields,
    rest_of,
    text,
    typed,
    word,
)

__all__ = ["DIALECT", "FIELDS", "MAX_TOKENS"]

MAX_TOKENS: Final = 4096  # the most that every model takes
_MIN_BUDGET: Final = 1024

FIELDS: Final[dict[str, Fields]] = {
    "request": {
        "model": "model",
        "messages": "messages",
        "max_tokens": "max_tokens",
        "system": "system",
        "temperature": "temperature",
        "top_p": "top_p",
        "top_k": "top_k",
        "stop_sequences": "stop",
        "stream": "stream",
        "metadata": "user",
        "tools": "tools",
        "tool_choice": "tool_choice, parallel_tool_calls",
        "thinking": "reasoning",
        "output_config": "output, reasoning.effort",
        "output_format": "output",
        "service_tier": "service_tier",
        "container": "conversation",
        "cache_control": REST,
        "context_management": REST,
        "mcp_servers": REST,
        "inference_geo": REST,
        "speed": REST,
        "diagnostics": REST,
        "anthropic_version": REST,
        "anthropic_beta": REST,
    },
    "message": {"role": "role", "content": "parts"},
    "tool": {
        "type": "",
        "name": "name",
        "description": "description",
        "input_schema": "schema",
        "strict": "strict",
        "cache_control": "cache",
        "allowed_callers": REST,
        "defer_loading": REST,
        "eager_input_streaming": REST,
        "input_examples": REST,
    },
    "answer": {
        "id": "id",
        "type": "",
        "role": "",
        "model": "model",
        "content": "parts",
        "stop_reason": "finish",
        "stop_sequence": "stop_sequence",
        "usage": "usage",
        "stop_details": REST,
        "container": REST,
        "context_management": REST,
        "diagnostics": REST,
    },
    **PART_FIELDS,
}
_KNOWN: Final = {level: known(fields) for level, fields in FIELDS.items()}
_PLAIN: Final[Plain] = {
    "max_tokens": ("max_tokens", (int,)),
    "temperature": ("temperature", NUMBER),
    "top_p": ("top_p", NUMBER),
    "top_k": ("top_k", (int,)),
    "service_tier": ("service_tier", (str,)),
}


# -- request, read


def _read_request(body: Json, model: str | None, stream: bool | None) -> Request:
    given, rest = plain_fields(body, _PLAIN, _KNOWN["request"])
    request = Request(
        NAME,
        model or typed(body.get("model"), (str,), "model"),
        [_message(item) for item in objects(body.get("messages"), "messages")],
        system=_content(body.get("system") or None, "system"),
        tools=[_tool(tool) for tool in objects(body.get("tools"), "tools")],
        stop=[
            typed(one, (str,), "stop_sequences[]")
            for one in typed(body.get("stop_sequences") or [], (list,), "stop_sequences")
        ],
        stream=stream if stream is not None else body.get("stream") is True,
        **given,
    )
    _read_choice(body.get("tool_choice"), request, rest)
    _read_reasoning(body, request)
    metadata = body.get("metadata")
    if type(metadata) is dict:
        request.user = optional(metadata.get("user_id"), (str,), "metadata.user_id")
        more = {key: value for key, value in metadata.items() if key != "user_id"}
        if more:
            rest["metadata"] = more
    if body.get("container") is not None:
        request.conversation = {"container": body["container"]}
    request.rest = rest or None
    return request


def _stop(value: Any) -> list[str]:
    if value is None:
        return []
    return [typed(one, (str,), "stop_sequences[]") for one in typed(value, (list,), "stop_sequences")]


def _content(content: Any, field: str) -> list[Part]:
    if type(content) is str:
        return [Text(content)]
    return [read_part(part) for part in objects(content, field)]


def _message(item: Json) -> Message:
    role = item.get("role")
    if role not in ("user", "assistant", "system"):
        raise UnreadableError("The field messages[].role is neither user nor assistant.")
    return Message(role, _content(item.get("content"), "messages[].content"), rest=rest_of(item, _KNOWN["message"]))


def _tool(tool: Json) -> Tool:
    kind = tool.get("type")
    if kind not in (None, "custom"):
        return Tool(text(kind), server=True, rest=tool)
    return Tool(
        typed(tool.get("name"), (str,), "tools[].name"),
        optional(tool.get("description"), (str,), "tools[].description"),
        optional(tool.get("input_schema"), (dict,), "tools[].input_schema"),
        optional(tool.get("strict"), (bool,), "tools[].strict"),
        cache=optional(tool.get("cache_control"), (dict,), "tools[].cache_control"),
        rest=rest_of(tool, _KNOWN["tool"]),
    )


_CHOICES: Final[Mapping[str, Literal["auto", "none", "required"]]] = {"auto": "auto", "none": "none", "any": "required"}


def _read_choice(choice: Any, request: Request, rest: Json) -> None:
    if type(choice) is not dict:
        return
    kind = choice.get("type")
    if kind == "tool" and text(choice.get("name")):
        request.tool_choice = ToolChoice("named", [choice["name"]])
    elif type(kind) is str and kind in _CHOICES:
        request.tool_choice = ToolChoice(_CHOICES[kind])
    else:
        rest["tool_choice"] = choice
        return
    if type(choice.get("disable_parallel_tool_use")) is bool:
        request.parallel_tool_calls = not choice["disable_parallel_tool_use"]


def _read_reasoning(body: Json, request: Request) -> None:
    thinking, config = body.get("thinking"), body.get("output_config")
    reasoning = Reasoning()
    if type(thinking) is dict:
        kind = thinking.get("type")
        if kind == "enabled":
            reasoning.budget_tokens = typed(thinking.get("budget_tokens"), (int,), "thinking.budget_tokens")
        elif kind == "disabled":
            reasoning.budget_tokens = 0
        elif kind == "adaptive":
            reasoning.adaptive = True
        else:
            reasoning.rest = thinking
        if thinking.get("display") is not None:
            reasoning.show = thinking["display"] == "summarized"
    form = body.get("output_format")  # its older place
    if type(config) is dict:
        form = config.get("format") or form
        reasoning.effort = optional(config.get("effort"), (str,), "output_config.effort")
    if type(form) is dict and form.get("type") == "json_schema":
        request.output = OutputFormat("schema", optional(form.get("schema"), (dict,), "output_config.format.schema"))
    if reasoning != Reasoning():
        request.reasoning = reasoning


# -- request, written


def _write_request(request: Request, notes: Notes) -> WrittenRequest:
    is_own = request.origin == NAME
    max_tokens = request.max_tokens
    if max_tokens is None:
        max_tokens = MAX_TOKENS
        notes.add(f"max_tokens set to {MAX_TOKENS}")
    body: Json = {"model": request.model, "max_tokens": max_tokens}
    system = _written_system(request, is_own, notes)
    if system:
        body["system"] = system
    body["messages"] = [
        made
        for message in request.messages
        if (message.role != "system" or is_own) and (made := _written_message(message, is_own, notes)) is not None
    ]
    headers = _written_sampling(request, is_own, body, notes)
    if request.stop:
        body["stop_sequences"] = request.stop
    _written_tools(request, is_own, body)
    if request.reasoning is not None or request.output is not None:
        _written_reasoning(request, is_own, body, notes)
    if request.user is not None:
        body["metadata"] = {"user_id": request.user}
    if request.service_tier is not None:
        body["service_tier"] = request.service_tier if is_own else _TIERS.get(request.service_tier, "auto")
    if request.stream:
        body["stream"] = True
    if is_own:
        _give_back(request, body)
    return WrittenRequest(body, headers)


# The models that take temperature, top_p, top_k and a thinking budget. Later ones answer 400 to the first three, and
# think as they see fit. Version 2026-10-21 of the API refuses the three whatever the model is: the one before is asked.
_TUNED: Final = re.compile(r"claude-(?:[123]\b|instant|(?:opus|sonnet|haiku)-4(?:[-.][0-6])?(?![-.]?[0-9]\b))")
_VERSION: Final = MappingProxyType({"anthropic-version": "2023-06-01"})
_SAMPLING: Final = ("temperature", "top_p", "top_k")


def _is_tuned(model: str) -> bool:
    return _TUNED.search(model) is not None


def _written_sampling(request: Request, is_own: bool, body: Json, notes: Notes) -> dict[str, str]:
    """Into body; returns the headers that it takes."""
    takes = is_own or _is_tuned(request.model)
    for name in _SAMPLING:
        value = getattr(request, name)
        if value is None:
            continue
        if not takes:
            notes.add(f"{name} left out, since {request.model} takes none")
        elif name == "temperature" and value > 1 and not is_own:
            body[name] = 1
            notes.add("temperature set to 1, the most there is")
        else:
            body[name] = value
    return {} if is_own else dict(_VERSION)


_TIERS: Final = MappingProxyType({"default": "standard_only", "standard": "standard_only", "flex": "standard_only"})
_JSON_ONLY: Final = "Answer with one JSON object and nothing else."


def _give_back(request: Request, body: Json) -> None:
    if request.conversation is not None:
        body |= request.conversation
    for key, value in (request.rest or {}).items():
        body[key] = body[key] | value if key == "metadata" and key in body else value


def _written_system(request: Request, is_own: bool, notes: Notes) -> str | list[Json]:
    parts = request.system
    if not is_own:
        later = [part for message in request.messages if message.role == "system" for part in message.parts]
        parts = [*parts, *later] if later else parts
        if request.output is not None and request.output.kind == "json":
            parts = [*parts, Text(_JSON_ONLY)]
    if not parts:
        return ""
    first = parts[0]
    if len(parts) == 1 and type(first) is Text and first.cache is None and not (is_own and first.rest):
        return first.text
    return [made for part in parts if (made := written_part(part, is_own, notes)) is not None]


def _written_message(message: Message, is_own: bool, notes: Notes) -> Json | None:
    parts = message.parts
    first = parts[0] if parts else None
    content: str | list[Json]
    if len(parts) == 1 and type(first) is Text and first.cache is None and (not is_own or _is_plain(first)):
        content = first.text
    else:
        if message.role == "user" and len(parts) > 1:  # "tool_result blocks must come first"
            parts = sorted(parts, key=_is_no_result)
        content = [one for part in parts if (one := written_part(part, is_own, notes)) is not None]
        if not content and parts:  # all of it has no place here, and an empty message would be refused
            return None
    made: Json = {"role": message.role, "content": content}
    if is_own and message.rest:
        made |= message.rest
    return made


def _is_plain(part: Text) -> bool:
    return not part.rest and not part.citations


def _is_no_result(part: Part) -> bool:
    return type(part) is not ToolResult


def _written_tools(request: Request, is_own: bool, body: Json) -> None:
    choice = request.tool_choice
    tools = request.tools
    if choice is not None and choice.names and choice.mode != "named":
        tools = [tool for tool in tools if tool.name in choice.names]
    if not tools:
        return
    body["tools"] = [_written_tool(tool, is_own) for tool in tools]
    written: Json = {}
    if choice is not None:
        if choice.mode == "named":
            written = {"type": "tool", "name": choice.names[0]}
        else:
            written = {"type": "any" if choice.mode == "required" else choice.mode}
    if request.parallel_tool_calls is not None and (is_own or not request.parallel_tool_calls):
        written = written or {"type": "auto"}
        if written["type"] != "none":
            written["disable_parallel_tool_use"] = not request.parallel_tool_calls
    if written:
        body["tool_choice"] = written


_NO_ARGUMENTS: Final[Json] = {"type": "object", "properties": {}}


def _written_tool(tool: Tool, is_own: bool) -> Json:
    if tool.server:
        return tool.rest or {}
    schema = tool.schema
    if schema is None:
        schema = _NO_ARGUMENTS
    elif schema.get("type") != "object" and not is_own:  # "input_schema.type: Field required"
        schema = {"type": "object"} | schema
    made: Json = {"name": tool.name, "input_schema": schema}
    if tool.description is not None:
        made["description"] = tool.description
    if tool.strict is not None and (is_own or tool.strict):
        made["strict"] = tool.strict
    if tool.cache is not None:
        made["cache_control"] = tool.cache
    if is_own and tool.rest:
        made |= tool.rest
    return made


# -- thinking

_BUDGETS: Final[Mapping[str, int]] = MappingProxyType(
    {"minimal": 1024, "low": 2048, "medium": 8192, "high": 16384, "xhigh": 32000, "max": 32000}
)


def _written_reasoning(request: Request, is_own: bool, body: Json, notes: Notes) -> None:
    config: Json = {}
    if request.output is not None and request.output.kind == "schema" and request.output.schema is not None:
        config["format"] = {"type": "json_schema", "schema": request.output.schema}
    reasoning = request.reasoning
    if reasoning is not None:
        if is_own or _is_tuned(request.model):
            thinking = _written_thinking(reasoning, is_own)
        else:
            thinking = _written_effort(reasoning, config)
        if is_own and reasoning.effort is not None:
            config["effort"] = reasoning.effort
        if thinking is not None and not is_own:
            thinking = _fit(thinking, request, body, notes)
        if thinking is not None:
            body["thinking"] = thinking
    if config:
        body["output_config"] = config


def _written_thinking(reasoning: Reasoning, is_own: bool) -> Json | None:
    budget_tokens = reasoning.budget_tokens
    if budget_tokens is None and not is_own and reasoning.effort is not None:
        budget_tokens = _BUDGETS.get(reasoning.effort, 0)
    made: Json | None = None
    if reasoning.adaptive or (budget_tokens is not None and budget_tokens < 0):
        made = {"type": "adaptive"}
    elif budget_tokens is not None:
        made = {"type": "enabled", "budget_tokens": budget_tokens} if budget_tokens > 0 else {"type": "disabled"}
    elif is_own and reasoning.rest:
        made = dict(reasoning.rest)
    if made is not None and is_own and reasoning.show is not None and made["type"] in ("enabled", "adaptive"):
        made["display"] = "summarized" if reasoning.show else "omitted"
    return made


_EFFORTS: Final[Mapping[str, str]] = MappingProxyType({"minimal": "low", "none": "low"})


def _written_effort(reasoning: Reasoning, config: Json) -> Json | None:
    """For models that decide themselves how much to think."""
    effort = reasoning.effort
    if effort is None and reasoning.budget_tokens is not None and reasoning.budget_tokens > 0:
        effort = next((name for name, most in _BUDGETS.items() if reasoning.budget_tokens <= most), "max")
    if effort is not None:
        config["effort"] = _EFFORTS.get(effort, effort)
    return {"type": "adaptive"} if effort != "none" and reasoning.budget_tokens != 0 else None


def _fit(thinking: Json, request: Request, body: Json, notes: Notes) -> Json | None:
    """Makes room for another dialect's wish to think, and clears away what the provider refuses beside it."""
    if thinking["type"] == "disabled":
        return None  # what it does unasked
    if _in_a_turn_without_thoughts(request):
        notes.add("thinking left out, since the turn began without its thoughts")
        return None
    if body.get("tool_choice", {}).get("type") in ("any", "tool"):
        notes.add("thinking left out, since a tool is forced")
        return None
    if thinking["type"] == "enabled":
        thinking["budget_tokens"] = max(thinking["budget_tokens"], _MIN_BUDGET)
        if request.max_tokens is None:
            body["max_tokens"] = thinking["budget_tokens"] + MAX_TOKENS
        elif request.max_tokens <= thinking["budget_tokens"]:  # in other dialects max_tokens holds the thoughts too
            thinking["budget_tokens"] = request.max_tokens // 2
            notes.add("thinking budget lowered to fit max_tokens")
            if thinking["budget_tokens"] < _MIN_BUDGET:
                notes.add("thinking left out, since max_tokens leaves no room")
                return None
    if body.get("temperature", 1) != 1:
        del body["temperature"]
        notes.add("temperature left out beside thinking")
    if body.pop("top_k", None) is not None:
        notes.add("top_k left out beside thinking")
    if body.get("top_p", 1) < 0.95:
        del body["top_p"]
        notes.add("top_p left out beside thinking")
    return thinking


def _in_a_turn_without_thoughts(request: Request) -> bool:
    """Results are on their way back, and the call that they answer would have to begin with its signed thoughts."""
    last = request.messages[-1] if request.messages else None
    return last is not None and any(type(part) is ToolResult for part in last.parts)


# -- answer


def _read_answer(body: Json) -> Answer:
    if type(body.get("content")) is not list:
        raise UnreadableError("The answer has no content.")
    parts = [read_part(part) for part in body["content"] if type(part) is dict]
    native = word(body.get("stop_reason"))
    finish = FINISH.get(native, "stop") if type(native) is str else None
    usage = body.get("usage")
    choice = Choice(parts, finish, 0, word(body.get("stop_sequence")), native)
    rest = rest_of(body, _KNOWN["answer"])
    counted = anthropic_usage(usage, body.get("model")) if type(usage) is dict else None
    tier = word(usage.get("service_tier")) if type(usage) is dict else None
    return Answer(NAME, text(body.get("id")), text(body.get("model")), [choice], counted, service_tier=tier, rest=rest)


def _write_answer(answer: Answer, request: Request, notes: Notes) -> Json:
    is_own = answer.origin == NAME
    if len(answer.choices) > 1:
        notes.add("all answers but the first left out")
    choice = answer.choices[0] if answer.choices else Choice([])
    content = [made for part in choice.parts if (made := written_part(part, is_own, notes, in_answer=True)) is not None]
    if not is_own:
        content = _thoughts_first(content)
        note_rest(choice.rest, notes)
        note_rest(answer.rest, notes)
        if choice.logprobs is not None:
            notes.add("logprobs left out")
    finish = choice.native_finish if is_own and choice.native_finish else written_finish(choice.finish, notes)
    body: Json = {
        "id": answer.id or new_id("msg_"),
        "type": "message",
        "role": "assistant",
        "model": answer.model,
        "content": content,
        "stop_reason": finish,
        "stop_sequence": choice.stop_sequence,
        "usage": usage_body(answer.usage),
    }
    if is_own and answer.service_tier is not None:
        body["usage"]["service_tier"] = answer.service_tier
    if is_own and answer.rest:
        body |= answer.rest
    return body


def _thoughts_first(content: list[Json]) -> list[Json]:
    """As the provider itself has them."""
    if any(part["type"] == "thinking" for part in content[1:]):
        return sorted(content, key=lambda part: part["type"] != "thinking")
    return content


# -- the adapter

DIALECT: Final[Dialect] = Adapter(
    NAME, "sse", "body", _read_request, _write_request, _read_answer, _write_answer,
    anthropic_errors.read, anthropic_errors.written, AnthropicStreamReader, AnthropicStreamWriter,
)  # fmt: skip
