"""Bedrock Converse and ConverseStream: one form over all models of Bedrock.

Rules
- What Converse has no field for goes into additionalModelRequestFields under the model's own name for it (top_k and
  thinking of Claude, inferenceConfig.topK of Nova), and is read back from there.
- Turns alternate and begin with the user's; a turn without content is left out.
- Where the conversation has tool calls, tools are declared, or Bedrock refuses the call.

Does not know: HTTP, SigV4; the model stands in the path.
Source: botocore's data of bedrock-runtime; recorded answers.
"""

from typing import Final

import orjson

from outrider.dialects import native_errors
from outrider.dialects.base import (
    Adapter,
    Dialect,
    Json,
    Notes,
    UnreadableError,
    WrittenRequest,
)
from outrider.dialects.bedrock_parts import (
    BLOCK_FIELDS,
    FINISH,
    NAME,
    SOURCE_FIELDS,
    cache_point,
    finish_written,
    read_blocks,
    usage_written,
    write_blocks,
)
from outrider.dialects.bedrock_stream import ConverseStreamReader, ConverseStreamWriter
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
from outrider.dialects.thinking import budget_of, is_off
from outrider.dialects.usage import converse_usage
from outrider.dialects.values import (
    NUMBER,
    REST,
    Fields,
    known,
    note_part,
    note_rest,
    objects,
    optional,
    rest_of,
    strings,
    text,
    typed,
)

__all__ = ["DIALECT", "FIELDS"]

FIELDS: Final[dict[str, Fields]] = {
    "request": {
        "messages": "messages",
        "system": "system",
        "inferenceConfig": "",
        "toolConfig": "tools, tool_choice",
        "additionalModelRequestFields": "top_k, reasoning",
        "outputConfig": "output, reasoning.effort",
        "serviceTier": "service_tier",
        "requestMetadata": "metadata",
        "modelId": "model",
        "guardrailConfig": REST,
        "promptVariables": REST,
        "additionalModelResponseFieldPaths": REST,
        "performanceConfig": REST,
        "projectIdentifier": REST,
        "schemaVersion": "",
    },
    "inferenceConfig": {
        "maxTokens": "max_tokens",
        "temperature": "temperature",
        "topP": "top_p",
        "stopSequences": "stop",
        "topK": "top_k",
        "max_new_tokens": "max_tokens",
    },
    "message": {"role": "role", "content": "parts"},
    "block": BLOCK_FIELDS,
    "source": SOURCE_FIELDS,
    "tool": {"toolSpec": "tools", "systemTool": "server tools", "cachePoint": "cache"},
    "toolSpec": {"name": "name", "description": "description", "inputSchema": "schema", "strict": "strict"},
    "answer": {
        "output": "parts",
        "stopReason": "finish",
        "usage": "usage",
        "serviceTier": "service_tier",
        "metrics": REST,
        "trace": REST,
        "additionalModelResponseFields": REST,
        "performanceConfig": REST,
    },
}
_KNOWN: Final = {level: known(fields) for level, fields in FIELDS.items()}


# -- request, read


def read_request(body: Json, model: str | None, stream: bool | None, origin: str = NAME) -> Request:
    """origin: Nova's own bodies are read here too."""
    messages = [_message(item) for item in objects(body.get("messages"), "messages")]
    request = Request(
        origin,
        model or text(body.get("modelId")),
        messages,
        system=read_blocks(objects(body.get("system"), "system")),
        stream=stream is True,
    )
    rest = rest_of(body, _KNOWN["request"]) or {}
    if body.get("inferenceConfig") is not None:
        _read_config(typed(body["inferenceConfig"], (dict,), "inferenceConfig"), request, rest)
    if body.get("toolConfig") is not None:
        _read_tools(typed(body["toolConfig"], (dict,), "toolConfig"), request)
    if body.get("additionalModelRequestFields") is not None:
        more = typed(body["additionalModelRequestFields"], (dict,), "additionalModelRequestFields")
        _read_additional(more, request, rest)
    if body.get("outputConfig") is not None:
        _read_output(typed(body["outputConfig"], (dict,), "outputConfig"), request, rest)
    tier = body.get("serviceTier")
    if type(tier) is dict:
        request.service_tier = optional(tier.get("type"), (str,), "serviceTier.type")
    request.metadata = optional(body.get("requestMetadata"), (dict,), "requestMetadata")
    request.rest = rest or None
    return request


def _message(item: Json) -> Message:
    role = item.get("role")
    if role not in ("user", "assistant", "system"):
        raise UnreadableError("The field messages[].role is none of user, assistant and system.")
    content = item.get("content")
    blocks = [{"text": content}] if type(content) is str else objects(content, "messages[].content")
    return Message(role, read_blocks(blocks), rest=rest_of(item, _KNOWN["message"]))


def _read_config(config: Json, request: Request, rest: Json) -> None:
    tokens = config.get("maxTokens", config.get("max_new_tokens"))
    if tokens is not None:
        request.max_tokens = typed(tokens, (int,), "inferenceConfig.maxTokens")
    if config.get("temperature") is not None:
        request.temperature = typed(config["temperature"], NUMBER, "inferenceConfig.temperature")
    if config.get("topP") is not None:
        request.top_p = typed(config["topP"], NUMBER, "inferenceConfig.topP")
    if config.get("topK") is not None:
        request.top_k = typed(config["topK"], (int,), "inferenceConfig.topK")
    if config.get("stopSequences") is not None:
        request.stop = strings(config["stopSequences"], "inferenceConfig.stopSequences")
    for key, value in config.items():
        if key not in _KNOWN["inferenceConfig"]:
            rest[f"inferenceConfig.{key}"] = value


def _read_tools(config: Json, request: Request) -> None:
    for row in objects(config.get("tools"), "toolConfig.tools"):
        spec = row.get("toolSpec")
        if type(spec) is dict:
            schema = spec.get("inputSchema")
            request.tools.append(
                Tool(
                    typed(spec.get("name"), (str,), "toolConfig.tools[].toolSpec.name"),
                    optional(spec.get("description"), (str,), "toolConfig.tools[].toolSpec.description"),
                    optional(schema.get("json"), (dict,), "toolConfig.tools[].toolSpec.inputSchema.json")
                    if type(schema) is dict
                    else None,
                    optional(spec.get("strict"), (bool,), "toolConfig.tools[].toolSpec.strict"),
                    rest=rest_of(spec, _KNOWN["toolSpec"]),
                )
            )
        elif type(row.get("cachePoint")) is dict and request.tools:
            ttl = row["cachePoint"].get("ttl")
            request.tools[-1].cache = {"type": "ephemeral"} | ({"ttl": ttl} if ttl else {})
        else:
            inner = row.get("systemTool")
            name = text(inner.get("name")) if type(inner) is dict else ""
            request.tools.append(Tool(name or next(iter(row), "unknown"), server=True, rest=row))
    choice = config.get("toolChoice")
    if type(choice) is dict and choice:
        name, inner = next(iter(choice.items()))
        if name == "tool" and type(inner) is dict:
            request.tool_choice = ToolChoice("named", [text(inner.get("name"))])
        else:
            request.tool_choice = ToolChoice("required" if name == "any" else "auto")


def _read_additional(more: Json, request: Request, rest: Json) -> None:
    left = dict(more)
    thinking = left.get("thinking")
    if type(thinking) is dict and thinking.get("type") in ("enabled", "disabled", "adaptive"):
        del left["thinking"]
        kind, budget = thinking["type"], thinking.get("budget_tokens")
        request.reasoning = Reasoning(
            budget_tokens=0 if kind == "disabled" else budget if type(budget) is int else None,
            adaptive=kind == "adaptive",
            show={"summarized": True, "omitted": False}.get(text(thinking.get("display"))),
        )
    if type(left.get("top_k")) is int:
        request.top_k = left.pop("top_k")
    config = left.get("inferenceConfig")
    if type(config) is dict and list(config) == ["topK"] and type(config["topK"]) is int:
        request.top_k = config["topK"]
        del left["inferenceConfig"]
    for key, value in left.items():
        rest[f"additionalModelRequestFields.{key}"] = value


def _read_output(config: Json, request: Request, rest: Json) -> None:
    form = config.get("textFormat")
    structure = form.get("structure") if type(form) is dict else None
    inner = structure.get("jsonSchema") if type(structure) is dict else None
    if type(inner) is dict:
        try:
            schema = orjson.loads(text(inner.get("schema")))
        except orjson.JSONDecodeError as exc:
            raise UnreadableError("The field outputConfig.textFormat.structure.jsonSchema.schema is not JSON.") from exc
        name = optional(inner.get("name"), (str,), "outputConfig.textFormat.structure.jsonSchema.name")
        description = optional(
            inner.get("description"), (str,), "outputConfig.textFormat.structure.jsonSchema.description"
        )
        schema = typed(schema, (dict,), "outputConfig.textFormat.structure.jsonSchema.schema")
        request.output = OutputFormat("schema", schema, name, description, True)
    if type(config.get("effort")) is str:
        request.reasoning = request.reasoning or Reasoning()
        request.reasoning.effort = config["effort"]
    for key, value in config.items():
        if key not in ("textFormat", "effort"):
            rest[f"outputConfig.{key}"] = value


# -- request, written


def write_request(request: Request, notes: Notes) -> WrittenRequest:
    is_own = request.origin == NAME
    body: Json = {"messages": written_messages(request, is_own, notes)}
    system = list(request.system)
    if not is_own:
        system += [part for message in request.messages if message.role == "system" for part in message.parts]
        if request.output is not None and request.output.kind == "json":
            system.append(Text(JSON_ONLY))
    if system:
        body["system"] = write_blocks(system, is_own, notes)
    config = written_config(request)
    if config:
        body["inferenceConfig"] = config
    tools = written_tools(request, is_own, notes)
    if tools:
        body["toolConfig"] = tools
    more = _additional(request)
    if more:
        body["additionalModelRequestFields"] = more
    _written_output(request, body)
    if request.service_tier is not None and (is_own or request.service_tier in _TIERS):
        body["serviceTier"] = {"type": request.service_tier}
    if request.metadata is not None and is_own:
        body["requestMetadata"] = request.metadata
    if is_own and request.rest:
        _written_rest(request.rest, body)
    return WrittenRequest(body)


JSON_ONLY: Final = "Answer with one JSON object and nothing else."
_TIERS: Final = frozenset({"priority", "default", "flex", "reserved"})


def _written_rest(rest: Json, body: Json) -> None:
    for key, value in rest.items():
        outer, dot, inner = key.partition(".")
        if dot:
            body.setdefault(outer, {})[inner] = value
        else:
            body[key] = value


def written_messages(request: Request, is_own: bool, notes: Notes) -> list[Json]:
    messages: list[Json] = []
    for message in request.messages:
        if message.role == "system" and not is_own:
            continue
        parts: list[Part] = message.parts
        if not is_own:
            parts = [part for part in parts if not isinstance(part, Thinking)]
            parts.sort(key=_results_first)
        blocks = write_blocks(parts, is_own, notes)
        if not blocks:
            continue
        if messages and messages[-1]["role"] == message.role and not is_own:  # turns alternate
            messages[-1]["content"] += blocks
        else:
            messages.append({"role": message.role, "content": blocks} | ((is_own and message.rest) or {}))
    if messages and messages[0]["role"] == "assistant" and not is_own:
        messages.insert(0, {"role": "user", "content": [{"text": "..."}]})
        notes.add("a turn of the user put before the conversation")
    return messages


def _results_first(part: Part) -> bool:
    return not isinstance(part, ToolResult)


def written_config(request: Request) -> Json:
    config: Json = {}
    if request.max_tokens is not None:
        config["maxTokens"] = request.max_tokens
    if request.temperature is not None:
        config["temperature"] = request.temperature
    if request.top_p is not None:
        config["topP"] = request.top_p
    if request.stop:
        config["stopSequences"] = request.stop
    return config


def written_tools(request: Request, is_own: bool, notes: Notes) -> Json:
    choice = request.tool_choice
    if choice is not None and choice.mode == "none" and not _has_calls(request):
        return {}
    names = set(choice.names) if choice is not None and choice.mode != "named" else set()
    rows: list[Json] = []
    for tool in request.tools:
        if tool.server:
            rows += [tool.rest] if is_own and tool.rest else []
            continue
        if names and tool.name not in names:
            continue
        spec: Json = {"name": tool.name}
        if tool.description:  # an empty one is refused
            spec["description"] = tool.description
        spec["inputSchema"] = {"json": tool.schema or {"type": "object", "properties": {}}}
        if tool.strict is not None:
            spec["strict"] = tool.strict
        if is_own and tool.rest:
            spec |= tool.rest
        rows.append({"toolSpec": spec})
        if tool.cache is not None:
            rows.append(cache_point(tool.cache))
    if not rows:
        return _declared(request) if not is_own else {}
    made: Json = {"tools": rows}
    if choice is not None and choice.mode == "none":
        notes.add("a tool choice of none left out")
    elif choice is not None:
        words: dict[str, Json] = {"auto": {"auto": {}}, "required": {"any": {}}}
        made["toolChoice"] = words.get(choice.mode) or {"tool": {"name": choice.names[0]}}
    return made


def _has_calls(request: Request) -> bool:
    return any(isinstance(part, (ToolCall, ToolResult)) for message in request.messages for part in message.parts)


def _declared(request: Request) -> Json:
    """Of calls in a conversation that declares none any more."""
    names = {part.name: None for message in request.messages for part in message.parts if isinstance(part, ToolCall)}
    schema = {"json": {"type": "object", "properties": {}}}
    return {"tools": [{"toolSpec": {"name": name, "inputSchema": schema}} for name in names]} if names else {}


def is_claude(model: str) -> bool:
    return "anthropic." in model or "claude" in model


def is_nova(model: str) -> bool:
    return "amazon.nova" in model or "nova-" in model


def _additional(request: Request) -> Json:
    more: Json = {}
    if request.top_k is not None:
        if is_nova(request.model):
            more["inferenceConfig"] = {"topK": request.top_k}
        else:
            more["top_k"] = request.top_k
    reasoning = request.reasoning
    if reasoning is None or not is_claude(request.model):
        return more
    budget = budget_of(reasoning)
    if is_off(reasoning):
        more["thinking"] = {"type": "disabled"}
    elif reasoning.adaptive:
        more["thinking"] = {"type": "adaptive"}
    elif budget is not None and budget > 0 and (request.origin == NAME or reasoning.effort is None):
        more["thinking"] = {"type": "enabled", "budget_tokens": budget}
    if reasoning.show is not None and "thinking" in more and more["thinking"]["type"] != "disabled":
        more["thinking"]["display"] = "summarized" if reasoning.show else "omitted"
    return more


def _written_output(request: Request, body: Json) -> None:
    config: Json = {}
    output = request.output
    if output is not None and output.kind == "schema":
        inner: Json = {"schema": orjson.dumps(output.schema or {}).decode()}
        if output.name is not None:
            inner["name"] = output.name
        if output.description is not None:
            inner["description"] = output.description
        config["textFormat"] = {"type": "json_schema", "structure": {"jsonSchema": inner}}
    if request.reasoning is not None and request.reasoning.effort not in (None, "none"):
        effort = request.reasoning.effort
        config["effort"] = effort if request.origin == NAME else _EFFORTS.get(effort or "", effort)
    if config:
        body["outputConfig"] = config


_EFFORTS: Final = {"minimal": "low", "xhigh": "high"}


# -- answer


def read_answer(body: Json, origin: str = NAME) -> Answer:
    output = body.get("output")
    message = output.get("message") if type(output) is dict else None
    if type(message) is not dict:
        raise UnreadableError("The answer has no output.message.")
    content = message.get("content")
    native = body.get("stopReason")
    tier = body.get("serviceTier")
    parts = read_blocks(content if type(content) is list else [])
    usage = body.get("usage")
    more = body.get("additionalModelResponseFields")
    met = more.get("stop_sequence") if type(more) is dict else None
    finish = FINISH.get(native, "stop") if type(native) is str else None
    choice = Choice(parts, finish, 0, met if type(met) is str else None, native if type(native) is str else None)
    return Answer(
        origin,
        "",
        "",
        [choice],
        converse_usage(usage, None, tier) if type(usage) is dict else None,
        service_tier=text(tier.get("type")) or None if type(tier) is dict else None,
        rest=rest_of(body, _KNOWN["answer"]),
    )


def write_answer(answer: Answer, request: Request, notes: Notes, origin: str = NAME) -> Json:
    is_own = answer.origin == origin
    choice = answer.choices[0] if answer.choices else Choice([], "stop")
    if len(answer.choices) > 1:
        notes.add("all answers but the first left out")
    if not is_own:
        for part in choice.parts:
            note_part(part, notes)
        if choice.logprobs is not None:
            notes.add("logprobs left out")
        note_rest(choice.rest, notes)
    native = choice.native_finish if is_own else None
    body: Json = {
        "output": {"message": {"role": "assistant", "content": write_blocks(choice.parts, is_own, notes)}},
        "stopReason": finish_written(choice.finish, native, notes),
        "usage": usage_written(answer.usage),
        "metrics": {"latencyMs": 0},
    }
    if choice.stop_sequence is not None and not is_own:
        body["additionalModelResponseFields"] = {"stop_sequence": choice.stop_sequence}
    if answer.service_tier in _TIERS:
        body["serviceTier"] = {"type": answer.service_tier}
    if is_own and answer.rest:
        body |= answer.rest
    elif not is_own:
        note_rest(answer.rest, notes)
    return body


# -- the adapter

DIALECT: Final[Dialect] = Adapter(
    NAME, "eventstream", "path", read_request, write_request, read_answer, write_answer,
    native_errors.error_of_aws, native_errors.written_aws, ConverseStreamReader, ConverseStreamWriter,
)  # fmt: skip
