"""OpenAI's legacy Completions: a prompt and its continuation.

Rules
- The prompt is one message of the user (Request.is_completion), and what comes back is text and nothing else.
- A prompt of tokens, or of several texts, has no form anywhere else: it is kept whole for its own dialect.

Does not know: HTTP.
Source: openai/types/completion*.py of the Python SDK; recorded answers (vLLM, Together).
"""

import time
from typing import Any, Final

import orjson

from outrider.dialects import openai_errors
from outrider.dialects.base import (
    Adapter,
    Dialect,
    Frame,
    Json,
    Notes,
    UnreadableError,
    WrittenRequest,
)
from outrider.dialects.canonical import (
    Answer,
    Choice,
    End,
    ErrorEvent,
    Finish,
    LogprobsDelta,
    Message,
    Opaque,
    Part,
    PartStart,
    PartStop,
    Refusal,
    Request,
    Start,
    StreamEvent,
    Text,
    TextDelta,
    Usage,
    UsageEvent,
)
from outrider.dialects.openai_chat_stream import cut
from outrider.dialects.openai_parts import FINISH, chat_usage, usage_body, written_finish
from outrider.dialects.values import (
    NUMBER,
    REST,
    Fields,
    Plain,
    index_of,
    known,
    listed,
    new_id,
    note_rest,
    plain_fields,
    rest_of,
    seconds_of,
    text,
    typed,
    word,
    written_fields,
)

__all__ = ["DIALECT", "FIELDS"]

NAME: Final = "openai.completions"
_PROMPT: Final = "prompt of tokens or of several texts"

FIELDS: Final[dict[str, Fields]] = {
    "request": {
        "model": "model",
        "prompt": "messages",
        "best_of": REST,
        "echo": "echo",
        "frequency_penalty": "frequency_penalty",
        "logit_bias": "logit_bias",
        "logprobs": "logprobs, top_logprobs",
        "max_tokens": "max_tokens",
        "min_p": "min_p",
        "n": "n",
        "presence_penalty": "presence_penalty",
        "repetition_penalty": "repetition_penalty",
        "safety_model": REST,
        "seed": "seed",
        "stop": "stop",
        "stream": "stream",
        "stream_options": "stream_usage",
        "suffix": "suffix",
        "temperature": "temperature",
        "top_k": "top_k",
        "top_p": "top_p",
        "user": "user",
        "variables": REST,
    },
    "answer": {
        "id": "id",
        "object": "",
        "created": "created_s",
        "model": "model",
        "choices": "choices",
        "usage": "usage",
        "service_tier": "service_tier",
        "system_fingerprint": "fingerprint",
        "prompt": REST,
        "value": REST,
    },
    "choice": {
        "index": "index",
        "text": "parts",
        "message": "parts",
        "delta": "parts",
        "finish_reason": "finish",
        "logprobs": "logprobs",
        "log_probs": REST,
        "stop_reason": REST,
        "prompt_logprobs": REST,
        "seed": REST,
    },
}
_KNOWN: Final = {level: known(fields) for level, fields in FIELDS.items()}
_PLAIN: Final[Plain] = {
    "echo": ("echo", (bool,)),
    "frequency_penalty": ("frequency_penalty", NUMBER),
    "logit_bias": ("logit_bias", (dict,)),
    "max_tokens": ("max_tokens", (int,)),
    "min_p": ("min_p", NUMBER),
    "n": ("n", (int,)),
    "presence_penalty": ("presence_penalty", NUMBER),
    "repetition_penalty": ("repetition_penalty", NUMBER),
    "seed": ("seed", (int,)),
    "suffix": ("suffix", (str,)),
    "temperature": ("temperature", NUMBER),
    "top_k": ("top_k", (int,)),
    "top_p": ("top_p", NUMBER),
    "user": ("user", (str,)),
}
_COMPATIBLE_ONLY: Final = frozenset({"min_p", "repetition_penalty", "top_k"})


# -- request


def _read_request(body: Json, model: str | None, stream: bool | None) -> Request:
    given, rest = plain_fields(body, _PLAIN, _KNOWN["request"])
    stop = body.get("stop")
    if stop is not None:
        stops = [stop] if type(stop) is str else typed(stop, (str, list), "stop")
        given["stop"] = [typed(one, (str,), "stop[]") for one in stops]
    logprobs = body.get("logprobs")
    if logprobs is not None:
        given["logprobs"], given["top_logprobs"] = True, typed(logprobs, (int,), "logprobs")
    options = body.get("stream_options")
    if type(options) is dict and "include_usage" in options:
        given["stream_usage"] = options["include_usage"] is True
    return Request(
        NAME,
        model or typed(body.get("model"), (str,), "model"),
        [Message("user", [_prompt(body.get("prompt"))])],
        stream=stream if stream is not None else body.get("stream") is True,
        is_completion=True,
        rest=rest or None,
        **given,
    )


def _prompt(prompt: Any) -> Part:
    if type(prompt) is list and len(prompt) == 1 and type(prompt[0]) is str:
        return Text(prompt[0])
    if type(prompt) is list:
        return Opaque(NAME, _PROMPT, prompt)
    return Text(typed(prompt, (str, list), "prompt")) if prompt is not None else Text("")


def _write_request(request: Request, notes: Notes) -> WrittenRequest:
    is_own = request.origin == NAME
    parts = [part for message in request.messages for part in message.parts]
    prompt: Any = "".join(part.text for part in parts if isinstance(part, (Text, Refusal)))
    if is_own and parts and isinstance(parts[0], Opaque):
        prompt = parts[0].value
    body: Json = {"model": request.model, "prompt": prompt}
    body |= written_fields(request, _PLAIN, frozenset() if is_own else _COMPATIBLE_ONLY)
    if request.stop:
        body["stop"] = request.stop
    if request.logprobs:
        body["logprobs"] = request.top_logprobs or 0
    if request.stream:
        body["stream"] = True
        asked = request.stream_usage if is_own else True
        if asked is not None:
            body["stream_options"] = {"include_usage": asked}
    if is_own and request.rest:
        body |= request.rest
    return WrittenRequest(body)


# -- answer


def _read_answer(body: Json) -> Answer:
    rows = body.get("choices")
    if type(rows) is not list:
        raise UnreadableError("The answer has no choices.")
    return Answer(
        NAME,
        text(body.get("id")),
        text(body.get("model")),
        [_choice(row) for row in rows if type(row) is dict],
        chat_usage(body),
        seconds_of(body.get("created")),
        word(body.get("service_tier")),
        word(body.get("system_fingerprint")),
        rest_of(body, _KNOWN["answer"]),
    )


def _choice(row: Json) -> Choice:
    native = word(row.get("finish_reason"))
    finish = FINISH.get(native, "stop") if type(native) is str else None
    choice = Choice([Text(_said(row, "message"))], finish, index_of(row.get("index")), None, native)
    choice.logprobs = chat_logprobs(row.get("logprobs"))
    choice.rest = rest_of(row, _KNOWN["choice"])
    return choice


def _said(row: Json, holder: str) -> str:
    """Some servers answer with chat's message instead of text."""
    said = row.get("text")
    if type(said) is not str and type(row.get(holder)) is dict:
        said = row[holder].get("content")
    return text(said)


def _write_answer(answer: Answer, request: Request, notes: Notes) -> Json:
    is_own = answer.origin == NAME
    body: Json = {
        "id": answer.id or new_id("cmpl-"),
        "object": "text_completion",
        "created": answer.created_s if answer.created_s is not None else int(time.time()),
        "model": answer.model,
        "choices": [_written_choice(choice, is_own, notes) for choice in answer.choices],
    }
    if answer.usage is not None:
        body["usage"] = usage_body(answer.usage)
    if answer.fingerprint is not None:
        body["system_fingerprint"] = answer.fingerprint
    if is_own and answer.rest:
        body |= answer.rest
    elif not is_own:
        note_rest(answer.rest, notes)
    return body


def _written_choice(choice: Choice, is_own: bool, notes: Notes) -> Json:
    for part in choice.parts:
        if not isinstance(part, (Text, Refusal)):
            notes.add(f"{type(part).__name__.lower()} left out")
    made: Json = {
        "index": choice.index,
        "text": "".join(part.text for part in choice.parts if isinstance(part, (Text, Refusal))),
        "logprobs": legacy_logprobs(choice.logprobs),
        "finish_reason": _legacy_finish(choice.native_finish if is_own else written_finish(choice.finish, notes)),
    }
    if is_own and choice.rest:
        made |= choice.rest
    elif not is_own:
        note_rest(choice.rest, notes)
    return made


def _legacy_finish(reason: str | None) -> str | None:
    return "stop" if reason in ("tool_calls", "function_call") else reason


# -- logprobs: parallel lists here, a row a token in Chat


def chat_logprobs(logprobs: Any) -> Json | None:
    if type(logprobs) is not dict:
        return None
    tokens, values = listed(logprobs.get("tokens")), listed(logprobs.get("token_logprobs"))
    tops = listed(logprobs.get("top_logprobs"))
    rows: list[Json] = []
    for at, (token, value) in enumerate(zip(tokens, values, strict=False)):
        top = tops[at] if at < len(tops) and type(tops[at]) is dict else {}
        others = [{"token": name, "logprob": chance, "bytes": None} for name, chance in top.items()]
        rows.append({"token": token, "logprob": value, "bytes": None, "top_logprobs": others})
    return {"content": rows, "refusal": None}


def legacy_logprobs(logprobs: Any) -> Json | None:
    rows = logprobs.get("content") if type(logprobs) is dict else None
    if type(rows) is not list:
        return None
    rows = [row for row in rows if type(row) is dict]
    made: Json = {"tokens": [], "token_logprobs": [], "top_logprobs": [], "text_offset": []}
    offset = 0
    for row in rows:
        token = text(row.get("token"))
        made["tokens"].append(token)
        made["token_logprobs"].append(row.get("logprob"))
        tops = [top for top in listed(row.get("top_logprobs")) if type(top) is dict]
        made["top_logprobs"].append({text(top.get("token")): top.get("logprob") for top in tops} or None)
        made["text_offset"].append(offset)
        offset += len(token)
    return made


# -- streams


class _Reader:
    def __init__(self) -> None:
        self._open: dict[int, bool] = {}  # choice -> not finished yet
        self._started = False
        self._ended = False

    def read(self, frame: Frame) -> list[StreamEvent]:
        if self._ended:
            return []
        if frame.data == b"[DONE]":
            return self._finish()
        try:
            chunk = orjson.loads(frame.data)
        except orjson.JSONDecodeError:
            return []
        if type(chunk) is not dict:
            return []
        events: list[StreamEvent] = []
        if chunk.get("error"):
            self._ended = True
            return [ErrorEvent(openai_errors.error_of(0, chunk))]
        if not self._started:
            self._started = True
            events.append(Start(text(chunk.get("id")), text(chunk.get("model")), seconds_of(chunk.get("created"))))
        for row in listed(chunk.get("choices")):
            if type(row) is dict:
                self._row(row, events)
        usage = chat_usage(chunk)
        if usage is not None:
            events.append(UsageEvent(usage))
        return events

    def _row(self, row: Json, events: list[StreamEvent]) -> None:
        index = index_of(row.get("index"))
        if index not in self._open:
            self._open[index] = True
            events.append(PartStart(index, 0, Text("")))
        words = _said(row, "delta")
        if words and self._open[index]:
            events.append(TextDelta(index, 0, words))
        logprobs = chat_logprobs(row.get("logprobs"))
        if logprobs is not None:
            events.append(LogprobsDelta(index, logprobs))
        native = row.get("finish_reason")
        if type(native) is str and native and self._open[index]:
            self._open[index] = False
            events += (PartStop(index, 0), Finish(index, FINISH.get(native, "stop"), native=native))

    def end(self) -> list[StreamEvent]:
        if self._ended:
            return []
        if self._open and not any(self._open.values()):
            return self._finish()
        self._ended = True
        return [cut()]

    def _finish(self) -> list[StreamEvent]:
        self._ended = True
        events: list[StreamEvent] = []
        for index, is_open in self._open.items():
            if is_open:
                events += (PartStop(index, 0), Finish(index, "stop"))
        events.append(End())
        return events


class _Writer:
    def __init__(self, request: Request, notes: Notes) -> None:
        self._notes = notes
        self._with_usage = request.stream_usage is True
        self._model = request.model
        self._head: Json = {}
        self._texts: set[tuple[int, int]] = set()
        self._usage: Usage | None = None
        self._ended = False

    def write(self, events: list[StreamEvent]) -> bytes:
        out: list[bytes] = []
        for event in events:
            if not self._ended:
                self._event(event, out)
        return b"".join(out)

    def _event(self, event: StreamEvent, out: list[bytes]) -> None:
        if isinstance(event, TextDelta):
            if (event.choice, event.part) in self._texts:
                self._chunk([_row(event.choice, event.text)], out)
        elif isinstance(event, PartStart):
            if isinstance(event.value, (Text, Refusal)):
                self._texts.add((event.choice, event.part))
                if event.value.text:
                    self._chunk([_row(event.choice, event.value.text)], out)
            else:
                self._notes.add(f"{type(event.value).__name__.lower()} left out")
        elif isinstance(event, LogprobsDelta):
            self._chunk([_row(event.choice, "") | {"logprobs": legacy_logprobs(event.logprobs)}], out)
        elif isinstance(event, Finish):
            reason = _legacy_finish(written_finish(event.reason, self._notes))
            self._chunk([_row(event.choice, "") | {"finish_reason": reason}], out)
        else:
            self._other(event, out)

    def _other(self, event: StreamEvent, out: list[bytes]) -> None:
        if isinstance(event, Start):
            self._start(event)
        elif isinstance(event, UsageEvent):
            self._usage = event.usage
        elif isinstance(event, ErrorEvent):
            self._ended = True
            out.append(b"data: " + orjson.dumps(openai_errors.written(event.error)) + b"\n\n")
        elif isinstance(event, End):
            if self._with_usage and self._usage is not None:
                self._chunk([], out, usage_body(self._usage))
            self._ended = True
            out.append(b"data: [DONE]\n\n")

    def _start(self, event: Start) -> None:
        self._head = {
            "id": event.id or new_id("cmpl-"),
            "object": "text_completion",
            "created": event.created_s if event.created_s is not None else int(time.time()),
            "model": event.model or self._model,
        }

    def _chunk(self, rows: list[Json], out: list[bytes], usage: Json | None = None) -> None:
        if not self._head:
            self._start(Start("", self._model))
        chunk = self._head | {"choices": rows}
        if self._with_usage:
            chunk["usage"] = usage
        out.append(b"data: " + orjson.dumps(chunk) + b"\n\n")


def _row(index: int, words: str) -> Json:
    return {"index": index, "text": words, "logprobs": None, "finish_reason": None}


# -- the adapter

DIALECT: Final[Dialect] = Adapter(
    NAME, "sse", "body", _read_request, _write_request, _read_answer, _write_answer,
    openai_errors.read, openai_errors.written, _Reader, _Writer,
)  # fmt: skip
