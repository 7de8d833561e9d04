"""Gemini generateContent and streamGenerateContent, at the Gemini API and at Vertex.

Rules
- Calls and results are matched by name and order where they have no ids: a reader gives them ids (which are taken off
  again on the way to Gemini), a writer puts results in the order of the calls.
- generationConfig's unknown fields are kept as "generationConfig.NAME".
- Foreign thoughts do not go to the model as thoughts: their signatures would be missing.

Does not know: HTTP; whether it is Vertex.
Source: google/genai/types.py, ai.google.dev/api/generate-content; recorded answers.
"""

from collections import defaultdict, deque
from typing import Any, Final

from outrider.dialects import native_errors
from outrider.dialects.base import (
    Adapter,
    Dialect,
    Framing,
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
    Thinking,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
)
from outrider.dialects.gemini_parts import (
    NAME,
    PART_FIELDS,
    SKIP_SIGNATURE,
    camels,
    finish_of,
    finish_written,
    needs_signature,
    read_part,
    usage_written,
    write_part,
    written_result,
)
from outrider.dialects.gemini_stream import GeminiStreamReader, GeminiStreamWriter
from outrider.dialects.logprobs import from_gemini, to_gemini
from outrider.dialects.moments import iso, seconds
from outrider.dialects.thinking import budget_of
from outrider.dialects.usage import gemini_usage
from outrider.dialects.values import (
    NUMBER,
    REST,
    Fields,
    Plain,
    known,
    listed,
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

__all__ = ["ARRAY", "DIALECT", "FIELDS"]

FIELDS: Final[dict[str, Fields]] = {
    "request": {
        "contents": "messages",
        "systemInstruction": "system",
        "tools": "tools",
        "toolConfig": "tool_choice",
        "safetySettings": "safety",
        "generationConfig": "",
        "cachedContent": "conversation",
        "labels": "metadata",
        "serviceTier": "service_tier",
        "store": "store",
        "model": "model",
        "modelArmorConfig": REST,
    },
    "generationConfig": {
        "temperature": "temperature",
        "topP": "top_p",
        "topK": "top_k",
        "candidateCount": "n",
        "maxOutputTokens": "max_tokens",
        "stopSequences": "stop",
        "responseLogprobs": "logprobs",
        "logprobs": "top_logprobs",
        "presencePenalty": "presence_penalty",
        "frequencyPenalty": "frequency_penalty",
        "seed": "seed",
        "responseMimeType": "output",
        "responseSchema": "output",
        "responseJsonSchema": "output",
        "responseModalities": "modalities",
        "thinkingConfig": "reasoning",
        "speechConfig": REST,
        "mediaResolution": REST,
        "audioTimestamp": REST,
        "imageConfig": REST,
        "routingConfig": REST,
        "modelSelectionConfig": REST,
        "enableEnhancedCivicAnswers": REST,
    },
    "thinkingConfig": {"includeThoughts": "show", "thinkingBudget": "budget_tokens", "thinkingLevel": "effort"},
    "content": {"role": "role", "parts": "parts"},
    "part": PART_FIELDS,
    "tool": {"functionDeclarations": "tools"},
    "function": {
        "name": "name",
        "description": "description",
        "parameters": "schema",
        "parametersJsonSchema": "schema",
        "response": REST,
        "responseJsonSchema": REST,
        "behavior": REST,
    },
    "toolConfig": {
        "functionCallingConfig": "tool_choice",
        "retrievalConfig": REST,
        "includeServerSideToolInvocations": REST,
    },
    "answer": {
        "candidates": "choices",
        "usageMetadata": "usage",
        "modelVersion": "model",
        "responseId": "id",
        "createTime": "created_s",
        "promptFeedback": REST,
        "modelStatus": REST,
    },
    "candidate": {
        "content": "parts",
        "finishReason": "finish",
        "index": "index",
        "logprobsResult": "logprobs",
        "citationMetadata": "citations",
        "finishMessage": REST,
        "avgLogprobs": REST,
        "groundingMetadata": REST,
        "safetyRatings": REST,
        "tokenCount": REST,
        "urlContextMetadata": REST,
        "continuationToken": REST,
    },
}
_KNOWN: Final = {level: known(fields) for level, fields in FIELDS.items()}
_PLAIN: Final[Plain] = {
    "temperature": ("temperature", NUMBER),
    "topP": ("top_p", NUMBER),
    "candidateCount": ("n", (int,)),
    "maxOutputTokens": ("max_tokens", (int,)),
    "responseLogprobs": ("logprobs", (bool,)),
    "logprobs": ("top_logprobs", (int,)),
    "presencePenalty": ("presence_penalty", NUMBER),
    "frequencyPenalty": ("frequency_penalty", NUMBER),
    "seed": ("seed", (int,)),
}
_OWN_ID: Final = "call_gemini_"  # of calls that had none


# -- request, read


def _read_request(body: Json, model: str | None, stream: bool | None) -> Request:
    body = camels(body)
    system: list[Part] = []
    if body.get("systemInstruction") is not None:
        system = _system(body["systemInstruction"])
    contents = body.get("contents")
    messages = _messages(objects([contents] if type(contents) is dict else contents, "contents"))
    model = model or text(body.get("model")).removeprefix("models/")
    request = Request(NAME, model, messages, system=system, stream=stream is True)
    rest = rest_of(body, _KNOWN["request"]) or {}
    if body.get("generationConfig") is not None:
        _read_config(camels(typed(body["generationConfig"], (dict,), "generationConfig")), request, rest)
    _read_tools(body, request, rest)
    request.safety = body.get("safetySettings") or None
    request.metadata = optional(body.get("labels"), (dict,), "labels")
    request.service_tier = optional(body.get("serviceTier"), (str,), "serviceTier")
    request.store = optional(body.get("store"), (bool,), "store")
    if body.get("cachedContent"):
        request.conversation = {"cachedContent": typed(body["cachedContent"], (str,), "cachedContent")}
    request.rest = rest or None
    return request


def _system(value: Any) -> list[Part]:
    if type(value) is str:  # SDKs of others send it bare
        return [Text(value)]
    holder = camels(typed(value, (dict,), "systemInstruction"))
    return [read_part(part) for part in objects(holder.get("parts"), "systemInstruction.parts")]


def _messages(contents: list[Json]) -> list[Message]:
    ids = _Ids()
    messages = []
    for content in contents:
        role = content.get("role")
        parts = [read_part(part) for part in objects(content.get("parts"), "contents[].parts")]
        if role not in (None, "", "user", "model", "function"):
            raise UnreadableError("The field contents[].role is none of user, model and function.")
        for part in parts:
            ids.give(part)
        messages.append(
            Message("assistant" if role == "model" else "user", parts, rest=rest_of(content, _KNOWN["content"]))
        )
    return messages


class _Ids:
    """A result belongs to the first call of its name that has none yet."""

    def __init__(self) -> None:
        self._open: defaultdict[str, deque[str]] = defaultdict(deque)
        self._count = 0

    def give(self, part: Part) -> None:
        if isinstance(part, ToolCall):
            if not part.id:
                self._count += 1
                part.id = f"{_OWN_ID}{self._count}"
            self._open[part.name].append(part.id)
        elif isinstance(part, ToolResult):
            waiting = self._open[part.name]
            if part.call_id in waiting:
                waiting.remove(part.call_id)
            elif not part.call_id and waiting:
                part.call_id = waiting.popleft()
            elif not part.call_id:
                self._count += 1
                part.call_id = f"{_OWN_ID}{self._count}"


def _read_config(config: Json, request: Request, rest: Json) -> None:
    names = _KNOWN["generationConfig"]
    for key, value in config.items():
        plain = _PLAIN.get(key)
        if value is None:
            continue
        if plain is not None:
            is_whole = float not in plain[1] and type(value) is float and value.is_integer()
            setattr(request, plain[0], typed(int(value) if is_whole else value, plain[1], f"generationConfig.{key}"))
        elif key not in names:
            rest[f"generationConfig.{key}"] = value
    if config.get("topK") is not None:
        request.top_k = int(typed(config["topK"], NUMBER, "generationConfig.topK"))
    if config.get("stopSequences") is not None:
        request.stop = strings(config["stopSequences"], "generationConfig.stopSequences")
    if config.get("responseModalities") is not None:
        modalities = typed(config["responseModalities"], (list,), "generationConfig.responseModalities")
        request.modalities = [str(one).lower() for one in modalities]
    request.output = _output(config)
    if config.get("thinkingConfig") is not None:
        request.reasoning = _reasoning(
            camels(typed(config["thinkingConfig"], (dict,), "generationConfig.thinkingConfig"))
        )


def _output(config: Json) -> OutputFormat | None:
    """responseSchema is OpenAPI's kind of schema (types in capitals), responseJsonSchema is JSON Schema."""
    schema = config.get("responseJsonSchema")
    if type(schema) is dict:
        return OutputFormat("schema", schema)
    schema = config.get("responseSchema")
    if type(schema) is dict:
        return OutputFormat("schema", json_schema(schema))
    mime = config.get("responseMimeType")
    if mime == "application/json":
        return OutputFormat("json")
    return OutputFormat("text") if mime == "text/plain" else None


_SCHEMA_NAMES: Final = {"any_of": "anyOf", "min_items": "minItems", "max_items": "maxItems", "min_length": "minLength",
                        "max_length": "maxLength", "min_properties": "minProperties", "max_properties": "maxProperties",
                        "additional_properties": "additionalProperties"}  # fmt: skip


def json_schema(schema: Any, depth: int = 0) -> Any:
    """Google's Schema as JSON Schema: types in small letters, nullable as a type of its own, its own hints left out."""
    if type(schema) is not dict or depth > 64:
        return schema
    made: Json = {}
    for name, value in schema.items():
        key = _SCHEMA_NAMES.get(name) or name
        if key == "type" and type(value) is str:
            made["type"] = value.lower()
        elif key == "properties" and type(value) is dict:
            made[key] = {field: json_schema(one, depth + 1) for field, one in value.items()}
        elif key == "anyOf" and type(value) is list:
            made[key] = [json_schema(one, depth + 1) for one in value]
        elif key in ("items", "additionalProperties"):
            made[key] = json_schema(value, depth + 1)
        elif key in ("minItems", "maxItems", "minLength", "maxLength", "minProperties", "maxProperties"):
            made[key] = int(value) if type(value) is str and value.isdigit() else value
        elif key not in ("propertyOrdering", "property_ordering", "nullable"):
            made[key] = value
    if schema.get("nullable") is True and type(made.get("type")) is str:
        made["type"] = [made["type"], "null"]
    return made


def _reasoning(config: Json) -> Reasoning:
    level = config.get("thinkingLevel")
    effort = level.lower() if type(level) is str and level != "THINKING_LEVEL_UNSPECIFIED" else None
    budget = config.get("thinkingBudget")
    show = config.get("includeThoughts")
    return Reasoning(
        effort,
        budget if type(budget) is int else None,
        show=show if type(show) is bool else None,
        rest=rest_of(config, _KNOWN["thinkingConfig"]),
    )


def _read_tools(body: Json, request: Request, rest: Json) -> None:
    tools = body.get("tools")
    for holder in map(camels, objects([tools] if type(tools) is dict else tools, "tools")):
        for function in map(camels, objects(holder.get("functionDeclarations"), "tools[].functionDeclarations")):
            request.tools.append(_tool(function))
        for name, value in holder.items():
            if name != "functionDeclarations" and value is not None:
                request.tools.append(Tool(name, server=True, rest={name: value}))
    config = body.get("toolConfig")
    if config is None:
        return
    config = camels(typed(config, (dict,), "toolConfig"))
    calling = config.get("functionCallingConfig")
    if type(calling) is dict:
        request.tool_choice = _choice(camels(calling))
    more = {key: value for key, value in config.items() if key != "functionCallingConfig" and value is not None}
    if more:
        rest["toolConfig"] = more


def _tool(function: Json) -> Tool:
    schema = function.get("parametersJsonSchema")
    if schema is None and type(function.get("parameters")) is dict:
        schema = json_schema(function["parameters"])
    name = typed(function.get("name"), (str,), "tools[].functionDeclarations[].name")
    schema = optional(schema, (dict,), "tools[].functionDeclarations[].parameters")
    description = optional(function.get("description"), (str,), "tools[].functionDeclarations[].description")
    return Tool(name, description, schema, rest=rest_of(function, _KNOWN["function"]))


def _choice(calling: Json) -> ToolChoice | None:
    names = strings(calling.get("allowedFunctionNames"), "toolConfig.functionCallingConfig.allowedFunctionNames")
    mode = calling.get("mode")
    if mode == "ANY":
        return ToolChoice("named" if len(names) == 1 else "required", names)
    if mode == "NONE":
        return ToolChoice("none")
    return ToolChoice("auto", names) if mode in ("AUTO", "VALIDATED") else None


# -- request, written


def _write_request(request: Request, notes: Notes) -> WrittenRequest:
    is_own = request.origin == NAME
    body: Json = {"contents": _written_contents(request, is_own, notes)}
    if request.system:
        body["systemInstruction"] = {"parts": _written_parts(request.system, is_own, notes)}
    config = _written_config(request, is_own)
    if config:
        body["generationConfig"] = config
    _written_tools(request, body, is_own)
    if request.metadata is not None and is_own:
        body["labels"] = request.metadata
    if is_own:
        _written_own(request, body)
    return WrittenRequest(body)


def _written_own(request: Request, body: Json) -> None:
    if request.safety is not None:
        body["safetySettings"] = request.safety
    if request.conversation:
        body |= request.conversation
    if request.service_tier is not None:
        body["serviceTier"] = request.service_tier
    if request.store is not None:
        body["store"] = request.store
    for key, value in (request.rest or {}).items():
        outer, dot, inner = key.partition(".")
        if dot and outer == "generationConfig":
            body.setdefault(outer, {})[inner] = value
        elif key == "toolConfig":
            body[key] = body.get(key, {}) | value
        else:
            body[key] = value


def _written_parts(parts: list[Part], is_own: bool, notes: Notes) -> list[Json]:
    return [made for part in parts if (made := write_part(part, is_own, notes)) is not None]


def _written_contents(request: Request, is_own: bool, notes: Notes) -> list[Json]:
    contents: list[Json] = []
    calls: dict[str, ToolCall] = {}  # of the turn before, in order
    wants_signature = needs_signature(request.model)
    for message in request.messages:
        if message.role == "assistant":
            calls = {part.id: part for part in message.parts if isinstance(part, ToolCall)}
            parts = [part for part in message.parts if is_own or not isinstance(part, Thinking)]
            written = _written_parts(parts, is_own, notes)
            for made in written if calls else ():
                call = made.get("functionCall")
                if call is not None and text(call.get("id")).startswith(_OWN_ID):
                    del call["id"]
            if calls and wants_signature:
                _sign(written)
            role = "model"
        else:
            written = _written_user(message, calls, is_own, notes)
            role = "user"
        if not written:
            continue
        if contents and contents[-1]["role"] == role and not is_own:  # turns alternate
            contents[-1]["parts"] += written
        else:
            content: Json = {"role": role, "parts": written}
            if is_own and message.rest:
                content |= message.rest
            contents.append(content)
    return contents


def _sign(written: list[Json]) -> None:
    """Parallel calls have one signature, on the first."""
    first = next(part for part in written if "functionCall" in part)
    if "thoughtSignature" not in first:
        first["thoughtSignature"] = SKIP_SIGNATURE


def _written_user(message: Message, calls: dict[str, ToolCall], is_own: bool, notes: Notes) -> list[Json]:
    """Results in the order of the calls, before anything else."""
    order = {call_id: index for index, call_id in enumerate(calls)}
    results = [part for part in message.parts if isinstance(part, ToolResult)]
    results.sort(key=lambda part: order.get(part.call_id, len(order)))
    written: list[Json] = []
    for part in results:
        call = calls.get(part.call_id)
        name = part.name or (call.name if call is not None else part.call_id)
        call_id = part.call_id if is_own and not part.call_id.startswith(_OWN_ID) else ""
        made: Json = {"functionResponse": written_result(part, name, call_id, is_own, notes)}
        written.append(made)
    return written + _written_parts([part for part in message.parts if not isinstance(part, ToolResult)], is_own, notes)


def _written_config(request: Request, is_own: bool) -> Json:
    config = written_fields(request, _PLAIN)
    if request.top_k is not None:
        config["topK"] = request.top_k
    if request.stop:
        config["stopSequences"] = request.stop
    if request.modalities and (is_own or request.modalities != ["text"]):
        config["responseModalities"] = [one.upper() for one in request.modalities]
    output = request.output
    if output is not None and output.kind != "text":
        config["responseMimeType"] = "application/json"
        if output.schema is not None:
            config["responseJsonSchema"] = output.schema
    elif output is not None and is_own:
        config["responseMimeType"] = "text/plain"
    if request.reasoning is not None:
        thinking = _written_reasoning(request.reasoning, request.model, is_own)
        if thinking:
            config["thinkingConfig"] = thinking
    return config


_LEVELS: Final = {
    "none": "MINIMAL",
    "minimal": "MINIMAL",
    "low": "LOW",
    "medium": "MEDIUM",
    "high": "HIGH",
    "xhigh": "HIGH",
    "max": "HIGH",
}


def _written_reasoning(reasoning: Reasoning, model: str, is_own: bool) -> Json:
    """Gemini 3 takes a level and refuses one beside a budget; what came before takes a budget."""
    made: Json = {}
    if reasoning.effort is not None and (needs_signature(model) or is_own):
        made["thinkingLevel"] = _LEVELS.get(reasoning.effort, "HIGH")
    elif (budget := budget_of(reasoning)) is not None:
        made["thinkingBudget"] = budget
    if reasoning.show is not None:
        made["includeThoughts"] = reasoning.show
    elif reasoning.summary is not None and not is_own:
        made["includeThoughts"] = True
    if is_own and reasoning.rest:
        made |= reasoning.rest
    return made


def _written_tools(request: Request, body: Json, is_own: bool) -> None:
    functions = [_written_tool(tool, is_own) for tool in request.tools if not tool.server]
    tools: list[Json] = [{"functionDeclarations": functions}] if functions else []
    if is_own:
        tools += [tool.rest for tool in request.tools if tool.server and tool.rest]
    if tools:
        body["tools"] = tools
    choice = request.tool_choice
    if choice is None:
        return
    calling: Json = {"mode": {"auto": "AUTO", "none": "NONE"}.get(choice.mode, "ANY")}
    if choice.names and choice.mode == "auto":
        calling = {"mode": "VALIDATED"}
    if choice.names:
        calling["allowedFunctionNames"] = choice.names
    body["toolConfig"] = {"functionCallingConfig": calling}


def _written_tool(tool: Tool, is_own: bool) -> Json:
    made: Json = {"name": tool.name}
    if tool.description is not None:
        made["description"] = tool.description
    if tool.schema:
        made["parametersJsonSchema"] = tool.schema
    if is_own and tool.rest:
        made |= tool.rest
    return made


# -- answer


def _read_answer(body: Json) -> Answer:
    body = camels(body)
    rows = body.get("candidates")
    feedback = body.get("promptFeedback")
    if type(rows) is not list and type(feedback) is not dict and "usageMetadata" not in body:
        raise UnreadableError("The answer has no candidates.")
    choices = [_candidate(camels(row)) for row in listed(rows) if type(row) is dict]
    if not choices and type(feedback) is dict:
        choices = [Choice([], "content_filter")]
    usage = body.get("usageMetadata")
    return Answer(
        NAME,
        text(body.get("responseId")),
        text(body.get("modelVersion")),
        choices,
        gemini_usage(camels(usage), body.get("modelVersion")) if type(usage) is dict else None,
        seconds(body.get("createTime")),
        rest=rest_of(body, _KNOWN["answer"]),
    )


def _candidate(row: Json) -> Choice:
    content = row.get("content")
    rows = content.get("parts") if type(content) is dict else None
    parts = [read_part(part) for part in rows if type(part) is dict] if type(rows) is list else []
    finish, native = finish_of(row.get("finishReason"), any(isinstance(part, ToolCall) for part in parts))
    index = row.get("index")
    cited = row.get("citationMetadata")
    if type(cited) is dict:
        _cite(cited, parts)
    logprobs = row.get("logprobsResult")
    return Choice(
        parts,
        finish,
        index if type(index) is int else 0,
        None,
        native,
        from_gemini(logprobs) if type(logprobs) is dict else None,
        rest_of(row, _KNOWN["candidate"]),
    )


def _cite(cited: Json, parts: list[Part]) -> None:
    sources = cited.get("citationSources") or cited.get("citations")
    last = next((part for part in reversed(parts) if isinstance(part, Text)), None)
    if last is not None and type(sources) is list and sources:
        last.citations = [_citation(one) for one in sources if type(one) is dict]


def _citation(source: Json) -> Json:
    """With the names that other dialects look for beside Google's own."""
    made = dict(source)
    for name, own in (("url", "uri"), ("start_index", "startIndex"), ("end_index", "endIndex")):
        if own in source:
            made[name] = source[own]
    return made


def _write_answer(answer: Answer, request: Request, notes: Notes) -> Json:
    is_own = answer.origin == NAME
    body: Json = {"candidates": [_written_candidate(choice, is_own, notes) for choice in answer.choices]}
    if answer.usage is not None:
        body["usageMetadata"] = usage_written(answer.usage)
    body["modelVersion"] = answer.model or request.model
    if answer.id:
        body["responseId"] = answer.id
    if answer.created_s is not None:
        body["createTime"] = iso(answer.created_s)
    if is_own and answer.rest:
        body |= answer.rest
        if "promptFeedback" in answer.rest and not any(choice.native_finish for choice in answer.choices):
            body.pop("candidates")
    elif not is_own:
        note_rest(answer.rest, notes)
    return body


def _written_candidate(choice: Choice, is_own: bool, notes: Notes) -> Json:
    parts: list[Json] = []
    citations: list[Json] = []
    for part in choice.parts:
        if isinstance(part, Text) and part.citations:
            citations += _written_citations(part.citations, notes)
        if not is_own:
            note_part(part, notes, cites=True)
            if isinstance(part, ToolCall) and part.server:  # it has been run: the app would run it again
                continue
        made = write_part(part, is_own, notes)
        if made is None:
            continue
        call = made.get("functionCall")
        if call is not None and isinstance(part, ToolCall) and part.id:
            call["id"] = part.id  # a foreign one too: the app sends it back with the result
        parts.append(made)
    made = {"content": {"parts": parts, "role": "model"}, "index": choice.index}
    finish = finish_written(choice.finish, choice.native_finish if is_own else None, notes)
    if finish is not None:
        made["finishReason"] = finish
    if citations:
        made["citationMetadata"] = {"citationSources": citations}
    if choice.logprobs is not None:
        result = to_gemini(choice.logprobs)
        if result is not None:
            made["logprobsResult"] = result
    if is_own and choice.rest:
        made |= choice.rest
    elif not is_own:
        note_rest(choice.rest, notes)
    return made


def _written_citations(citations: list[Json], notes: Notes) -> list[Json]:
    made = []
    for citation in citations:
        inner = citation.get("url_citation")
        inner = inner if type(inner) is dict else citation
        uri = inner.get("uri") or inner.get("url")
        if type(uri) is not str:
            notes.add("citations left out")
            continue
        one: Json = {"uri": uri}
        for name, other in (
            ("startIndex", "start_index"),
            ("endIndex", "end_index"),
            ("title", "title"),
            ("license", "license"),
        ):
            value = inner.get(name, inner.get(other))
            if value is not None:
                one[name] = value
        made.append(one)
    return made


# -- the adapter


def _adapter(framing: Framing) -> Dialect:
    return Adapter(
        NAME, framing, "path", _read_request, _write_request, _read_answer, _write_answer,
        native_errors.error_of_google, native_errors.written_google, GeminiStreamReader,
        GeminiStreamWriter,
    )  # fmt: skip


DIALECT: Final = _adapter("sse")  # where it was asked with alt=sse
ARRAY: Final = _adapter("json-array")  # where it was not: read so; for apps frames.ArrayWriter makes one of events
