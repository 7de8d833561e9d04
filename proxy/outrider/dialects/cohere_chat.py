"""Cohere's v2 chat.

Rules
- tool_plan, the thought before a call, is a thought whose rest says "tool_plan", and goes back to where it stood.
- Citations stand beside the content; here they stand with the text that they cite, as Cohere wrote them.
- `documents` are what the answer is drawn from: they cannot be left out, so another dialect is refused (carry.py).
- strict_tools speaks for all tools at once.

Does not know: HTTP; v1, which is another dialect and passes through only.
Source: cohere/v2/client.py and cohere/types of the Python SDK; recorded answers.
"""

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
from outrider.dialects.cohere_stream import (
    FINISH,
    NAME,
    CohereStreamReader,
    CohereStreamWriter,
    finish_written,
    usage_written,
)
from outrider.dialects.logprobs import from_cohere
from outrider.dialects.thinking import budget_of, is_off
from outrider.dialects.usage import cohere_usage
from outrider.dialects.values import (
    NUMBER,
    REST,
    Fields,
    Plain,
    data_url,
    from_data_url,
    known,
    new_id,
    note_part,
    note_rest,
    objects,
    optional,
    plain_fields,
    rest_of,
    strings,
    text,
    typed,
    written_fields,
)

__all__ = ["DIALECT", "FIELDS"]

FIELDS: Final[dict[str, Fields]] = {
    "request": {
        "model": "model",
        "messages": "messages",
        "tools": "tools",
        "strict_tools": "tools.strict",
        "tool_choice": "tool_choice",
        "response_format": "output",
        "safety_mode": "safety",
        "max_tokens": "max_tokens",
        "stop_sequences": "stop",
        "temperature": "temperature",
        "seed": "seed",
        "frequency_penalty": "frequency_penalty",
        "presence_penalty": "presence_penalty",
        "k": "top_k",
        "p": "top_p",
        "logprobs": "logprobs",
        "thinking": "reasoning",
        "stream": "stream",
        "documents": REST,
        "citation_options": REST,
        "priority": REST,
        "raw_prompting": REST,
    },
    "message": {
        "role": "role",
        "content": "parts",
        "tool_calls": "tool calls",
        "tool_plan": "thinking",
        "tool_call_id": "tool results",
        "citations": "citations",
    },
    "part": {"type": "", "text": "text", "thinking": "thinking", "image_url": "media", "document": "opaque"},
    "image_url": {"url": "url, data", "detail": "detail"},
    "tool_call": {"id": "id", "type": "", "function": "name, arguments"},
    "tool": {"type": "", "function": "name, description, schema"},
    "function": {"name": "name", "description": "description", "parameters": "schema"},
    "thinking": {"type": "reasoning", "token_budget": "budget_tokens"},
    "answer": {
        "id": "id",
        "finish_reason": "finish",
        "message": "parts",
        "usage": "usage",
        "logprobs": "logprobs",
        "prompt": REST,
    },
}
_KNOWN: Final = {level: known(fields) for level, fields in FIELDS.items()}
_PLAIN: Final[Plain] = {
    "max_tokens": ("max_tokens", (int,)),
    "temperature": ("temperature", NUMBER),
    "seed": ("seed", (int,)),
    "frequency_penalty": ("frequency_penalty", NUMBER),
    "presence_penalty": ("presence_penalty", NUMBER),
    "k": ("top_k", (int,)),
    "p": ("top_p", NUMBER),
    "logprobs": ("logprobs", (bool,)),
    "safety_mode": ("safety", (str,)),
}
_OWN_ONLY: Final = frozenset({"safety"})
_TOOL_PLAN: Final = "tool_plan"


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
    if body.get("stop_sequences") is not None:
        request.stop = strings(body["stop_sequences"], "stop_sequences")
    strict = body.get("strict_tools")
    request.tools = [_tool(row, strict) for row in objects(body.get("tools"), "tools")]
    choice = body.get("tool_choice")
    if choice is not None:
        request.tool_choice = ToolChoice("required" if choice == "REQUIRED" else "none")
    if body.get("response_format") is not None:
        request.output = _output(typed(body["response_format"], (dict,), "response_format"))
    if body.get("thinking") is not None:
        request.reasoning = _reasoning(typed(body["thinking"], (dict,), "thinking"))
    request.rest = {key: value for key, value in rest.items() if value is not None} or None
    return request


def _output(form: Json) -> OutputFormat:
    schema = form.get("json_schema", form.get("schema"))
    if form.get("type") != "json_object":
        return OutputFormat("text")
    return OutputFormat("schema", schema) if type(schema) is dict else OutputFormat("json")


def _reasoning(thinking: Json) -> Reasoning:
    budget = thinking.get("token_budget")
    rest = rest_of(thinking, _KNOWN["thinking"])
    if thinking.get("type") == "disabled":
        return Reasoning(budget_tokens=0, rest=rest)
    return Reasoning(budget_tokens=budget if type(budget) is int else -1, rest=rest)


def _tool(row: Json, strict: Any) -> Tool:
    function = typed(row.get("function"), (dict,), "tools[].function")
    return Tool(
        typed(function.get("name"), (str,), "tools[].function.name"),
        optional(function.get("description"), (str,), "tools[].function.description"),
        optional(function.get("parameters"), (dict,), "tools[].function.parameters"),
        strict if type(strict) is bool else None,
        rest=rest_of(function, _KNOWN["function"]),
    )


def _messages(items: list[Json]) -> tuple[list[Part], list[Message]]:
    system: list[Part] = []
    messages: list[Message] = []
    results: Message | None = None
    for item in items:
        role = item.get("role")
        if role == "tool":
            if results is None:
                results = Message("user", [])
                messages.append(results)
            parts = _content(item.get("content"))
            results.parts.append(
                ToolResult(text(item.get("tool_call_id")), parts, rest=rest_of(item, _KNOWN["message"]))
            )
            continue
        results = None
        rest = rest_of(item, _KNOWN["message"])
        if role == "system" and not messages and rest is None:
            system += _content(item.get("content"))
        elif role == "assistant":
            messages.append(Message("assistant", _said(item), rest=rest))
        elif role in ("system", "user"):
            messages.append(Message(role, _content(item.get("content")), rest=rest))
        else:
            raise UnreadableError("The field messages[].role is none of system, user, assistant and tool.")
    return system, messages


def _said(item: Json) -> list[Part]:
    """What a model said, in a request and in an answer."""
    parts: list[Part] = []
    if item.get(_TOOL_PLAN):
        parts.append(Thinking(text(item[_TOOL_PLAN]), rest={_TOOL_PLAN: ""}))
    first = len(parts)
    if item.get("content"):
        parts += _content(item["content"])
    citations = item.get("citations")
    if type(citations) is list and citations:
        _cite([one for one in citations if type(one) is dict], parts, first)
    for row in objects(item.get("tool_calls"), "messages[].tool_calls"):
        parts.append(read_call(row))
    return parts


def _cite(citations: list[Json], parts: list[Part], first: int) -> None:
    for citation in citations:
        index = citation.get("content_index")
        at = first + (index if type(index) is int else 0)
        texts = [part for part in parts if isinstance(part, Text)]
        target = parts[at] if 0 <= at < len(parts) and isinstance(parts[at], Text) else next(iter(texts), None)
        if target is None:  # it cites the plan, which has no text of its own kind
            target = Text("")
            parts.append(target)
        if isinstance(target, Text):
            target.citations = [*(target.citations or ()), citation]


def read_call(row: Json) -> ToolCall:
    function = row.get("function")
    function = function if type(function) is dict else {}
    return ToolCall(
        text(row.get("id")),
        text(function.get("name")),
        text(function.get("arguments")) or "{}",
        rest=rest_of(row, _KNOWN["tool_call"]),
    )


def _content(content: Any) -> list[Part]:
    if type(content) is str:
        return [Text(content)]
    return [_part(part) for part in objects(content, "messages[].content")]


def _part(part: Json) -> Part:
    kind = part.get("type")
    rest = rest_of(part, _KNOWN["part"])
    if kind == "text":
        return Text(text(part.get("text")), rest=rest)
    if kind == "thinking":
        return Thinking(text(part.get("thinking")), rest=rest)
    image = part.get("image_url")
    if kind == "image_url" and type(image) is dict:
        url = text(image.get("url"))
        inline = from_data_url(url)
        media = Media("image", detail=text(image.get("detail")) or None, rest=rest)
        if inline is not None:
            media.mime, media.data = inline
        else:
            media.url = url
        return media
    return Opaque(NAME, kind if type(kind) is str else "without a type", part)


# -- request, written


def _write_request(request: Request, notes: Notes) -> WrittenRequest:
    is_own = request.origin == NAME
    body: Json = {"model": request.model, "messages": _written_messages(request, is_own, notes)}
    if request.stream:
        body["stream"] = True
    body |= written_fields(request, _PLAIN, frozenset() if is_own else _OWN_ONLY)
    if request.stop:
        body["stop_sequences"] = request.stop
    _written_tools(request, body, is_own)
    output = request.output
    if output is not None and (is_own or output.kind != "text"):
        body["response_format"] = {"type": "text" if output.kind == "text" else "json_object"}
        if output.schema is not None:
            body["response_format"]["json_schema"] = output.schema
    reasoning = request.reasoning
    if reasoning is not None:
        budget = budget_of(reasoning)
        if is_off(reasoning):
            body["thinking"] = {"type": "disabled"}
        elif budget is not None:
            body["thinking"] = {"type": "enabled"} | ({"token_budget": budget} if budget > 0 else {})
        if is_own and reasoning.rest and "thinking" in body:
            body["thinking"] |= reasoning.rest
    if is_own and request.rest:
        body |= request.rest
    return WrittenRequest(body)


def _written_tools(request: Request, body: Json, is_own: bool) -> None:
    choice = request.tool_choice
    names = set(choice.names) if choice is not None else set()
    tools = [tool for tool in request.tools if not tool.server and (not names or tool.name in names)]
    if not tools:
        return
    body["tools"] = [_written_tool(tool, is_own) for tool in tools]
    strict = [tool.strict for tool in tools if tool.strict is not None]
    if strict:
        body["strict_tools"] = any(strict)
    if choice is not None and choice.mode != "auto":
        body["tool_choice"] = "NONE" if choice.mode == "none" else "REQUIRED"


def _written_tool(tool: Tool, is_own: bool) -> Json:
    function: Json = {"name": tool.name, "parameters": tool.schema or {"type": "object", "properties": {}}}
    if tool.description is not None:
        function["description"] = tool.description
    if is_own and tool.rest:
        function |= tool.rest
    return {"type": "function", "function": function}


def _written_messages(request: Request, is_own: bool, notes: Notes) -> list[Json]:
    messages: list[Json] = []
    if request.system:
        messages.append({"role": "system", "content": _written_content(request.system, is_own)})
    for message in request.messages:
        if message.role == "assistant":
            parts: list[Part] = [part for part in message.parts if is_own or not isinstance(part, Thinking)]
            made = _written_said(parts, is_own, in_answer=False)
            if is_own and message.rest:
                made |= message.rest
            messages.append(made)
            continue
        others: list[Part] = []
        for part in message.parts:
            if isinstance(part, ToolResult):
                result = {"role": "tool", "tool_call_id": part.call_id, "content": _written_content(part.parts, is_own)}
                messages.append(result | ((is_own and part.rest) or {}))
            else:
                others.append(part)
        if others or not message.parts:
            made = {"role": message.role, "content": _written_content(others, is_own)}
            messages.append(made | ((is_own and message.rest) or {}))
    return messages


def _written_said(parts: list[Part], is_own: bool, *, in_answer: bool) -> Json:
    made: Json = {"role": "assistant"}
    content: list[Part] = []
    calls: list[Json] = []
    citations: list[Json] = []
    plan = ""
    for part in parts:
        if isinstance(part, ToolCall):
            if not part.server:
                calls.append(_written_call(part, is_own))
        elif isinstance(part, Thinking) and is_own and part.rest and _TOOL_PLAN in part.rest:
            plan += part.text
        elif isinstance(part, Text) and part.citations and is_own:
            citations += part.citations
            if part.text:
                content.append(part)
        else:
            content.append(part)
    if plan:
        made[_TOOL_PLAN] = plan
    if content and in_answer:
        made["content"] = [row for part in content if (row := _written_part(part, is_own)) is not None]
    elif content:
        made["content"] = _written_content(content, is_own)
    elif not calls:
        made["content"] = [] if in_answer else ""
    if calls:
        made["tool_calls"] = calls
    if citations:
        made["citations"] = citations
    return made


def _written_call(call: ToolCall, is_own: bool) -> Json:
    made: Json = {
        "id": call.id or new_id("call_"),
        "type": "function",
        "function": {"name": call.name, "arguments": call.arguments or "{}"},
    }
    return made | ((is_own and call.rest) or {})


def _written_content(parts: list[Part], is_own: bool) -> str | list[Json]:
    if not parts:
        return ""
    first = parts[0]
    if len(parts) == 1 and isinstance(first, Text) and not first.rest:
        return first.text
    return [made for part in parts if (made := _written_part(part, is_own)) is not None]


def _written_part(part: Part, is_own: bool) -> Json | None:
    made: Json
    if isinstance(part, (Text, Refusal)):
        made = {"type": "text", "text": part.text}
    elif isinstance(part, Thinking):
        if not part.text:
            return None
        made = {"type": "thinking", "thinking": part.text}
    elif isinstance(part, Media) and part.text is not None:
        made = {"type": "text", "text": part.text}
    elif isinstance(part, Media) and part.kind == "image":
        url = part.url if part.url is not None else data_url(part.mime or "image/png", part.data or "")
        image: Json = {"url": url}
        if part.detail is not None:
            image["detail"] = part.detail
        made = {"type": "image_url", "image_url": image}
    elif isinstance(part, Opaque):
        return part.value if is_own and part.origin == NAME else None
    else:
        return None
    return made | ((is_own and part.rest) or {})


# -- answer


def _read_answer(body: Json) -> Answer:
    message = body.get("message")
    if type(message) is not dict:
        raise UnreadableError("The answer has no message.")
    native = body.get("finish_reason")
    native = native if type(native) is str else None
    usage = body.get("usage")
    rows = body.get("logprobs")
    choice = Choice(
        _said(message),
        FINISH.get(native, "stop") if native is not None else None,
        native_finish=native,
        logprobs=from_cohere(rows) if type(rows) is list else None,
    )
    more = rest_of(message, _KNOWN["message"])
    if more:
        choice.rest = more
    return Answer(
        NAME,
        text(body.get("id")),
        "",
        [choice],
        cohere_usage(usage) if type(usage) is dict else None,
        rest=rest_of(body, _KNOWN["answer"]),
    )


def _write_answer(answer: Answer, request: Request, notes: Notes) -> Json:
    is_own = answer.origin == NAME
    choice = answer.choices[0] if answer.choices else Choice([], "stop")
    if len(answer.choices) > 1:
        notes.add("all answers but the first left out")
    message = _written_said(choice.parts, is_own, in_answer=True)
    body: Json = {
        "id": answer.id or new_id(""),
        "finish_reason": finish_written(choice.finish, choice.native_finish if is_own else None, notes),
        "message": message,
    }
    if answer.usage is not None:
        body["usage"] = usage_written(answer.usage)
    if is_own:
        message |= choice.rest or {}
        body |= answer.rest or {}
        return body
    for part in choice.parts:
        if isinstance(part, Media) and part.text is None:
            notes.add(f"{part.kind} left out")
        note_part(part, notes)
    if choice.logprobs is not None:
        notes.add("logprobs left out")
    note_rest(choice.rest, notes)
    note_rest(answer.rest, notes)
    return body


# -- the adapter

DIALECT: Final[Dialect] = Adapter(
    NAME, "sse", "body", _read_request, _write_request, _read_answer, _write_answer,
    native_errors.error_of_cohere, native_errors.written_cohere, CohereStreamReader, CohereStreamWriter,
)  # fmt: skip
