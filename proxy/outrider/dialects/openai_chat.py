"""OpenAI Chat Completions, and what the many providers that speak it have made of it.

Rules
- Leading messages of the role `system` are the system text; `developer` and later ones stay messages.
- Consecutive `tool` messages are one message of results. `functions` are tools (Request.legacy_functions), and so are
  their calls, which get ids of their own, since they have none.
- Thoughts are read from `reasoning_content` (DeepSeek, Moonshot, xAI, vLLM), `reasoning` (Groq, OpenRouter) and parts
  of the type `thinking` (Mistral), and written as `reasoning_content`.
- Usage of a stream is its last chunk, with no choices, and is sent only to who asked for it.

Does not know: HTTP, which of its providers it talks to.
Source: openai/types/chat of the Python SDK; recorded answers.
"""

import re
import time
from collections.abc import Callable
from typing import Any, Final, Literal

from outrider.dialects import openai_errors
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
    Media,
    Message,
    Opaque,
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
from outrider.dialects.openai_chat_stream import ChatStreamReader, ChatStreamWriter
from outrider.dialects.openai_parts import (
    AUDIO_FORMATS,
    FINISH,
    annotations_of,
    arguments_text,
    chat_usage,
    effort_of,
    image_url_of,
    media_from_url,
    plain_content,
    usage_body,
    written_finish,
)
from outrider.dialects.values import (
    NUMBER,
    REST,
    Fields,
    Plain,
    dicts,
    from_data_url,
    index_of,
    known,
    listed,
    new_id,
    note_rest,
    objects,
    optional,
    plain_fields,
    rest_of,
    seconds_of,
    text,
    typed,
    word,
    written_fields,
)

__all__ = ["DIALECT", "FIELDS"]

NAME: Final = "openai.chat"

# what a body may hold, by level: wire field -> what it becomes
FIELDS: Final[dict[str, Fields]] = {
    "request": {
        "model": "model",
        "messages": "messages",
        "audio": "audio",
        "echo": "echo",
        "frequency_penalty": "frequency_penalty",
        "function_call": "tool_choice",
        "functions": "tools",
        "logit_bias": "logit_bias",
        "logprobs": "logprobs",
        "max_completion_tokens": "max_tokens",
        "max_tokens": "max_tokens",
        "metadata": "metadata",
        "min_p": "min_p",
        "modalities": "modalities",
        "moderation": REST,
        "n": "n",
        "parallel_tool_calls": "parallel_tool_calls",
        "prediction": "prediction",
        "presence_penalty": "presence_penalty",
        "prompt_cache_key": "cache_key",
        "prompt_cache_options": REST,
        "prompt_cache_retention": REST,
        "reasoning_effort": "reasoning.effort",
        "repetition_penalty": "repetition_penalty",
        "response_format": "output",
        "safe_prompt": REST,
        "safety_identifier": REST,
        "safety_model": REST,
        "seed": "seed",
        "service_tier": "service_tier",
        "stop": "stop",
        "store": "store",
        "stream": "stream",
        "stream_options": "stream_usage",
        "temperature": "temperature",
        "tool_choice": "tool_choice",
        "tools": "tools",
        "top_k": "top_k",
        "top_logprobs": "top_logprobs",
        "top_p": "top_p",
        "user": "user",
        "verbosity": "verbosity",
        "web_search_options": REST,
    },
    "message": {
        "role": "role",
        "content": "parts",
        "name": "name",
        "tool_calls": "tool calls",
        "tool_call_id": "tool results",
        "function_call": "tool calls",
        "refusal": "refusals",
        "reasoning_content": "thinking",
        "reasoning": "thinking",
        "reasoning_details": REST,
        "audio": REST,
        "annotations": "citations",
        "token_id": REST,
        "index": REST,
    },
    "part.text": {"type": "", "text": "text", "prompt_cache_breakpoint": REST},
    "part.refusal": {"type": "", "refusal": "text"},
    "part.image_url": {"type": "", "image_url": "url, data, detail", "prompt_cache_breakpoint": REST},
    "part.input_audio": {"type": "", "input_audio": "data, mime", "prompt_cache_breakpoint": REST},
    "part.file": {"type": "", "file": "data, file_id, name", "prompt_cache_breakpoint": REST},
    "part.thinking": {"type": "", "thinking": "thinking", "signature": "signature", "closed": REST},
    "tool_call": {"id": "id", "type": "", "function": "name, arguments", "custom": "name, arguments", "index": REST},
    "tool": {"type": "", "function": "name, description, schema, strict", "custom": "name, description, format"},
    "function": {"name": "name", "description": "description", "parameters": "schema", "strict": "strict"},
    "answer": {
        "id": "id",
        "object": "",
        "created": "created_s",
        "model": "model",
        "choices": "choices",
        "usage": "usage",
        "service_tier": "service_tier",
        "system_fingerprint": "fingerprint",
        "x_groq": REST,
        "prompt": REST,
        "prompt_filter_results": REST,
        "citations": REST,
        "search_results": REST,
        "usage_breakdown": REST,
        "obfuscation": REST,
        "moderation": REST,
        "provider": REST,
        "p": REST,
        "error": REST,
    },
    "choice": {
        "index": "index",
        "message": "parts",
        "delta": "parts",
        "finish_reason": "finish",
        "logprobs": "logprobs",
        "native_finish_reason": REST,
        "content_filter_results": REST,
        "content_filter_result": REST,
        "content_filter_offsets": REST,
        "seed": REST,
        "stop_reason": REST,
        "matched_stop": REST,
        "text": REST,
    },
}

_PLAIN: Final[Plain] = {
    "audio": ("audio", (dict,)),
    "echo": ("echo", (bool,)),
    "frequency_penalty": ("frequency_penalty", NUMBER),
    "logit_bias": ("logit_bias", (dict,)),
    "logprobs": ("logprobs", (bool,)),
    "metadata": ("metadata", (dict,)),
    "min_p": ("min_p", NUMBER),
    "modalities": ("modalities", (list,)),
    "n": ("n", (int,)),
    "parallel_tool_calls": ("parallel_tool_calls", (bool,)),
    "prediction": ("prediction", (dict,)),
    "presence_penalty": ("presence_penalty", NUMBER),
    "prompt_cache_key": ("cache_key", (str,)),
    "repetition_penalty": ("repetition_penalty", NUMBER),
    "seed": ("seed", (int,)),
    "service_tier": ("service_tier", (str,)),
    "store": ("store", (bool,)),
    "temperature": ("temperature", NUMBER),
    "top_k": ("top_k", (int,)),
    "top_logprobs": ("top_logprobs", (int,)),
    "top_p": ("top_p", NUMBER),
    "user": ("user", (str,)),
    "verbosity": ("verbosity", (str,)),
}
_KNOWN: Final = {level: known(fields) for level, fields in FIELDS.items()}
_LEADING: Final = frozenset({"role", "content"})


# -- request, read


def _read_request(body: Json, model: str | None, stream: bool | None) -> Request:
    given, rest = plain_fields(body, _PLAIN, _KNOWN["request"])
    system, messages = _messages(objects(body.get("messages"), "messages"))
    request = Request(
        NAME,
        model or typed(body.get("model"), (str,), "model"),
        messages,
        system=system,
        stream=stream if stream is not None else body.get("stream") is True,
        **given,
    )
    _read_tools(body, request, rest)
    _read_rest(body, request, rest)
    request.rest = rest or None
    return request


def _read_rest(body: Json, request: Request, rest: Json) -> None:
    for key in ("max_completion_tokens", "max_tokens"):
        if body.get(key) is not None:
            request.max_tokens, request.tokens_key = typed(body[key], (int,), key), key
            break
    stop = body.get("stop")
    if stop is not None:
        request.stop = (
            [stop] if type(stop) is str else [typed(one, (str,), "stop[]") for one in typed(stop, (str, list), "stop")]
        )
    effort = body.get("reasoning_effort")
    if effort is not None:
        request.reasoning = Reasoning(effort=typed(effort, (str,), "reasoning_effort"))
    if body.get("response_format") is not None:
        request.output = _output(typed(body["response_format"], (dict,), "response_format"))
    options = body.get("stream_options")
    if type(options) is dict:
        if "include_usage" in options:
            request.stream_usage = options["include_usage"] is True
        more = {key: value for key, value in options.items() if key != "include_usage"}
        if more:
            rest["stream_options"] = more


def _output(form: Json) -> OutputFormat:
    kind = form.get("type")
    if kind == "json_object":
        return OutputFormat("json")
    if kind == "json_schema":
        inner = typed(form.get("json_schema"), (dict,), "response_format.json_schema")
        return OutputFormat(
            "schema",
            optional(inner.get("schema"), (dict,), "response_format.json_schema.schema"),
            optional(inner.get("name"), (str,), "response_format.json_schema.name"),
            optional(inner.get("description"), (str,), "response_format.json_schema.description"),
            optional(inner.get("strict"), (bool,), "response_format.json_schema.strict"),
        )
    if kind == "text":
        return OutputFormat("text")
    raise UnreadableError("The field response_format.type is none of text, json_object and json_schema.")


def _messages(items: list[Json]) -> tuple[list[Part], list[Message]]:
    system: list[Part] = []
    messages: list[Message] = []
    ids = _FunctionIds()
    results: Message | None = None  # consecutive results stand in one message
    for item in items:
        role = item.get("role")
        if role in ("tool", "function"):
            if results is None:
                results = Message("user", [])
                messages.append(results)
            results.parts.append(_result(item, ids))
            continue
        results = None
        if role == "system" and not messages and item.keys() <= _LEADING:
            system += _content(item.get("content"))
        elif role == "user":
            messages.append(_message("user", item))
        elif role == "assistant":
            messages.append(_assistant(item, ids))
        elif role in ("system", "developer"):
            messages.append(_message("system", item))
            messages[-1].developer = role == "developer"
        else:
            raise UnreadableError(f"The field messages[].role is none of {', '.join(_ROLES)}.")
    return system, messages


_ROLES: Final = ("system", "developer", "user", "assistant", "tool", "function")


class _FunctionIds:
    """Ids for the calls of `functions`, which have none: a result belongs to the last call of its name."""

    def __init__(self) -> None:
        self._last: dict[str, str] = {}
        self._count = 0

    def of_call(self, name: str) -> str:
        self._count += 1
        self._last[name] = made = f"call_function_{self._count}"
        return made

    def of_result(self, name: str) -> str:
        return self._last.get(name) or self.of_call(name)


def _message(role: Literal["user", "system"], item: Json) -> Message:
    name = optional(item.get("name"), (str,), "messages[].name")
    return Message(role, _content(item.get("content")), name, rest=rest_of(item, _KNOWN["message"]))


def _assistant(item: Json, ids: _FunctionIds) -> Message:
    parts = _said(item)
    for call in objects(item.get("tool_calls"), "messages[].tool_calls"):
        parts.append(_call(call))
    legacy = item.get("function_call")
    if type(legacy) is dict:
        parts.append(ToolCall(ids.of_call(text(legacy.get("name"))), text(legacy.get("name")), arguments_text(legacy)))
    name = optional(item.get("name"), (str,), "messages[].name")
    return Message("assistant", parts, name, rest=rest_of(item, _KNOWN["message"]))


def _said(item: Json) -> list[Part]:
    """Thoughts, content and refusal of what a model said, in a request and in an answer."""
    parts: list[Part] = []
    thought = item.get("reasoning_content") or item.get("reasoning")
    if type(thought) is str and thought:
        parts.append(Thinking(thought))
    content = item.get("content")
    if content is not None and content != "":
        parts += _content(content)
    notes = dicts(item.get("annotations"))
    if notes:
        for part in parts:
            if type(part) is Text:
                part.citations = notes
                break
    refusal = item.get("refusal")
    if refusal:
        parts.append(Refusal(text(refusal)))
    return parts


def _content(content: Any) -> list[Part]:
    if type(content) is str:
        return [Text(content)]
    return [_part(part) for part in objects(content, "messages[].content")]


def _part(part: Json) -> Part:
    kind = part.get("type")
    if kind == "text":
        return Text(
            typed(part.get("text"), (str,), "messages[].content[].text"), rest=rest_of(part, _KNOWN["part.text"])
        )
    reader = _PART_READERS.get(kind) if type(kind) is str else None
    if reader is None:
        return Opaque(NAME, kind if type(kind) is str else "without a type", part)
    return reader(part)


def _image(part: Json) -> Media:
    image = part.get("image_url")
    if type(image) is str:  # Mistral takes the URL itself
        image = {"url": image}
    image = typed(image, (dict,), "messages[].content[].image_url")
    media = media_from_url("image", typed(image.get("url"), (str,), "messages[].content[].image_url.url"))
    media.detail = optional(image.get("detail"), (str,), "messages[].content[].image_url.detail")
    media.rest = rest_of(part, _KNOWN["part.image_url"])
    return media


def _audio(part: Json) -> Media:
    audio = typed(part.get("input_audio"), (dict,), "messages[].content[].input_audio")
    form = text(audio.get("format"))
    data = typed(audio.get("data"), (str,), "messages[].content[].input_audio.data")
    return Media(
        "audio", AUDIO_FORMATS.get(form, f"audio/{form}"), data, rest=rest_of(part, _KNOWN["part.input_audio"])
    )


def _file(part: Json) -> Media:
    file = typed(part.get("file"), (dict,), "messages[].content[].file")
    media = Media("document", name=word(file.get("filename")), rest=rest_of(part, _KNOWN["part.file"]))
    if file.get("file_data") is not None:
        data = typed(file["file_data"], (str,), "messages[].content[].file.file_data")
        media.mime, media.data = from_data_url(data) or (None, data)
    else:
        media.file_id = typed(file.get("file_id"), (str,), "messages[].content[].file.file_id")
    return media


def _thinking(part: Json) -> Thinking:
    inner = part.get("thinking")
    thought = (
        inner if type(inner) is str else "".join(text(one.get("text")) for one in listed(inner) if type(one) is dict)
    )
    return Thinking(thought, word(part.get("signature")), rest=rest_of(part, _KNOWN["part.thinking"]))


def _refusal(part: Json) -> Refusal:
    return Refusal(text(part.get("refusal")), rest=rest_of(part, _KNOWN["part.refusal"]))


_PART_READERS: Final[dict[str, Callable[[Json], Part]]] = {
    "image_url": _image,
    "input_audio": _audio,
    "file": _file,
    "thinking": _thinking,
    "refusal": _refusal,
}


def _call(call: Json) -> ToolCall:
    is_custom = call.get("type") == "custom"
    inner = call.get("custom" if is_custom else "function")
    inner = inner if type(inner) is dict else {}
    arguments = text(inner.get("input")) if is_custom else arguments_text(inner)
    made = ToolCall(text(call.get("id")), text(inner.get("name")), arguments, is_custom)
    google = call.get("extra_content")  # Google's OpenAI-compatible API puts a signature there
    if google is not None and type(google) is dict and type(google.get("google")) is dict:
        made.signature = word(google["google"].get("thought_signature"))
    made.rest = rest_of(call, _KNOWN["tool_call"])
    return made


def _result(item: Json, ids: _FunctionIds) -> ToolResult:
    name = text(item.get("name"))
    call_id = text(item.get("tool_call_id")) or ids.of_result(name)
    return ToolResult(call_id, _content(item.get("content")), name, rest=rest_of(item, _KNOWN["message"]))


def _read_tools(body: Json, request: Request, rest: Json) -> None:
    tools = [_tool(tool) for tool in objects(body.get("tools"), "tools")]
    functions = objects(body.get("functions"), "functions")
    if functions:
        tools += [_function(function) for function in functions]
        request.legacy_functions = True
    request.tools = tools
    choice = body.get("tool_choice")
    if choice is None:
        choice = body.get("function_call")
        if choice is not None:
            request.legacy_functions = True
            choice = {"type": "function", "function": choice} if type(choice) is dict else choice
    if choice is not None:
        request.tool_choice = _tool_choice(choice)
        if request.tool_choice is None:
            rest["tool_choice"] = choice


def _tool(tool: Json) -> Tool:
    kind = tool.get("type")
    if kind == "function":
        made = _function(typed(tool.get("function"), (dict,), "tools[].function"))
        extra = rest_of(tool, _KNOWN["tool"])
        if extra:
            made.rest = (made.rest or {}) | extra
        return made
    if kind == "custom":
        inner = typed(tool.get("custom"), (dict,), "tools[].custom")
        return Tool(
            text(inner.get("name")),
            word(inner.get("description")),
            is_custom=True,
            format=_flat_format(inner.get("format")),
        )
    return Tool(text(kind), server=True, rest=tool)


def _function(function: Json) -> Tool:
    return Tool(
        typed(function.get("name"), (str,), "tools[].function.name"),
        optional(function.get("description"), (str,), "tools[].function.description"),
        optional(function.get("parameters"), (dict,), "tools[].function.parameters"),
        optional(function.get("strict"), (bool,), "tools[].function.strict"),
        rest=rest_of(function, _KNOWN["function"]),
    )


def _flat_format(form: Any) -> Json | None:
    """A free-text tool's grammar as Responses has it, which is the canonical way."""
    if type(form) is not dict:
        return None
    grammar = form.get("grammar")
    return {"type": "grammar"} | grammar if type(grammar) is dict else form


def _tool_choice(choice: Any) -> ToolChoice | None:
    if choice in ("auto", "none", "required"):
        return ToolChoice(choice)
    if choice == "any":  # Mistral's word
        return ToolChoice("required")
    if type(choice) is not dict:
        return None
    if choice.get("type") == "allowed_tools" and type(choice.get("allowed_tools")) is dict:
        allowed = choice["allowed_tools"]
        names = [_named(tool) for tool in listed(allowed.get("tools")) if type(tool) is dict]
        return ToolChoice("required" if allowed.get("mode") == "required" else "auto", names)
    name = _named(choice)
    return ToolChoice("named", [name]) if name else None


def _named(holder: Json) -> str:
    inner = holder.get("function") or holder.get("custom")
    return text(inner.get("name")) if type(inner) is dict else ""


# -- request, written


def _write_request(request: Request, notes: Notes) -> WrittenRequest:
    is_own = request.origin == NAME
    body: Json = {"model": request.model, "messages": _written_messages(request, is_own)}
    body |= written_fields(request, _PLAIN, frozenset() if is_own else _FOREIGN_ONLY)
    if request.max_tokens is not None:
        own = request.tokens_key if is_own else None
        body[own or ("max_completion_tokens" if _OPENAIS.match(request.model) else "max_tokens")] = request.max_tokens
    if request.stop:
        body["stop"] = request.stop
    if request.reasoning is not None:
        effort = effort_of(request.reasoning, notes)
        if effort is not None:
            body["reasoning_effort"] = effort
    if request.output is not None:
        body["response_format"] = _written_output(request.output)
    _written_tools(request, body)
    if request.stream:
        body["stream"] = True
        asked = (
            request.stream_usage if is_own else True
        )  # elsewhere it comes unasked; the client's writer keeps its own
        if asked is not None:
            body["stream_options"] = {"include_usage": asked}
    if is_own and request.rest:
        _give_back(request.rest, body)
    return WrittenRequest(body)


# OpenAI's newer models refuse max_tokens, and many compatible servers know nothing else.
_OPENAIS: Final = re.compile(r"(?:ft:|openai/)?(?:gpt-|chatgpt|codex|o[1-9])")
# Fields of compatible servers: OpenAI itself refuses them, so they go only to who sent them.
_FOREIGN_ONLY: Final = frozenset({"echo", "top_k", "min_p", "repetition_penalty"})


def _give_back(rest: Json, body: Json) -> None:
    options = rest.get("stream_options")
    for key, value in rest.items():
        if key != "stream_options":
            body[key] = value
    if options is not None:
        body["stream_options"] = options | body.get("stream_options", {})


def _written_output(output: OutputFormat) -> Json:
    if output.kind == "json":
        return {"type": "json_object"}
    if output.kind == "text":
        return {"type": "text"}
    schema: Json = {"name": output.name or "answer"}
    if output.description is not None:
        schema["description"] = output.description
    if output.schema is not None:
        schema["schema"] = output.schema
    if output.strict is not None:
        schema["strict"] = output.strict
    return {"type": "json_schema", "json_schema": schema}


def _written_messages(request: Request, is_own: bool) -> list[Json]:
    written: list[Json] = []
    if request.system:
        written.append({"role": "system", "content": _written_content(request.system, is_own)})
    for message in request.messages:
        if message.role == "assistant":
            written.append(_written_assistant(message, request.legacy_functions, is_own))
        elif message.role == "system":
            role = "developer" if message.developer else "system"
            written.append(_written_message(role, message, message.parts, is_own))
        else:
            _written_user(message, request.legacy_functions, is_own, written)
    return written


def _written_user(message: Message, legacy: bool, is_own: bool, written: list[Json]) -> None:
    """Results first, each a message of its own, then what else there is (media of results among it)."""
    others: list[Part] = []
    for part in message.parts:
        if type(part) is not ToolResult:
            others.append(part)
            continue
        texts: list[Part] = [one for one in part.parts if not isinstance(one, Media)]
        others += [one for one in part.parts if isinstance(one, Media)]
        result: Json = {"role": "tool", "tool_call_id": part.call_id, "content": _written_content(texts, is_own)}
        if legacy:
            result = {"role": "function", "name": part.name, "content": _joined(texts)}
        elif part.name and is_own:
            result["name"] = part.name
        if is_own and part.rest:
            result |= part.rest
        written.append(result)
    if others or not message.parts:
        written.append(_written_message("user", message, others, is_own))


def _written_message(role: str, message: Message, parts: list[Part], is_own: bool) -> Json:
    made: Json = {"role": role, "content": _written_content(parts, is_own)}
    if message.name:
        made["name"] = message.name
    if is_own and message.rest:
        made |= message.rest
    return made


def _written_assistant(message: Message, legacy: bool, is_own: bool) -> Json:
    content: list[Part] = []
    calls: list[ToolCall] = []
    refusals: list[str] = []
    thought = ""
    citations = None
    for part in message.parts:
        if isinstance(part, ToolCall):
            calls.append(part)
        elif isinstance(part, Refusal):
            refusals.append(part.text)
        elif isinstance(part, Thinking):
            thought += part.text
        elif isinstance(part, Text):
            content.append(part)
            citations = part.citations or citations
        elif is_own:
            content.append(part)
    made: Json = {"role": "assistant", "content": _written_content(content, is_own) if content else None}
    if thought and is_own:
        made["reasoning_content"] = thought
    if refusals:
        made["refusal"] = "".join(refusals)
    if citations and is_own:
        made["annotations"] = citations
    if calls and legacy:
        made["function_call"] = {"name": calls[0].name, "arguments": calls[0].arguments}
    elif calls:
        made["tool_calls"] = [_written_call(call, is_own) for call in calls]
    elif made["content"] is None and not refusals:
        made["content"] = ""
    if message.name:
        made["name"] = message.name
    if is_own and message.rest:
        made |= message.rest
    return made


def _written_call(call: ToolCall, is_own: bool) -> Json:
    if call.is_custom:
        made: Json = {"id": call.id, "type": "custom", "custom": {"name": call.name, "input": call.arguments}}
    else:
        function = {"name": call.name, "arguments": call.arguments or "{}"}
        made = {"id": call.id or new_id("call_"), "type": "function", "function": function}
    if is_own and call.rest:
        made |= call.rest
    return made


def _written_content(parts: list[Part], is_own: bool) -> str | list[Json]:
    plain = plain_content(parts, is_own)
    if plain is not None:
        return plain
    return [made for part in parts if (made := _written_part(part, is_own)) is not None]


def _written_part(part: Part, is_own: bool) -> Json | None:
    made: Json
    if isinstance(part, Text):
        made = {"type": "text", "text": part.text}
    elif isinstance(part, Media):
        made = _written_media(part)
    elif isinstance(part, Refusal):
        made = {"type": "refusal", "refusal": part.text}
    elif isinstance(part, Opaque):
        return part.value if is_own else None
    else:
        return None
    if is_own and part.rest:
        made |= part.rest
    return made


_AUDIO_BACK: Final = {mime: form for form, mime in AUDIO_FORMATS.items()}


def _written_media(part: Media) -> Json:
    if part.kind == "image":
        image: Json = {"url": image_url_of(part)}
        if part.detail is not None:
            image["detail"] = part.detail
        return {"type": "image_url", "image_url": image}
    if part.kind == "audio":
        mime = part.mime or "audio/wav"
        form = _AUDIO_BACK.get(mime, mime.rpartition("/")[2])
        return {"type": "input_audio", "input_audio": {"data": part.data or "", "format": form}}
    if part.text is not None:
        return {"type": "text", "text": part.text}
    file: Json = {"file_id": part.file_id} if part.file_id is not None else {"file_data": image_url_of(part)}
    if part.name is not None:
        file["filename"] = part.name
    elif part.file_id is None:
        file["filename"] = "document.pdf"  # asked for with file_data
    return {"type": "file", "file": file}


def _joined(parts: list[Part]) -> str:
    return "".join(part.text for part in parts if isinstance(part, Text))


def _written_tools(request: Request, body: Json) -> None:
    if request.legacy_functions:
        body["functions"] = [_written_function(tool) for tool in request.tools]
    elif request.tools:
        body["tools"] = [_written_tool(tool, request.origin == NAME) for tool in request.tools]
    choice = request.tool_choice
    if choice is None:
        return
    if request.legacy_functions:
        body["function_call"] = {"name": choice.names[0]} if choice.mode == "named" else choice.mode
    else:
        body["tool_choice"] = _written_choice(choice, {tool.name for tool in request.tools if tool.is_custom})


def _written_tool(tool: Tool, is_own: bool) -> Json:
    if tool.server:
        return tool.rest or {}
    if tool.is_custom:
        custom: Json = {"name": tool.name}
        if tool.description is not None:
            custom["description"] = tool.description
        if tool.format is not None:
            form = tool.format
            if form.get("type") == "grammar":
                form = {"type": "grammar", "grammar": {key: value for key, value in form.items() if key != "type"}}
            custom["format"] = form
        return {"type": "custom", "custom": custom}
    made = _written_function(tool)
    if is_own and tool.rest:
        made |= tool.rest
    return {"type": "function", "function": made}


def _written_function(tool: Tool) -> Json:
    made: Json = {"name": tool.name}
    if tool.description is not None:
        made["description"] = tool.description
    if tool.schema is not None:
        made["parameters"] = tool.schema
    if tool.strict is not None:
        made["strict"] = tool.strict
    return made


def _written_choice(choice: ToolChoice, custom: set[str]) -> Any:
    if choice.mode == "named":
        return _written_name(choice.names[0], custom)
    if choice.names:
        tools = [_written_name(name, custom) for name in choice.names]
        return {"type": "allowed_tools", "allowed_tools": {"mode": choice.mode, "tools": tools}}
    return choice.mode


def _written_name(name: str, custom: set[str]) -> Json:
    kind = "custom" if name in custom else "function"
    return {"type": kind, kind: {"name": name}}


# -- answer


def _read_answer(body: Json) -> Answer:
    rows = body.get("choices")
    if type(rows) is not list:
        raise UnreadableError("The answer has no choices.")
    choices = [_choice(row) for row in rows if type(row) is dict]
    return Answer(
        NAME,
        text(body.get("id")),
        text(body.get("model")),
        choices,
        chat_usage(body),
        seconds_of(body.get("created")),
        word(body.get("service_tier")),
        word(body.get("system_fingerprint")),
        rest_of(body, _KNOWN["answer"]),
    )


def _choice(row: Json) -> Choice:
    message = row.get("message")
    message = message if type(message) is dict else {}
    parts = _said(message)
    for call in listed(message.get("tool_calls")):
        if type(call) is dict:
            parts.append(_call(call))
    legacy = message.get("function_call")
    if type(legacy) is dict:
        parts.append(ToolCall("", text(legacy.get("name")), arguments_text(legacy)))
    audio = message.get("audio")
    if type(audio) is dict:
        parts.append(
            Media("audio", data=text(audio.get("data")), text=word(audio.get("transcript")), rest={"audio": audio})
        )
    rest = rest_of(row, _KNOWN["choice"])
    more = rest_of(message, _KNOWN["message"] | {"audio"})
    if more:
        rest = (rest or {}) | {"message": more}
    native = word(row.get("finish_reason"))
    finish = FINISH.get(native) if type(native) is str else None
    if finish is None and native is not None:
        finish = "stop"
    return Choice(parts, finish, index_of(row.get("index")), None, native, row.get("logprobs"), rest)


def _write_answer(answer: Answer, request: Request, notes: Notes) -> Json:
    is_own = answer.origin == NAME
    body: Json = {
        "id": answer.id or new_id("chatcmpl-"),
        "object": "chat.completion",
        "created": answer.created_s if answer.created_s is not None else int(time.time()),
        "model": answer.model,
        "choices": [_written_row(choice, request, is_own, notes) for choice in answer.choices],
    }
    if answer.usage is not None:
        body["usage"] = usage_body(answer.usage)
    if answer.service_tier is not None:
        body["service_tier"] = answer.service_tier
    if answer.fingerprint is not None:
        body["system_fingerprint"] = answer.fingerprint
    if is_own and answer.rest:
        body |= answer.rest
    elif not is_own:
        note_rest(answer.rest, notes)
    return body


def _written_row(choice: Choice, request: Request, is_own: bool, notes: Notes) -> Json:
    message: Json = {"role": "assistant", "content": None, "refusal": None}
    calls: list[Json] = []
    texts: list[str] = []
    citations: list[Json] = []
    length = 0  # of the text before the part at hand: annotations count from the start of the content
    for part in choice.parts:
        if isinstance(part, Text):
            if part.citations:
                citations += part.citations if is_own else annotations_of(part, length, notes)
            texts.append(part.text)
            length += len(part.text)
        elif isinstance(part, ToolCall):
            _note_signature(part, notes)
            if part.server:
                notes.add(f"{part.name} left out")
            else:
                calls.append(_written_call(part, is_own))
        else:
            _written_other(part, message, is_own, notes)
    if texts:
        message["content"] = "".join(texts)
    if citations:
        message["annotations"] = citations
    if calls and request.legacy_functions:
        message["function_call"] = calls[0].get("function")
    elif calls:
        message["tool_calls"] = calls
    made: Json = {
        "index": choice.index,
        "message": message,
        "logprobs": choice.logprobs,
        "finish_reason": _written_finish(choice, request, is_own, notes),
    }
    if is_own and choice.rest:
        message |= choice.rest.get("message", {})
        made |= {key: value for key, value in choice.rest.items() if key != "message"}
    elif not is_own:
        note_rest(choice.rest, notes)
    return made


def _written_finish(choice: Choice, request: Request, is_own: bool, notes: Notes) -> str | None:
    if choice.finish == "tool_calls" and request.legacy_functions:
        return "function_call"
    if is_own and choice.native_finish is not None:
        return choice.native_finish
    return written_finish(choice.finish, notes)


def _note_signature(part: ToolCall | Thinking, notes: Notes) -> None:
    if part.signature:
        notes.add("signatures left out")


def _written_other(part: Part, message: Json, is_own: bool, notes: Notes) -> None:
    if isinstance(part, Thinking):
        if part.text:
            message["reasoning_content"] = message.get("reasoning_content", "") + part.text
        _note_signature(part, notes)
        if part.hidden:
            notes.add("sealed thoughts left out")
    elif isinstance(part, Refusal):
        message["refusal"] = (message["refusal"] or "") + part.text
    elif isinstance(part, Media) and part.kind == "audio":
        own = part.rest.get("audio") if is_own and part.rest else None
        message["audio"] = own or {
            "id": new_id("audio_"),
            "data": part.data or "",
            "transcript": part.text or "",
            "expires_at": 0,
        }
    else:
        notes.add(f"{part.kind if isinstance(part, (Opaque, Media)) else 'a part'} left out")


# -- the adapter

DIALECT: Final[Dialect] = Adapter(
    NAME, "sse", "body", _read_request, _write_request, _read_answer, _write_answer,
    openai_errors.read, openai_errors.written, ChatStreamReader, ChatStreamWriter,
)  # fmt: skip
