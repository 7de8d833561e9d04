"""Ollama's /api/chat and /api/generate: messages or one prompt, answers as JSON or NDJSON.

Rules
- A call streams unless it says `stream: false`.
- Most of what tunes a model stands in `options`; what is unknown there is kept as "options.NAME".
- Arguments are an object and come whole; calls of older servers have no ids: a result belongs to the first open call
  (of its name, where it says one).
- Pictures are bare base64 in `images`, whatever their kind.
- Durations are nanoseconds and ours to leave out; counts stand in the last object.

Does not know: HTTP, which models are pulled.
Source: ollama docs/api.md, ollama/_types.py; recorded answers.
"""

from collections import deque
from functools import partial
from typing import Any, Final

from outrider.dialects import native_errors
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
    FinishReason,
    Media,
    Message,
    OutputFormat,
    Part,
    Reasoning,
    Refusal,
    Request,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
)
from outrider.dialects.logprobs import from_ollama, to_ollama
from outrider.dialects.moments import iso, seconds
from outrider.dialects.ollama_stream import (
    OllamaStreamReader,
    OllamaStreamWriter,
    call_written,
    done_reason,
    read_call,
    usage_written,
)
from outrider.dialects.thinking import effort_of_budget, is_off
from outrider.dialects.usage import ollama_usage
from outrider.dialects.values import (
    NUMBER,
    REST,
    Fields,
    Plain,
    known,
    listed,
    new_id,
    note_part,
    note_rest,
    objects,
    optional,
    rest_of,
    strings,
    text,
    typed,
    written_fields,
)

__all__ = ["DIALECT", "FIELDS", "GENERATE"]

FIELDS: Final[dict[str, Fields]] = {
    "request": {
        "model": "model",
        "messages": "messages",
        "prompt": "messages",
        "system": "system",
        "suffix": "suffix",
        "images": "media",
        "tools": "tools",
        "format": "output",
        "options": "",
        "stream": "stream",
        "think": "reasoning",
        "logprobs": "logprobs",
        "top_logprobs": "top_logprobs",
        "context": "conversation",
        "keep_alive": REST,
        "raw": REST,
        "template": REST,
        "truncate": REST,
        "shift": REST,
        "width": REST,
        "height": REST,
        "steps": REST,
    },
    "options": {
        "temperature": "temperature",
        "top_p": "top_p",
        "top_k": "top_k",
        "min_p": "min_p",
        "seed": "seed",
        "num_predict": "max_tokens",
        "stop": "stop",
        "repeat_penalty": "repetition_penalty",
        "presence_penalty": "presence_penalty",
        "frequency_penalty": "frequency_penalty",
        "num_ctx": REST,
    },
    "message": {
        "role": "role",
        "content": "text",
        "thinking": "thinking",
        "images": "media",
        "tool_calls": "tool calls",
        "tool_name": "tool results",
        "tool_call_id": "tool results",
        "name": "tool results",
    },
    "tool_call": {"id": "id", "type": "", "function": "name, arguments"},
    "tool_call.function": {"name": "name", "arguments": "arguments", "index": ""},
    "tool": {"type": "", "function": "name, description, schema"},
    "function": {"name": "name", "description": "description", "parameters": "schema", "strict": "strict"},
    "answer": {
        "model": "model",
        "created_at": "created_s",
        "message": "parts",
        "response": "text",
        "thinking": "thinking",
        "tool_calls": "tool calls",
        "done": "finish",
        "done_reason": "finish",
        "logprobs": "logprobs",
        "prompt_eval_count": "usage",
        "eval_count": "usage",
        "context": REST,
        "image": REST,
        "total_duration": REST,
        "load_duration": REST,
        "prompt_eval_duration": REST,
        "eval_duration": REST,
        "remote_model": REST,
        "remote_host": REST,
    },
}
_KNOWN: Final = {level: known(fields) for level, fields in FIELDS.items()}
_OPTIONS: Final[Plain] = {
    "temperature": ("temperature", NUMBER),
    "top_p": ("top_p", NUMBER),
    "top_k": ("top_k", (int,)),
    "min_p": ("min_p", NUMBER),
    "seed": ("seed", (int,)),
    "num_predict": ("max_tokens", (int,)),
    "repeat_penalty": ("repetition_penalty", NUMBER),
    "presence_penalty": ("presence_penalty", NUMBER),
    "frequency_penalty": ("frequency_penalty", NUMBER),
}
FINISH: Final[dict[str, FinishReason]] = {"stop": "stop", "length": "length", "load": "stop", "unload": "stop"}
_OWN_ID: Final = "call_ollama_"


# -- request, read


def _read_request(name: str, body: Json, model: str | None, stream: bool | None) -> Request:
    model = model or typed(body.get("model"), (str,), "model")
    streams = stream if stream is not None else body.get("stream") is not False
    if name == GENERATE_NAME:
        parts: list[Part] = [Text(text(body.get("prompt"))), *_images(body.get("images"))]
        request = Request(name, model, [Message("user", parts)], stream=streams, is_completion=True)
        if body.get("system"):
            request.system = [Text(typed(body["system"], (str,), "system"))]
        request.suffix = optional(body.get("suffix") or None, (str,), "suffix")
        if body.get("context"):
            request.conversation = {"context": body["context"]}
    else:
        system, messages = _messages(objects(body.get("messages"), "messages"))
        request = Request(name, model, messages, system=system, stream=streams)
    rest = rest_of(body, _KNOWN["request"]) or {}
    rest = {key: value for key, value in rest.items() if value is not None}
    if body.get("options") is not None:
        _read_options(typed(body["options"], (dict,), "options"), request, rest)
    request.tools = [_tool(row) for row in objects(body.get("tools"), "tools")]
    form = body.get("format")
    if type(form) is dict:
        request.output = OutputFormat("schema", form)
    elif form == "json":
        request.output = OutputFormat("json")
    think = body.get("think")
    if type(think) is bool:
        request.reasoning = Reasoning(show=True) if think else Reasoning(budget_tokens=0)
    elif type(think) is str:
        request.reasoning = Reasoning(think, show=True)
    request.logprobs = optional(body.get("logprobs"), (bool,), "logprobs")
    request.top_logprobs = optional(body.get("top_logprobs"), (int,), "top_logprobs")
    request.rest = rest or None
    return request


def _read_options(options: Json, request: Request, rest: Json) -> None:
    for key, value in options.items():
        plain = _OPTIONS.get(key)
        if value is None or key == "stop":
            continue
        if plain is not None:
            setattr(request, plain[0], typed(value, plain[1], f"options.{key}"))
        else:
            rest[f"options.{key}"] = value
    if request.max_tokens is not None and request.max_tokens < 0:  # until the model stops, which is what others do
        request.max_tokens = None
    stop = options.get("stop")
    if stop is not None:
        request.stop = strings(stop, "options.stop")


def _tool(row: Json) -> Tool:
    function = typed(row.get("function"), (dict,), "tools[].function")
    name = typed(function.get("name"), (str,), "tools[].function.name")
    return Tool(
        name,
        optional(function.get("description"), (str,), "tools[].function.description"),
        optional(function.get("parameters"), (dict,), "tools[].function.parameters"),
        optional(function.get("strict"), (bool,), "tools[].function.strict"),
        rest=rest_of(function, _KNOWN["function"]),
    )


def _images(images: Any) -> list[Part]:
    return [Media("image", mime_of(one), one) for one in listed(images) if type(one) is str]


_MAGIC: Final = (("/9j/", "image/jpeg"), ("iVBORw0KGgo", "image/png"), ("R0lGOD", "image/gif"), ("UklGR", "image/webp"))


def mime_of(data: str) -> str | None:
    """From the first bytes, as base64; Ollama does not say it and the others want to know."""
    return next((mime for start, mime in _MAGIC if data.startswith(start)), None)


def _messages(items: list[Json]) -> tuple[list[Part], list[Message]]:
    system: list[Part] = []
    messages: list[Message] = []
    results: Message | None = None
    ids = _Ids()
    for item in items:
        role = item.get("role")
        if role == "tool":
            if results is None:
                results = Message("user", [])
                messages.append(results)
            results.parts.append(_result(item, ids))
            continue
        results = None
        parts: list[Part] = []
        if item.get("thinking"):
            parts.append(Thinking(text(item["thinking"])))
        if item.get("content"):
            parts.append(Text(typed(item["content"], (str,), "messages[].content")))
        parts += _images(item.get("images"))
        parts += [ids.call(read_call(row)) for row in objects(item.get("tool_calls"), "messages[].tool_calls")]
        rest = rest_of(item, _KNOWN["message"])
        if role == "system" and not messages and rest is None:
            system += parts
        elif role in ("system", "user", "assistant"):
            messages.append(Message(role, parts, rest=rest))
        else:
            raise UnreadableError("The field messages[].role is none of system, user, assistant and tool.")
    return system, messages


class _Ids:
    """Calls and results of servers that have no ids."""

    def __init__(self) -> None:
        self._open: deque[ToolCall] = deque()
        self._count = 0

    def call(self, call: ToolCall) -> ToolCall:
        if not call.id:
            self._count += 1
            call.id = f"{_OWN_ID}{self._count}"
        self._open.append(call)
        return call

    def result(self, name: str, call_id: str) -> tuple[str, str]:
        """(id, name) of the call."""
        for call in self._open:
            if call_id == call.id or (not call_id and name in ("", call.name)):
                self._open.remove(call)
                return call.id, call.name
        self._count += 1
        return call_id or f"{_OWN_ID}{self._count}", name


def _result(item: Json, ids: _Ids) -> ToolResult:
    call_id, name = ids.result(text(item.get("tool_name")) or text(item.get("name")), text(item.get("tool_call_id")))
    parts: list[Part] = [Text(text(item.get("content"))), *_images(item.get("images"))]
    return ToolResult(call_id, parts, name, rest=rest_of(item, _KNOWN["message"]))


# -- request, written


def _write_request(name: str, request: Request, notes: Notes) -> WrittenRequest:
    is_own = request.origin == name
    body: Json = {"model": request.model, "stream": request.stream}
    if name == GENERATE_NAME:
        _written_prompt(request, body)
    else:
        body["messages"] = _written_messages(request, is_own, notes)
    options = written_fields(request, _OPTIONS)
    if request.stop:
        options["stop"] = request.stop
    if options:
        body["options"] = options
    choice = request.tool_choice
    if request.tools and not (choice is not None and choice.mode == "none"):
        body["tools"] = [made for tool in request.tools if (made := _written_tool(tool, choice, is_own)) is not None]
    if request.output is not None and request.output.kind != "text":
        body["format"] = request.output.schema if request.output.kind == "schema" else "json"
    if request.reasoning is not None:
        think = _think(request.reasoning)
        if think is not None:
            body["think"] = think
    if request.logprobs is not None:
        body["logprobs"] = request.logprobs
    if request.top_logprobs is not None:
        body["top_logprobs"] = request.top_logprobs
    if is_own:
        body |= request.conversation or {}
        for key, value in (request.rest or {}).items():
            outer, dot, inner = key.partition(".")
            if dot:
                body.setdefault(outer, {})[inner] = value
            else:
                body[key] = value
    return WrittenRequest(body)


def _written_prompt(request: Request, body: Json) -> None:
    parts = request.messages[0].parts if request.messages else []
    body["prompt"] = "".join(part.text for part in parts if isinstance(part, (Text, Refusal)))
    images = [part.data for part in parts if isinstance(part, Media) and part.data]
    if images:
        body["images"] = images
    if request.system:
        body["system"] = "".join(part.text for part in request.system if isinstance(part, Text))
    if request.suffix is not None:
        body["suffix"] = request.suffix


def _think(reasoning: Reasoning) -> bool | str | None:
    if is_off(reasoning):
        return False
    effort = reasoning.effort
    if effort is None and reasoning.budget_tokens is not None:
        effort = effort_of_budget(reasoning.budget_tokens)
    if effort is not None:
        return {"minimal": "low", "xhigh": "high", "max": "high"}.get(effort, effort)
    return True if reasoning.show or reasoning.adaptive or reasoning.budget_tokens is not None else None


def _written_messages(request: Request, is_own: bool, notes: Notes) -> list[Json]:
    messages: list[Json] = []
    names: dict[str, str] = {}
    if request.system:
        messages.append({"role": "system", "content": _words(request.system)})
    for message in request.messages:
        others: list[Part] = []
        for part in message.parts:
            if isinstance(part, ToolResult):
                messages.append(_written_result(part, names, is_own))
            else:
                others.append(part)
        if others or not message.parts:
            messages.append(_written_message(message, others, names, is_own, notes))
    return messages


def _words(parts: list[Part]) -> str:
    """Ollama has one text a message."""
    return "".join(part.text or "" for part in parts if isinstance(part, (Text, Refusal, Media)))


def _pictures(parts: list[Part]) -> list[str]:
    return [part.data for part in parts if isinstance(part, Media) and part.data]


def _written_result(part: ToolResult, names: dict[str, str], is_own: bool) -> Json:
    made: Json = {"role": "tool", "content": _words(part.parts)}
    name = part.name or names.get(part.call_id, "")
    if name:
        made["tool_name"] = name
    if part.call_id and not part.call_id.startswith(_OWN_ID):
        made["tool_call_id"] = part.call_id
    images = _pictures(part.parts)
    if images:
        made["images"] = images
    if is_own and part.rest:
        made |= part.rest
    return made


def _written_message(message: Message, parts: list[Part], names: dict[str, str], is_own: bool, notes: Notes) -> Json:
    made: Json = {"role": message.role, "content": _words(parts)}
    if is_own:
        thought = "".join(part.text for part in parts if isinstance(part, Thinking))
        if thought:
            made["thinking"] = thought
    images = _pictures(parts)
    if images:
        made["images"] = images
    calls = [part for part in parts if isinstance(part, ToolCall)]
    if calls:
        made["tool_calls"] = rows = []
        for index, call in enumerate(calls):
            names[call.id] = call.name
            row = call_written(call, index, notes)
            if call.id.startswith(_OWN_ID):
                row.pop("id", None)
            rows.append(row | ((is_own and call.rest) or {}))
    if is_own and message.rest:
        made |= message.rest
    return made


def _written_tool(tool: Tool, choice: ToolChoice | None, is_own: bool) -> Json | None:
    if tool.server or (choice is not None and choice.names and tool.name not in choice.names):
        return None
    function: Json = {"name": tool.name, "parameters": tool.schema or {"type": "object", "properties": {}}}
    if tool.description is not None:
        function["description"] = tool.description
    if is_own and tool.strict is not None:
        function["strict"] = tool.strict
    if is_own and tool.rest:
        function |= tool.rest
    return {"type": "function", "function": function}


# -- answer


def _read_answer(name: str, body: Json) -> Answer:
    message = body.get("message") if name == NAME else body
    if type(message) is not dict or (name == GENERATE_NAME and "response" not in body):
        raise UnreadableError(f"The answer has no {'message' if name == NAME else 'response'}.")
    parts: list[Part] = []
    if message.get("thinking"):
        parts.append(Thinking(text(message["thinking"])))
    words = text(message.get("content" if name == NAME else "response"))
    if words:
        parts.append(Text(words))
    if name == NAME:
        parts += _images(message.get("images"))
    rows = message.get("tool_calls")
    calls = [read_call(row) for row in rows if type(row) is dict] if type(rows) is list else []
    parts += calls
    native = body.get("done_reason")
    native = native if type(native) is str else None
    ended = FINISH.get(native or "stop", "stop")
    finish: FinishReason = "tool_calls" if calls and ended == "stop" else ended
    rows = body.get("logprobs")
    rest = rest_of(body, _KNOWN["answer"])
    return Answer(
        name,
        "",
        text(body.get("model")),
        [
            Choice(
                parts, finish, 0, None, native, from_ollama(rows) if type(rows) is list else None,
                rest_of(message, _KNOWN["message"]) if name == NAME else None,
            )
        ],
        ollama_usage(body, body.get("model")),
        seconds(body.get("created_at")),
        rest=rest,
    )  # fmt: skip


def _write_answer(name: str, answer: Answer, request: Request, notes: Notes) -> Json:
    is_own = answer.origin == name
    choice = answer.choices[0] if answer.choices else Choice([], "stop")
    if len(answer.choices) > 1:
        notes.add("all answers but the first left out")
    body: Json = {
        "model": answer.model or request.model,
        "created_at": iso(answer.created_s),
        "done": True,
        "done_reason": done_reason(choice.finish, choice.native_finish if is_own else None, notes),
    }
    _written_said(name, choice, body, is_own, notes)
    if choice.logprobs is not None:
        body["logprobs"] = to_ollama(choice.logprobs)
    body |= usage_written(answer.usage)
    if is_own and answer.rest:
        body |= answer.rest
    elif not is_own:
        note_rest(answer.rest, notes)
        note_rest(choice.rest, notes)
    return body


def _written_said(name: str, choice: Choice, body: Json, is_own: bool, notes: Notes) -> None:
    words = _words(choice.parts)
    thought = "".join(part.text for part in choice.parts if isinstance(part, Thinking))
    calls = [part for part in choice.parts if isinstance(part, ToolCall) and not part.server]
    for part in choice.parts if not is_own else ():
        note_part(part, notes)
    if name == GENERATE_NAME:
        body["response"] = words
        if thought:
            body["thinking"] = thought
        if calls:
            notes.add("tool calls left out")
        return
    message: Json = {"role": "assistant", "content": words}
    if thought:
        message["thinking"] = thought
    images = _pictures(choice.parts)
    if images:
        message["images"] = images
    if calls:
        message["tool_calls"] = [
            call_written(call, index, notes) | ((is_own and call.rest) or {}) for index, call in enumerate(calls)
        ]
        for row, call in zip(message["tool_calls"], calls, strict=True):
            if not is_own and not call.id:
                row["id"] = new_id("call_")
    if is_own and choice.rest:
        message |= choice.rest
    body["message"] = message


# -- the adapters

NAME: Final = "ollama.chat"
GENERATE_NAME: Final = "ollama.generate"


def _adapter(name: str) -> Dialect:
    return Adapter(
        name, "ndjson", "body", partial(_read_request, name), partial(_write_request, name),
        partial(_read_answer, name), partial(_write_answer, name),
        native_errors.error_of_ollama, native_errors.written_ollama, OllamaStreamReader,
        lambda request, notes: OllamaStreamWriter(request, notes, is_generate=name == GENERATE_NAME),
    )  # fmt: skip


DIALECT: Final = _adapter(NAME)
GENERATE: Final = _adapter(GENERATE_NAME)
