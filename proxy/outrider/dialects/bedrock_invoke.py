"""Bedrock InvokeModel and InvokeModelWithResponseStream: bodies of the model's own kind, told apart by its id.

Rules
- Claude's body is Anthropic Messages (and its origin says so: what Anthropic knows is carried whole), Nova's is
  Converse's, Llama's and Titan's are one prompt.
- A conversation for Llama and Titan is written with the model's own marks between turns; marks in what people say are
  broken up, or they could speak as somebody else.
- A stream is event-stream frames that hold a base64 chunk of the model's own.

Does not know: HTTP, SigV4; other models' bodies (AI21, Cohere, Mistral, imported ones), which pass through only.
Source: Anthropic's SDK lib/bedrock, AWS's inference parameters of Nova, Llama and Titan; recorded answers.
"""

import re
from base64 import b64decode, b64encode
from typing import Any, Final, Protocol

import orjson

from outrider.dialects import bedrock_converse, native_errors
from outrider.dialects.base import (
    Adapter,
    Dialect,
    Frame,
    Json,
    Notes,
    StreamReader,
    StreamWriter,
    UnreadableError,
    WrittenRequest,
)
from outrider.dialects.bedrock_stream import ConverseStreamReader, ConverseStreamWriter
from outrider.dialects.canonical import (
    Answer,
    Choice,
    End,
    ErrorEvent,
    Finish,
    FinishReason,
    Message,
    PartStart,
    PartStop,
    ProviderError,
    Refusal,
    Request,
    Start,
    StreamEvent,
    Text,
    TextDelta,
    Usage,
    UsageEvent,
)
from outrider.dialects.frames import FrameReader, eventstream_frame
from outrider.dialects.native_errors import aws_exception, broken_off, cut, error_of_aws
from outrider.dialects.prompts import llama_prompt, transcript, words_of
from outrider.dialects.registry import dialect
from outrider.dialects.usage import invoke_usage
from outrider.dialects.values import NUMBER, REST, Fields, known, rest_of, strings, text, typed

__all__ = ["DIALECT", "FAMILIES", "FIELDS", "family_of"]

NAME: Final = "bedrock.invoke"
VERSION: Final = "bedrock-2023-05-31"

# what a model's id (or ARN) holds -> the name of its body's dialect
FAMILIES: Final = (
    (re.compile(r"anthropic\.claude-(?!v2|instant)"), "anthropic.messages"),
    (re.compile(r"amazon\.nova-"), "bedrock.nova"),
    (re.compile(r"meta\.llama"), "bedrock.llama"),
    (re.compile(r"amazon\.titan-text"), "bedrock.titan"),
)
FIELDS: Final[dict[str, Fields]] = {
    "llama.request": {
        "prompt": "messages",
        "max_gen_len": "max_tokens",
        "temperature": "temperature",
        "top_p": "top_p",
        "images": REST,
    },
    "llama.answer": {
        "generation": "text",
        "prompt_token_count": "usage",
        "generation_token_count": "usage",
        "stop_reason": "finish",
        "amazon-bedrock-invocationMetrics": "usage",
        "amazon-bedrock-trace": REST,
        "amazon-bedrock-guardrailAction": REST,
    },
    "titan.request": {"inputText": "messages", "textGenerationConfig": ""},
    "titan.config": {
        "maxTokenCount": "max_tokens",
        "temperature": "temperature",
        "topP": "top_p",
        "stopSequences": "stop",
    },
    "titan.answer": {
        "inputTextTokenCount": "usage",
        "results": "text, finish, usage",
        "outputText": "text",
        "index": "",
        "totalOutputTextTokenCount": "usage",
        "completionReason": "finish",
        "amazon-bedrock-invocationMetrics": "usage",
        "amazon-bedrock-trace": REST,
        "amazon-bedrock-guardrailAction": REST,
    },
}
_KNOWN: Final = {level: known(fields) for level, fields in FIELDS.items()}


def family_of(model: str) -> str:
    """The dialect of the body. Raises: UnreadableError for a model whose body is not known here."""
    for pattern, name in FAMILIES:
        if pattern.search(model):
            return name
    raise UnreadableError(f"The body of the model {cut(model)[:128]} is not one that can be translated.")


# -- one family each


class _Family(Protocol):
    def read_request(self, body: Json, model: str, stream: bool) -> Request: ...

    def write_request(self, request: Request, notes: Notes) -> Json: ...

    def read_answer(self, body: Json) -> Answer: ...

    def write_answer(self, answer: Answer, request: Request, notes: Notes) -> Json: ...

    def reader(self) -> StreamReader: ...

    def writer(self, request: Request, notes: Notes) -> StreamWriter: ...


def _anthropic() -> Dialect:
    found = dialect("anthropic.messages")
    assert found is not None
    return found


class _Claude:
    """model and stream are in the path, betas in the body."""

    def read_request(self, body: Json, model: str, stream: bool) -> Request:
        inner = {key: value for key, value in body.items() if key not in ("anthropic_version", "anthropic_beta")}
        request = _anthropic().read_request(inner, model=model, stream=stream)
        if body.get("anthropic_beta"):
            request.rest = (request.rest or {}) | {"anthropic_beta": body["anthropic_beta"]}
        return request

    def write_request(self, request: Request, notes: Notes) -> Json:
        written = _anthropic().write_request(request, notes)
        body = {key: value for key, value in written.body.items() if key not in ("model", "stream")}
        betas = [one.strip() for one in written.headers.get("anthropic-beta", "").split(",") if one.strip()]
        if betas:
            body["anthropic_beta"] = [*(body.get("anthropic_beta") or ()), *betas]
        return {"anthropic_version": VERSION} | body

    def read_answer(self, body: Json) -> Answer:
        return _anthropic().read_answer(body)

    def write_answer(self, answer: Answer, request: Request, notes: Notes) -> Json:
        return _anthropic().write_answer(answer, request, notes)

    def reader(self) -> StreamReader:
        return _ClaudeReader()

    def writer(self, request: Request, notes: Notes) -> StreamWriter:
        return _ClaudeWriter(request, notes)


class _ClaudeReader:
    def __init__(self) -> None:
        self._inner = _anthropic().stream_reader()

    def read(self, frame: Frame) -> list[StreamEvent]:
        return self._inner.read(frame)

    def end(self) -> list[StreamEvent]:
        return self._inner.end()


class _ClaudeWriter:
    """Anthropic's own events, each in a chunk; an error is an exception frame instead."""

    def __init__(self, request: Request, notes: Notes) -> None:
        self._inner = _anthropic().stream_writer(request, notes)
        self._frames = FrameReader("sse")

    def write(self, events: list[StreamEvent]) -> bytes:
        if events and isinstance(events[-1], ErrorEvent):
            return self._chunks(events[:-1]) + _exception(events[-1].error)
        return self._chunks(events)

    def _chunks(self, events: list[StreamEvent]) -> bytes:
        return b"".join(chunk(frame.data) for frame in self._frames.feed(self._inner.write(events)))


class _Nova:
    def read_request(self, body: Json, model: str, stream: bool) -> Request:
        return bedrock_converse.read_request(body, model, stream, "bedrock.nova")

    def write_request(self, request: Request, notes: Notes) -> Json:
        is_own = request.origin == "bedrock.nova"
        body: Json = {
            "schemaVersion": "messages-v1",
            "messages": bedrock_converse.written_messages(request, is_own, notes),
        }
        written = bedrock_converse.write_request(request, notes).body
        for key in ("system", "toolConfig"):
            if key in written:
                body[key] = written[key]
        if request.output is not None and request.output.kind == "schema":
            schema = orjson.dumps(request.output.schema or {}).decode()
            asked = f"{bedrock_converse.JSON_ONLY} It has to be valid under this JSON schema: {schema}"
            body["system"] = [*body.get("system", ()), {"text": asked}]
        config = bedrock_converse.written_config(request)
        if request.top_k is not None:
            config["topK"] = request.top_k
        if config:
            body["inferenceConfig"] = config
        if is_own and request.rest:
            for key, value in request.rest.items():
                outer, dot, inner = key.partition(".")
                if dot:
                    body.setdefault(outer, {})[inner] = value
                else:
                    body[key] = value
        return body

    def read_answer(self, body: Json) -> Answer:
        return bedrock_converse.read_answer(body, "bedrock.nova")

    def write_answer(self, answer: Answer, request: Request, notes: Notes) -> Json:
        return bedrock_converse.write_answer(answer, request, notes, "bedrock.nova")

    def reader(self) -> StreamReader:
        return _NovaReader()

    def writer(self, request: Request, notes: Notes) -> StreamWriter:
        return _NovaWriter(request, notes)


class _NovaReader:
    """Each chunk is {"contentBlockDelta": {…}}: the event's name is the key."""

    def __init__(self) -> None:
        self._inner = ConverseStreamReader()

    def read(self, frame: Frame) -> list[StreamEvent]:
        events: list[StreamEvent] = []
        for name, body in _object(frame.data).items():
            if type(body) is dict:
                events += self._inner.take(name, body)
        return events

    def end(self) -> list[StreamEvent]:
        return self._inner.end()


class _NovaWriter(ConverseStreamWriter):
    def frame(self, name: str, body: Json) -> bytes:
        return chunk(orjson.dumps({name: body}))


# -- prompts


class _Prompted:
    """What Llama and Titan have in common: text in, text out."""

    origin = ""

    def _request(self, prompt: Any, field: str, model: str, stream: bool) -> Request:
        words = typed(prompt, (str,), field)
        return Request(self.origin, model, [Message("user", [Text(words)])], stream=stream, is_completion=True)

    def _answer(
        self, words: str, finish: FinishReason | None, native: str | None, body: Json, rest: Json | None
    ) -> Answer:
        choice = Choice([Text(words)] if words else [], finish, native_finish=native)
        return Answer(self.origin, "", "", [choice], invoke_usage(body), rest=rest)

    def _said(self, answer: Answer, notes: Notes) -> tuple[str, Choice]:
        choice = answer.choices[0] if answer.choices else Choice([], "stop")
        if len(answer.choices) > 1:
            notes.add("all answers but the first left out")
        for part in choice.parts:
            if not isinstance(part, (Text, Refusal)):
                notes.add("all but text left out")
        return words_of(choice.parts), choice


_LLAMA_FINISH: Final[dict[str, FinishReason]] = {"stop": "stop", "length": "length"}


class _Llama(_Prompted):
    origin = "bedrock.llama"

    def read_request(self, body: Json, model: str, stream: bool) -> Request:
        request = self._request(body.get("prompt"), "prompt", model, stream)
        if body.get("max_gen_len") is not None:
            request.max_tokens = typed(body["max_gen_len"], (int,), "max_gen_len")
        if body.get("temperature") is not None:
            request.temperature = typed(body["temperature"], NUMBER, "temperature")
        if body.get("top_p") is not None:
            request.top_p = typed(body["top_p"], NUMBER, "top_p")
        request.rest = rest_of(body, _KNOWN["llama.request"])
        return request

    def write_request(self, request: Request, notes: Notes) -> Json:
        body: Json = {"prompt": llama_prompt(request)}
        if request.max_tokens is not None:
            body["max_gen_len"] = request.max_tokens
        if request.temperature is not None:
            body["temperature"] = request.temperature
        if request.top_p is not None:
            body["top_p"] = request.top_p
        return body | ((request.origin == self.origin and request.rest) or {})

    def read_answer(self, body: Json) -> Answer:
        native = body.get("stop_reason")
        if "generation" not in body:
            raise UnreadableError("The answer has no generation.")
        native = native if type(native) is str else None
        finish = _LLAMA_FINISH.get(native, "stop") if native is not None else None
        rest = rest_of(body, _KNOWN["llama.answer"])
        return self._answer(text(body.get("generation")), finish, native, body, rest)

    def write_answer(self, answer: Answer, request: Request, notes: Notes) -> Json:
        words, choice = self._said(answer, notes)
        usage = answer.usage or Usage(0, 0)
        return {
            "generation": words,
            "prompt_token_count": usage.input_tokens,
            "generation_token_count": usage.output_tokens,
            "stop_reason": "length" if choice.finish == "length" else "stop",
        }

    def reader(self) -> StreamReader:
        return _PromptedReader("generation", "stop_reason", _LLAMA_FINISH)

    def writer(self, request: Request, notes: Notes) -> StreamWriter:
        return _PromptedWriter(notes, "generation", "stop_reason", ("stop", "length"))


_TITAN_FINISH: Final[dict[str, FinishReason]] = {
    "FINISH": "stop",
    "FINISHED": "stop",
    "LENGTH": "length",
    "STOP_CRITERIA_MET": "stop_sequence",
    "RAG_QUERY_WHEN_RAG_DISABLED": "error",
    "CONTENT_FILTERED": "content_filter",
}


class _Titan(_Prompted):
    origin = "bedrock.titan"

    def read_request(self, body: Json, model: str, stream: bool) -> Request:
        request = self._request(body.get("inputText"), "inputText", model, stream)
        rest = rest_of(body, _KNOWN["titan.request"]) or {}
        config = typed(body.get("textGenerationConfig") or {}, (dict,), "textGenerationConfig")
        if config.get("maxTokenCount") is not None:
            request.max_tokens = typed(config["maxTokenCount"], (int,), "textGenerationConfig.maxTokenCount")
        if config.get("temperature") is not None:
            request.temperature = typed(config["temperature"], NUMBER, "textGenerationConfig.temperature")
        if config.get("topP") is not None:
            request.top_p = typed(config["topP"], NUMBER, "textGenerationConfig.topP")
        request.stop = strings(config.get("stopSequences"), "textGenerationConfig.stopSequences")
        more = rest_of(config, _KNOWN["titan.config"])
        rest |= {f"textGenerationConfig.{key}": value for key, value in (more or {}).items()}
        request.rest = rest or None
        return request

    def write_request(self, request: Request, notes: Notes) -> Json:
        config: Json = {}
        for key, value in (
            ("maxTokenCount", request.max_tokens),
            ("temperature", request.temperature),
            ("topP", request.top_p),
            ("stopSequences", request.stop or None),
        ):
            if value is not None:
                config[key] = value
        body: Json = {"inputText": transcript(request)}
        for key, value in ((request.origin == self.origin and request.rest) or {}).items():
            outer, dot, inner = key.partition(".")
            if dot and outer == "textGenerationConfig":
                config[inner] = value
            else:
                body[key] = value
        return body | ({"textGenerationConfig": config} if config else {})

    def read_answer(self, body: Json) -> Answer:
        rows = body.get("results")
        row = rows[0] if type(rows) is list and rows else None
        if type(row) is not dict:
            raise UnreadableError("The answer has no results.")
        native = row.get("completionReason")
        native = native if type(native) is str else None
        finish = _TITAN_FINISH.get(native, "stop") if native is not None else None
        rest = rest_of(body, _KNOWN["titan.answer"])
        return self._answer(text(row.get("outputText")), finish, native, body, rest)

    def write_answer(self, answer: Answer, request: Request, notes: Notes) -> Json:
        words, choice = self._said(answer, notes)
        usage = answer.usage or Usage(0, 0)
        reason = {"length": "LENGTH", "content_filter": "CONTENT_FILTERED"}.get(choice.finish or "", "FINISH")
        row = {"tokenCount": usage.output_tokens, "outputText": words, "completionReason": reason}
        return {"inputTextTokenCount": usage.input_tokens, "results": [row]}

    def reader(self) -> StreamReader:
        return _PromptedReader("outputText", "completionReason", _TITAN_FINISH)

    def writer(self, request: Request, notes: Notes) -> StreamWriter:
        return _PromptedWriter(notes, "outputText", "completionReason", ("FINISH", "LENGTH"))


class _PromptedReader:
    def __init__(self, words: str, reason: str, finish: dict[str, FinishReason]) -> None:
        self._words = words
        self._reason = reason
        self._finish = finish
        self._first: Json = {}  # Llama tells what it was given in the first chunk only
        self._begun = False
        self._finished = False
        self._is_blocked = False

    def read(self, frame: Frame) -> list[StreamEvent]:
        body = _object(frame.data)
        events: list[StreamEvent] = []
        if not self._begun:
            self._begun = True
            self._first = {
                key: value for key, value in body.items() if key.endswith("oken_count") and value is not None
            }
            events += (Start("", ""), PartStart(0, 0, Text("")))
        words = text(body.get(self._words))
        if words:
            events.append(TextDelta(0, 0, words))
        native = body.get(self._reason)
        if body.get(_GUARDED) == "INTERVENED":
            self._is_blocked = True
            self._first |= {key: body[key] for key in _TITAN_COUNTS if type(body.get(key)) in NUMBER}
        if type(native) is str and not self._finished:
            self._finished = True
            events += (PartStop(0, 0), Finish(0, self._finish.get(native, "stop"), native=native))
            told = {key: value for key, value in body.items() if value is not None}
            usage = invoke_usage(self._first | told)
            if usage is not None:
                events.append(UsageEvent(usage))
        return events

    def end(self) -> list[StreamEvent]:
        if self._is_blocked and not self._finished:  # a guardrail's own words have no reason behind them
            usage = invoke_usage(self._first)
            events: list[StreamEvent] = [PartStop(0, 0), Finish(0, "content_filter")]
            return [*events, UsageEvent(usage), End()] if usage is not None else [*events, End()]
        return [End()] if self._finished else [broken_off()]


_TITAN_COUNTS: Final = ("inputTextTokenCount", "totalOutputTextTokenCount")
_GUARDED: Final = "amazon-bedrock-guardrailAction"


class _PromptedWriter:
    def __init__(self, notes: Notes, words: str, reason: str, reasons: tuple[str, str]) -> None:
        self._notes = notes
        self._key = words
        self._reason = reason
        self._reasons = reasons
        self._texts: set[int] = set()
        self._usage: Usage | None = None
        self._finish: FinishReason = "stop"

    def write(self, events: list[StreamEvent]) -> bytes:
        return b"".join(map(self._event, events))

    def _event(self, event: StreamEvent) -> bytes:
        if isinstance(event, TextDelta):
            return self._chunk(event.text) if event.choice == 0 and event.part in self._texts else b""
        if isinstance(event, PartStart) and event.choice == 0:
            if isinstance(event.value, (Text, Refusal)):
                self._texts.add(event.part)
                return self._chunk(event.value.text) if event.value.text else b""
            self._notes.add("all but text left out")
        elif isinstance(event, (Start, UsageEvent)):
            self._usage = event.usage or self._usage
        elif isinstance(event, Finish) and event.choice == 0:
            self._finish = event.reason
        elif isinstance(event, ErrorEvent):
            return _exception(event.error)
        elif isinstance(event, End):
            return self._last()
        return b""

    def _chunk(self, words: str) -> bytes:
        return chunk(orjson.dumps({self._key: words, self._reason: None}))

    def _last(self) -> bytes:
        usage = self._usage or Usage(0, 0)
        body: Json = {self._key: "", self._reason: self._reasons[self._finish == "length"]}
        if self._key == "generation":
            body |= {"prompt_token_count": usage.input_tokens, "generation_token_count": usage.output_tokens}
        else:
            body |= {"inputTextTokenCount": usage.input_tokens, "totalOutputTextTokenCount": usage.output_tokens}
        body["amazon-bedrock-invocationMetrics"] = {
            "inputTokenCount": usage.input_tokens,
            "outputTokenCount": usage.output_tokens,
        }
        return chunk(orjson.dumps(body))


# -- chunks


def chunk(data: bytes) -> bytes:
    return eventstream_frame(orjson.dumps({"bytes": b64encode(data).decode("ascii")}), "chunk")


def _exception(error: ProviderError) -> bytes:
    body = orjson.dumps({"message": cut(error.message)})
    return eventstream_frame(body, aws_exception(error), is_exception=True)


def _object(data: bytes) -> Json:
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError:
        return {}
    return value if type(value) is dict else {}


_BY_NAME: Final[dict[str, _Family]] = {
    "anthropic.messages": _Claude(),
    "bedrock.nova": _Nova(),
    "bedrock.llama": _Llama(),
    "bedrock.titan": _Titan(),
}


def _family(model: str) -> _Family:
    return _BY_NAME[family_of(model)]


def _answering(body: Json) -> _Family:
    """An answer does not name its model's family, but no two look alike."""
    if "generation" in body:
        return _BY_NAME["bedrock.llama"]
    if "results" in body:
        return _BY_NAME["bedrock.titan"]
    return _BY_NAME["bedrock.nova" if "output" in body else "anthropic.messages"]


class _InvokeReader:
    """Unpacks the chunks; the first one shows whose they are."""

    def __init__(self) -> None:
        self._inner: StreamReader | None = None
        self._over = False

    def read(self, frame: Frame) -> list[StreamEvent]:
        if self._over:
            return []
        if frame.is_exception:
            self._over = True
            return [ErrorEvent(error_of_aws(0, frame.data, frame.name))]
        packed = _object(frame.data).get("bytes")
        if type(packed) is not str:
            return []
        try:
            data = b64decode(packed, validate=True)
        except ValueError:
            self._over = True
            return [broken_off("The provider's stream has a chunk that is not base64.")]
        if self._inner is None:
            self._inner = _streaming(_object(data))
        events = self._inner.read(Frame(data))
        self._over = any(isinstance(event, (ErrorEvent, End)) for event in events)
        return events

    def end(self) -> list[StreamEvent]:
        if self._over:
            return []
        self._over = True
        return self._inner.end() if self._inner is not None else [broken_off()]


def _streaming(first: Json) -> StreamReader:
    if "generation" in first:
        return _BY_NAME["bedrock.llama"].reader()
    if "outputText" in first:
        return _BY_NAME["bedrock.titan"].reader()
    return _BY_NAME["anthropic.messages" if "type" in first else "bedrock.nova"].reader()


# -- the adapter

DIALECT: Final[Dialect] = Adapter(
    NAME,
    "eventstream",
    "path",
    lambda body, model, stream: _family(model or "").read_request(body, model or "", stream is True),
    lambda request, notes: WrittenRequest(_family(request.model).write_request(request, notes)),
    lambda body: _answering(body).read_answer(body),
    lambda answer, request, notes: _BY_NAME[request.origin].write_answer(answer, request, notes),
    native_errors.error_of_aws,
    native_errors.written_aws,
    _InvokeReader,
    lambda request, notes: _BY_NAME[request.origin].writer(request, notes),
)
