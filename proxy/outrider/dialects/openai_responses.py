"""OpenAI Responses.

Rules
- Items that the model made and that follow each other (thoughts, one message, calls) are one assistant message; results
  that follow each other are one user message. The ids of items are kept for their own provider.
- `instructions` are the system text, and so are leading messages of the role `system`.
- A function is strict here unless it says otherwise: who asked elsewhere, where it is the other way round, gets false.
- What refers to something that the provider keeps (previous_response_id, conversation, prompt, item_reference) binds
  the call to it.

Does not know: HTTP, the WebSocket that it is served over too.
Source: openai/types/responses of the Python SDK; recorded answers.
"""

import time
from typing import Any, Final

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
    FinishReason,
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
from outrider.dialects.openai_items import (
    ITEM_FIELDS,
    NAME,
    flat_annotations,
    read_item,
    read_output_content,
    reasoning_item,
    usage_body,
    written_call,
)
from outrider.dialects.openai_parts import effort_of, image_url_of, media_from_url, plain_content
from outrider.dialects.openai_responses_stream import ResponsesStreamReader, ResponsesStreamWriter
from outrider.dialects.usage import openai_usage
from outrider.dialects.values import (
    NUMBER,
    REST,
    Fields,
    Plain,
    from_data_url,
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

FIELDS: Final[dict[str, Fields]] = {
    "request": {
        "model": "model",
        "input": "messages",
        "instructions": "system",
        "background": "background",
        "conversation": "conversation",
        "context_management": REST,
        "include": "logprobs",
        "max_output_tokens": "max_tokens",
        "max_tool_calls": REST,
        "metadata": "metadata",
        "moderation": REST,
        "parallel_tool_calls": "parallel_tool_calls",
        "previous_response_id": "conversation",
        "prompt": "conversation",
        "prompt_cache_key": "cache_key",
        "prompt_cache_options": REST,
        "prompt_cache_retention": REST,
        "reasoning": "reasoning",
        "safety_identifier": REST,
        "service_tier": "service_tier",
        "store": "store",
        "stream": "stream",
        "stream_options": REST,
        "temperature": "temperature",
        "text": "output, verbosity",
        "tool_choice": "tool_choice",
        "tools": "tools",
        "top_logprobs": "top_logprobs",
        "top_p": "top_p",
        "truncation": "truncation",
        "user": "user",
    },
    "message": {"type": "", "role": "role", "content": "parts", "id": "id", "status": REST, "phase": REST},
    "part.input_text": {"type": "", "text": "text", "prompt_cache_breakpoint": REST},
    "part.input_image": {
        "type": "",
        "image_url": "url, data",
        "file_id": "file_id",
        "detail": "detail",
        "prompt_cache_breakpoint": REST,
    },
    "part.input_file": {
        "type": "",
        "file_data": "data",
        "file_id": "file_id",
        "file_url": "url",
        "filename": "name",
        "detail": REST,
        "prompt_cache_breakpoint": REST,
    },
    "tool": {
        "type": "",
        "name": "name",
        "description": "description",
        "parameters": "schema",
        "strict": "strict",
        "format": "format",
        "async": REST,
        "allowed_callers": REST,
        "defer_loading": REST,
        "output_schema": REST,
    },
    "answer": {
        "id": "id",
        "object": "",
        "created_at": "created_s",
        "model": "model",
        "output": "choices",
        "status": "finish",
        "incomplete_details": "finish",
        "error": "finish",
        "usage": "usage",
        "service_tier": "service_tier",
        # what an answer repeats of its request, and what is said about it
        "background": REST,
        "billing": REST,
        "completed_at": REST,
        "copilot_usage": REST,
        "conversation": REST,
        "frequency_penalty": REST,
        "instructions": REST,
        "max_output_tokens": REST,
        "max_tool_calls": REST,
        "metadata": REST,
        "moderation": REST,
        "parallel_tool_calls": REST,
        "presence_penalty": REST,
        "previous_response_id": REST,
        "prompt": REST,
        "prompt_cache_key": REST,
        "prompt_cache_retention": REST,
        "reasoning": REST,
        "safety_identifier": REST,
        "store": REST,
        "temperature": REST,
        "text": REST,
        "tool_choice": REST,
        "tool_usage": REST,
        "tools": REST,
        "top_logprobs": REST,
        "top_p": REST,
        "truncation": REST,
        "user": REST,
    },
    **ITEM_FIELDS,
}
_KNOWN: Final = {level: known(fields) for level, fields in FIELDS.items()}
_PLAIN: Final[Plain] = {
    "background": ("background", (bool,)),
    "max_output_tokens": ("max_tokens", (int,)),
    "metadata": ("metadata", (dict,)),
    "parallel_tool_calls": ("parallel_tool_calls", (bool,)),
    "prompt_cache_key": ("cache_key", (str,)),
    "service_tier": ("service_tier", (str,)),
    "store": ("store", (bool,)),
    "temperature": ("temperature", NUMBER),
    "top_logprobs": ("top_logprobs", (int,)),
    "top_p": ("top_p", NUMBER),
    "truncation": ("truncation", (str,)),
    "user": ("user", (str,)),
}
_BINDING: Final = ("previous_response_id", "conversation", "prompt")
_LOGPROBS: Final = "message.output_text.logprobs"
_LEADING: Final = frozenset({"role", "content", "type"})


# -- request, read


def _read_request(body: Json, model: str | None, stream: bool | None) -> Request:
    given, rest = plain_fields(body, _PLAIN, _KNOWN["request"])
    system, messages = _input(body.get("input"), body.get("instructions"))
    request = Request(
        NAME,
        model or typed(body.get("model"), (str,), "model"),
        messages,
        system=system,
        tools=[_tool(tool) for tool in objects(body.get("tools"), "tools")],
        stream=stream if stream is not None else body.get("stream") is True,
        stream_usage=True,
        **given,
    )
    _read_rest(body, request, rest)
    request.rest = rest or None
    return request


def _read_rest(body: Json, request: Request, rest: Json) -> None:
    choice = body.get("tool_choice")
    if choice is not None:
        request.tool_choice = _tool_choice(choice)
        if request.tool_choice is None:
            rest["tool_choice"] = choice
    include = [one for one in listed(body.get("include")) if one != _LOGPROBS]
    if len(include) < len(listed(body.get("include"))):
        request.logprobs = True
    if include:
        rest["include"] = include
    reasoning = body.get("reasoning")
    if type(reasoning) is dict:
        request.reasoning = Reasoning(
            effort=optional(reasoning.get("effort"), (str,), "reasoning.effort"),
            summary=optional(reasoning.get("summary"), (str,), "reasoning.summary"),
            rest=rest_of(reasoning, frozenset({"effort", "summary"})),
        )
    said = body.get("text")
    if type(said) is dict:
        request.verbosity = optional(said.get("verbosity"), (str,), "text.verbosity")
        if said.get("format") is not None:
            request.output = _output(typed(said["format"], (dict,), "text.format"))
        more = rest_of(said, frozenset({"verbosity", "format"}))
        if more:
            rest["text"] = more
    bound = {key: body[key] for key in _BINDING if body.get(key) is not None}
    request.conversation = bound or None


def _output(form: Json) -> OutputFormat:
    kind = form.get("type")
    if kind == "json_schema":
        return OutputFormat(
            "schema",
            optional(form.get("schema"), (dict,), "text.format.schema"),
            optional(form.get("name"), (str,), "text.format.name"),
            optional(form.get("description"), (str,), "text.format.description"),
            optional(form.get("strict"), (bool,), "text.format.strict"),
        )
    if kind in ("text", "json_object"):
        return OutputFormat("text" if kind == "text" else "json")
    raise UnreadableError("The field text.format.type is none of text, json_object and json_schema.")


def _input(given: Any, instructions: Any) -> tuple[list[Part], list[Message]]:
    system: list[Part] = []
    if instructions is not None:
        system.append(Text(typed(instructions, (str,), "instructions")))
    if type(given) is str:
        return system, [Message("user", [Text(given)])]
    reader = _InputReader(system)
    for item in objects(given, "input"):
        reader.take(item)
    return system, reader.messages


class _InputReader:
    """Items, put together to messages."""

    def __init__(self, system: list[Part]) -> None:
        self.messages: list[Message] = []
        self._system = system
        self._spoke = False  # the assistant message at hand holds a message item already

    def take(self, item: Json) -> None:
        kind = item.get("type") or "message"
        if kind == "message":
            self._message(item)
            return
        part = read_item(item, result_content)
        if isinstance(part, ToolResult):
            self._results().append(part)
        elif isinstance(part, Opaque) and _is_of_app(part.kind):
            self.messages.append(Message("user", [part]))
        else:
            self._turn().parts.append(part)

    def _message(self, item: Json) -> None:
        role = item.get("role")
        if role == "assistant":
            message = self._turn()
            if self._spoke:
                message = Message("assistant", [])
                self.messages.append(message)
            self._spoke = True
            message.id = word(item.get("id"))
            message.rest = rest_of(item, _KNOWN["message"])
            message.parts += _content(item.get("content"))
        elif role == "system" and not self.messages and item.keys() <= _LEADING:
            self._system += _content(item.get("content"))
        elif role in ("user", "system", "developer"):
            message = Message(
                "user" if role == "user" else "system", _content(item.get("content")), id=word(item.get("id"))
            )
            message.developer = role == "developer"
            message.rest = rest_of(item, _KNOWN["message"])
            self.messages.append(message)
        else:
            raise UnreadableError("The field input[].role is none of user, assistant, system and developer.")

    def _turn(self) -> Message:
        if not self.messages or self.messages[-1].role != "assistant":
            self.messages.append(Message("assistant", []))
            self._spoke = False
        return self.messages[-1]

    def _results(self) -> list[Part]:
        last = self.messages[-1] if self.messages else None
        if last is None or last.role != "user" or not last.parts or type(last.parts[-1]) is not ToolResult:
            last = Message("user", [])
            self.messages.append(last)
        return last.parts


def _is_of_app(kind: str) -> bool:
    """Items that the app makes; all others are the model's."""
    return kind.endswith("_output") or kind in ("item_reference", "mcp_approval_response", "compaction_trigger")


def _content(content: Any) -> list[Part]:
    if type(content) is str:
        return [Text(content)]
    return [_part(part) for part in objects(content, "input[].content")]


def result_content(content: Any) -> list[Part]:
    return _content(content)


def _part(part: Json) -> Part:
    kind = part.get("type")
    if kind == "input_text":
        words = typed(part.get("text"), (str,), "input[].content[].text")
        return Text(words, rest=rest_of(part, _KNOWN["part.input_text"]))
    if kind in ("output_text", "refusal"):
        return read_output_content(part)
    if kind == "input_image":
        return _image(part)
    if kind == "input_file":
        return _file(part)
    if kind == "input_audio" and type(part.get("input_audio")) is dict:
        audio = part["input_audio"]
        return Media("audio", f"audio/{text(audio.get('format'))}".replace("/mp3", "/mpeg"), text(audio.get("data")))
    return Opaque(NAME, kind if type(kind) is str else "without a type", part)


def _image(part: Json) -> Media:
    if part.get("image_url") is not None:
        media = media_from_url("image", typed(part["image_url"], (str,), "input[].content[].image_url"))
    else:
        media = Media("image", file_id=typed(part.get("file_id"), (str,), "input[].content[].file_id"))
    media.detail = optional(part.get("detail"), (str,), "input[].content[].detail")
    media.rest = rest_of(part, _KNOWN["part.input_image"])
    return media


def _file(part: Json) -> Media:
    media = Media("document", name=word(part.get("filename")), rest=rest_of(part, _KNOWN["part.input_file"]))
    if part.get("file_url") is not None:
        media.url = typed(part["file_url"], (str,), "input[].content[].file_url")
    elif part.get("file_data") is not None:
        data = typed(part["file_data"], (str,), "input[].content[].file_data")
        media.mime, media.data = from_data_url(data) or (None, data)
    else:
        media.file_id = typed(part.get("file_id"), (str,), "input[].content[].file_id")
    return media


def _tool(tool: Json) -> Tool:
    kind = tool.get("type")
    if kind not in ("function", "custom"):
        return Tool(text(kind), server=True, rest=tool)
    return Tool(
        typed(tool.get("name"), (str,), "tools[].name"),
        optional(tool.get("description"), (str,), "tools[].description"),
        optional(tool.get("parameters"), (dict,), "tools[].parameters"),
        optional(tool.get("strict"), (bool,), "tools[].strict"),
        kind == "custom",
        optional(tool.get("format"), (dict,), "tools[].format"),
        rest=rest_of(tool, _KNOWN["tool"]),
    )


def _tool_choice(choice: Any) -> ToolChoice | None:
    if choice in ("auto", "none", "required"):
        return ToolChoice(choice)
    if type(choice) is not dict:
        return None
    kind = choice.get("type")
    if kind in ("function", "custom") and text(choice.get("name")):
        return ToolChoice("named", [choice["name"]])
    if kind == "allowed_tools":
        names = [text(tool.get("name")) for tool in listed(choice.get("tools")) if type(tool) is dict]
        if all(names):
            return ToolChoice("required" if choice.get("mode") == "required" else "auto", names)
    return None


# -- request, written


def _write_request(request: Request, notes: Notes) -> WrittenRequest:
    is_own = request.origin == NAME
    body: Json = {"model": request.model}
    items: list[Json] = []
    system = request.system
    first = system[0] if system else None
    if len(system) == 1 and type(first) is Text and not (is_own and first.rest):
        body["instructions"] = first.text
    elif system:
        items.append({"role": "system", "content": _written_content(system, is_own)})
    for message in request.messages:
        _written_message(message, is_own, items)
    body["input"] = items
    body |= written_fields(request, _PLAIN)
    if not is_own and request.store is None:
        body["store"] = False  # elsewhere nothing is kept unless asked for, here it is
    if request.logprobs:
        body["include"] = [_LOGPROBS]
    _written_text(request, body)
    if request.reasoning is not None:
        _written_reasoning(request.reasoning, is_own, body, notes)
    if request.tools:
        body["tools"] = [_written_tool(tool, is_own) for tool in request.tools]
    if request.tool_choice is not None:
        custom = {tool.name for tool in request.tools if tool.is_custom}
        body["tool_choice"] = _written_choice(request.tool_choice, custom)
    if request.stream:
        body["stream"] = True
    if is_own:
        _give_back(request, body)
    return WrittenRequest(body)


def _give_back(request: Request, body: Json) -> None:
    body |= request.conversation or {}
    for key, value in (request.rest or {}).items():
        if key == "include":
            body[key] = [*body.get(key, ()), *value]
        elif key == "text":
            body[key] = body.get(key, {}) | value
        else:
            body[key] = value


def _written_text(request: Request, body: Json) -> None:
    said: Json = {}
    output = request.output
    if output is not None:
        if output.kind == "schema":
            form: Json = {"type": "json_schema", "name": output.name or "answer", "schema": output.schema or {}}
            if output.description is not None:
                form["description"] = output.description
            if output.strict is not None:
                form["strict"] = output.strict
            said["format"] = form
        else:
            said["format"] = {"type": "json_object" if output.kind == "json" else "text"}
    if request.verbosity is not None:
        said["verbosity"] = request.verbosity
    if said:
        body["text"] = said


def _written_reasoning(reasoning: Reasoning, is_own: bool, body: Json, notes: Notes) -> None:
    made: Json = {}
    effort = reasoning.effort if is_own else effort_of(reasoning, notes)
    if effort is not None:
        made["effort"] = effort
    if reasoning.summary is not None:
        made["summary"] = reasoning.summary
    elif reasoning.show:
        made["summary"] = "auto"
    if is_own and reasoning.rest:
        made |= reasoning.rest
    if made or is_own:
        body["reasoning"] = made


def _written_message(message: Message, is_own: bool, items: list[Json]) -> None:
    if message.role == "assistant":
        _written_turn(message, is_own, items)
        return
    others: list[Part] = []
    for part in message.parts:
        if isinstance(part, ToolResult):
            items.append(_written_result(part, is_own))
        elif isinstance(part, Opaque) and _is_of_app(part.kind):
            if is_own:
                items.append(part.value)
        else:
            others.append(part)
    if others or not message.parts:
        role = "user" if message.role == "user" else "developer" if message.developer else "system"
        made: Json = {"role": role, "content": _written_content(others, is_own)}
        if is_own:
            made |= _own_fields(message)
        items.append(made)


def _own_fields(message: Message) -> Json:
    made: Json = dict(message.rest or {})
    if message.id is not None:
        made["id"] = message.id
    return made


def _written_turn(message: Message, is_own: bool, items: list[Json]) -> None:
    said: list[Part] = []
    for part in message.parts:
        if isinstance(part, (Text, Refusal)):
            said.append(part)
            continue
        _written_said(message, said, is_own, items)
        said = []
        if isinstance(part, ToolCall):
            items.append(written_call(part, is_own))
        elif isinstance(part, Thinking) and is_own:
            items.append(reasoning_item(part))
        elif isinstance(part, Opaque) and is_own:
            items.append(part.value)
    _written_said(message, said, is_own, items)


def _written_said(message: Message, said: list[Part], is_own: bool, items: list[Json]) -> None:
    if not said:
        return
    if is_own and (message.id is not None or any(_is_rich(part) for part in said)):
        made: Json = {"type": "message", "role": "assistant", "content": [_written_output(part) for part in said]}
        items.append(made | _own_fields(message))
    else:
        words = "".join(part.text for part in said if isinstance(part, (Text, Refusal)))
        items.append({"role": "assistant", "content": words} | (message.rest or {} if is_own else {}))


def _is_rich(part: Part) -> bool:
    return isinstance(part, Refusal) or (isinstance(part, Text) and bool(part.citations or part.rest))


def _written_output(part: Part) -> Json:
    if isinstance(part, Refusal):
        return {"type": "refusal", "refusal": part.text} | (part.rest or {})
    assert isinstance(part, Text)
    return {"type": "output_text", "text": part.text, "annotations": part.citations or []} | (part.rest or {})


def _written_result(part: ToolResult, is_own: bool) -> Json:
    kind = "custom_tool_call_output" if part.is_custom else "function_call_output"
    made: Json = {"type": kind, "call_id": part.call_id, "output": _written_content(part.parts, is_own)}
    if is_own and part.rest:
        made |= part.rest
    return made


def _written_content(parts: list[Part], is_own: bool) -> str | list[Json]:
    plain = plain_content(parts, is_own)
    if plain is not None:
        return plain
    return [made for part in parts if (made := _written_part(part, is_own)) is not None]


def _written_part(part: Part, is_own: bool) -> Json | None:
    made: Json
    if isinstance(part, (Text, Refusal)):
        made = {"type": "input_text", "text": part.text}
    elif isinstance(part, Media):
        made = _written_media(part)
    elif isinstance(part, Opaque):
        return part.value if is_own else None
    else:
        return None
    if is_own and part.rest:
        made |= part.rest
    return made


def _written_media(part: Media) -> Json:
    made: Json
    if part.kind == "image":
        made = {"type": "input_image", "detail": part.detail or "auto"}
        return made | ({"file_id": part.file_id} if part.file_id is not None else {"image_url": image_url_of(part)})
    if part.kind == "audio":
        form = (part.mime or "audio/wav").rpartition("/")[2].replace("mpeg", "mp3")
        return {"type": "input_audio", "input_audio": {"data": part.data or "", "format": form}}
    if part.text is not None:
        return {"type": "input_text", "text": part.text}
    made = {"type": "input_file"}
    if part.url is not None:
        made["file_url"] = part.url
    elif part.file_id is not None:
        made["file_id"] = part.file_id
    else:
        made["file_data"] = image_url_of(part)
        made["filename"] = part.name or "document.pdf"  # asked for with file_data
    if part.name is not None and part.file_id is None:
        made["filename"] = part.name
    return made


_NO_ARGUMENTS: Final[Json] = {"type": "object", "properties": {}}


def _written_tool(tool: Tool, is_own: bool) -> Json:
    if tool.server:
        return tool.rest or {}
    made: Json = {"type": "custom" if tool.is_custom else "function", "name": tool.name}
    if tool.description is not None:
        made["description"] = tool.description
    if tool.is_custom:
        if tool.format is not None:
            made["format"] = tool.format
    elif is_own:
        made["parameters"] = tool.schema
        if tool.strict is not None:
            made["strict"] = tool.strict
    else:
        made["parameters"] = tool.schema if tool.schema is not None else _NO_ARGUMENTS
        made["strict"] = tool.strict is True
    if is_own and tool.rest:
        made |= tool.rest
    return made


def _written_choice(choice: ToolChoice, custom: set[str]) -> Any:
    named = [{"type": "custom" if name in custom else "function", "name": name} for name in choice.names]
    if choice.mode == "named":
        return named[0]
    return {"type": "allowed_tools", "mode": choice.mode, "tools": named} if named else choice.mode


# -- answer


def _read_answer(body: Json) -> Answer:
    output = body.get("output")
    if type(output) is not list:
        raise UnreadableError("The answer has no output.")
    parts: list[Part] = []
    rest: Json = {}
    for item in output:
        if type(item) is not dict:
            continue
        if item.get("type") == "message":
            parts += [read_output_content(part) for part in listed(item.get("content")) if type(part) is dict]
            rest.setdefault("items", []).append({key: value for key, value in item.items() if key != "content"})
        else:
            parts.append(read_item(item, result_content))
    choice = Choice(parts, finish_of(body, parts))
    logprobs = [one for part in parts if isinstance(part, Text) for one in listed((part.rest or {}).get("logprobs"))]
    if logprobs:
        choice.logprobs = {"content": logprobs}
    if len(rest.get("items", ())) > 0:
        choice.rest = {"output": output}
    usage = body.get("usage")
    tier = word(body.get("service_tier"))
    return Answer(
        NAME,
        text(body.get("id")),
        text(body.get("model")),
        [choice],
        openai_usage(usage, body.get("model"), tier) if type(usage) is dict else None,
        seconds_of(body.get("created_at")),
        tier,
        rest=rest_of(body, _KNOWN["answer"]),
    )


def finish_of(body: Json, parts: list[Part]) -> FinishReason:
    status = body.get("status")
    if status == "incomplete":
        details = body.get("incomplete_details")
        reason = details.get("reason") if type(details) is dict else None
        return "content_filter" if reason == "content_filter" else "length"
    if status in ("failed", "cancelled"):
        return "error"
    return "tool_calls" if any(isinstance(part, ToolCall) and not part.server for part in parts) else "stop"


def _write_answer(answer: Answer, request: Request, notes: Notes) -> Json:
    is_own = answer.origin == NAME
    if len(answer.choices) > 1:
        notes.add("all answers but the first left out")
    choice = answer.choices[0] if answer.choices else Choice([])
    own = choice.rest.get("output") if is_own and choice.rest else None
    body = response_body(answer.id, answer.model, answer.created_s, request)
    body["output"] = own if own is not None else _written_items(choice.parts, is_own, choice.logprobs, notes)
    body |= ending(choice.finish or "stop")
    body["usage"] = usage_body(answer.usage) if answer.usage is not None else None
    if answer.service_tier is not None:
        body["service_tier"] = answer.service_tier
    if is_own and answer.rest:
        body |= answer.rest
    elif not is_own:
        note_rest(answer.rest, notes)
        note_rest(choice.rest, notes)
    return body


# The first fields of an answer, and what it repeats of what was asked.
def response_body(answer_id: str, model: str, created_s: int | None, request: Request) -> Json:
    choice = request.tool_choice
    return {
        "id": answer_id or new_id("resp_"),
        "object": "response",
        "created_at": created_s if created_s is not None else int(time.time()),
        "status": "in_progress",
        "background": False,
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "max_output_tokens": request.max_tokens,
        "metadata": request.metadata or {},
        "model": model or request.model,
        "output": [],
        "parallel_tool_calls": request.parallel_tool_calls is not False,
        "previous_response_id": None,
        "reasoning": {"effort": request.reasoning.effort if request.reasoning is not None else None, "summary": None},
        "store": False,
        "temperature": request.temperature,
        "text": {"format": {"type": "text"}},
        "tool_choice": _written_choice(choice, set()) if choice is not None else "auto",
        "tools": [_written_tool(tool, request.origin == NAME) for tool in request.tools],
        "top_p": request.top_p,
        "truncation": "disabled",
        "usage": None,
        "user": request.user,
    }


def ending(finish: FinishReason) -> Json:
    """The fields that say how it ended."""
    if finish == "length":
        return {"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}}
    if finish in ("content_filter", "refusal"):
        return {"status": "incomplete", "incomplete_details": {"reason": "content_filter"}}
    if finish == "error":
        return {"status": "failed", "error": {"code": "server_error", "message": "The answer broke off."}}
    return {"status": "completed"}


def _written_items(parts: list[Part], is_own: bool, logprobs: Any, notes: Notes) -> list[Json]:
    items: list[Json] = []
    message: Json | None = None
    for part in parts:
        if isinstance(part, (Text, Refusal)):
            if message is None:
                message = {"id": new_id("msg_"), "type": "message", "status": "completed", "role": "assistant"}
                message["content"] = []
                items.append(message)
            message["content"].append(_answered(part, is_own, logprobs, notes))
            logprobs = None  # all of them stand with the first text
            continue
        message = None
        made = _answered_item(part, is_own, notes)
        if made is not None:
            items.append(made)
    return items


def _answered(part: Text | Refusal, is_own: bool, logprobs: Any, notes: Notes) -> Json:
    if isinstance(part, Refusal):
        return {"type": "refusal", "refusal": part.text}
    tokens = logprobs.get("content") if type(logprobs) is dict else None
    made: Json = {"type": "output_text", "text": part.text, "annotations": flat_annotations(part, is_own, notes)}
    made["logprobs"] = listed(tokens)
    return made


def _answered_item(part: Part, is_own: bool, notes: Notes) -> Json | None:
    if isinstance(part, ToolCall) and (is_own or not part.server):
        if part.signature:
            notes.add("signatures left out")
        return written_call(part, is_own) | {"status": "completed"}
    if isinstance(part, Thinking):
        if not is_own and (part.signature or part.hidden):
            notes.add("signatures left out")
        return reasoning_item(part) if is_own or part.text else None
    if isinstance(part, Opaque) and is_own:
        return part.value  # type: ignore[no-any-return]
    if isinstance(part, ToolCall):
        notes.add(f"{part.name} left out")
    else:
        notes.add(f"{part.kind if isinstance(part, (Opaque, Media)) else 'a part'} left out")
    return None


# -- the adapter

DIALECT: Final[Dialect] = Adapter(
    NAME, "sse", "body", _read_request, _write_request, _read_answer, _write_answer,
    openai_errors.read, openai_errors.written,
    lambda: ResponsesStreamReader(finish_of),
    lambda request, notes: ResponsesStreamWriter(request, notes, response_body, ending),
)  # fmt: skip
