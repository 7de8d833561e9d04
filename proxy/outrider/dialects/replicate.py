"""Replicate's predictions of language models: one prompt in, pieces of text out, in fields named by the model's maker.

Rules
- A conversation of several turns is written into the prompt, and so is a system text where the model has no field for
  it. What a maker's models have no field for is left out or refused: columns.py has a column a family.
- A prediction says how it went in its body, under a status of success: `settled` gives the status that says the same.
- An answer comes whole, to an app that asked for a stream too: its pieces are then said as a stream's are (a line of
  JSON is the only frame). Apps that speak this API get whole answers as well; where one asks for a stream it is told.
- Why an answer ended is nowhere told: it ended.

Does not know: HTTP, predictions that are polled for, models that draw or speak, webhooks.
Source: replicate.com/docs (create a prediction, sync mode, prediction deadlines), the input schemas of the official
models of these makers; recorded predictions.
"""

import re
from dataclasses import dataclass, replace
from typing import Any, Final

import orjson

from outrider.dialects.base import Adapter, Dialect, Frame, Json, Notes, UnreadableError, WrittenRequest
from outrider.dialects.canonical import (
    Answer,
    Choice,
    End,
    ErrorEvent,
    Finish,
    Media,
    Message,
    Part,
    PartStart,
    PartStop,
    ProviderError,
    Reasoning,
    Refusal,
    Request,
    Start,
    StreamEvent,
    Text,
    TextDelta,
    Usage,
    UsageEvent,
)
from outrider.dialects.errors import KINDS, kind_of
from outrider.dialects.frames import ndjson_frame
from outrider.dialects.moments import iso, seconds
from outrider.dialects.native_errors import broken_off, cut
from outrider.dialects.pieces import OneAnswerWriter
from outrider.dialects.prompts import transcript, words_of
from outrider.dialects.thinking import budget_of, effort_of_budget, is_off
from outrider.dialects.usage import replicate_usage
from outrider.dialects.values import (
    NUMBER,
    Plain,
    data_url,
    from_data_url,
    new_id,
    note_part,
    plain_fields,
    strings,
    text,
    typed,
    written_fields,
)

__all__ = ["DIALECT", "FAMILIES", "Family", "column_of", "settled"]

NAME: Final = "replicate.predictions"
WAIT_S: Final = 60  # the most that an answer is waited for
_THOUGHT_LEAST: Final = 1024  # tokens, of Anthropic's


@dataclass(frozen=True, slots=True)
class Family:
    """What the models of one maker have among their inputs.

    name: of their column in columns.COLUMNS. system, images: the fields' names, "" where there is none. one_image:
    `images` holds a single one and not a list. thinking: effort, budget, extended or "". plain: what is taken as it is.
    """

    name: str
    system: str
    images: str
    thinking: str
    plain: Plain
    stop: str = ""
    one_image: bool = False


def _plain(max_tokens: str, *names: str) -> Plain:
    kinds = {"top_k": (int,)}
    return {max_tokens: ("max_tokens", (int,))} | {name: (name, kinds.get(name, NUMBER)) for name in names}


_PENALTIES: Final = ("presence_penalty", "frequency_penalty")
OTHER: Final = Family("replicate.other", "", "", "", _plain("max_tokens", "temperature", "top_p"))
# what a model's name looks like -> its family; a model of nobody here is OTHER
FAMILIES: Final = (
    (
        re.compile(r"openai/(?!gpt-oss)"),
        Family(
            "replicate.openai", "system_prompt", "image_input", "effort",
            _plain("max_completion_tokens", "temperature", "top_p", *_PENALTIES),
        ),
    ),
    (
        re.compile(r"anthropic/claude"),
        Family("replicate.anthropic", "system_prompt", "image", "extended", _plain("max_tokens"), one_image=True),
    ),
    (
        re.compile(r"google/gemini"),
        Family(
            "replicate.google", "system_instruction", "images", "budget",
            _plain("max_output_tokens", "temperature", "top_p"),
        ),
    ),
    (
        re.compile(r"meta/(?:meta-)?llama"),
        Family(
            "replicate.llama", "system_prompt", "", "",
            _plain("max_tokens", "temperature", "top_p", "top_k", *_PENALTIES), "stop_sequences",
        ),
    ),
)  # fmt: skip


def family_of(model: str) -> Family:
    return next((family for pattern, family in FAMILIES if pattern.match(model)), OTHER)


def column_of(model: str) -> str:
    """The name in columns.COLUMNS under which it is said what this model holds."""
    return family_of(model).name


# -- request, read


def _read_request(body: Json, model: str | None, stream: bool | None) -> Request:
    family = family_of(model or "")
    given = typed(body.get("input"), (dict,), "input")
    if given.get("messages"):
        raise UnreadableError("The field input.messages is not one that can be translated; input.prompt is.")
    parts: list[Part] = [Text(typed(given.get("prompt"), (str,), "input.prompt"))]
    if family.images:
        parts += [_image(one) for one in strings(given.get(family.images), f"input.{family.images}")]
    names = frozenset(("prompt", "messages", family.system, family.images, family.stop, *_THINKING[family.thinking]))
    plain, rest = plain_fields(given, family.plain, names)
    request = Request(family.name, model or "", [Message("user", parts)], **plain)
    if family.system and given.get(family.system):
        request.system = [Text(typed(given[family.system], (str,), f"input.{family.system}"))]
    if family.stop and given.get(family.stop):
        request.stop = typed(given[family.stop], (str,), f"input.{family.stop}").split(",")
    request.reasoning = _read_thinking(given, family.thinking)
    outer = {key: value for key, value in body.items() if key != "input"}
    request.rest = outer | {f"input.{key}": value for key, value in rest.items()} or None
    return request


_THINKING: Final = {
    "": (),
    "effort": ("reasoning_effort",),
    "budget": ("thinking_budget", "dynamic_thinking"),
    "extended": ("extended_thinking", "thinking_budget_tokens"),
}


def _read_thinking(given: Json, kind: str) -> Reasoning | None:
    if kind == "effort" and given.get("reasoning_effort") is not None:
        return Reasoning(effort=typed(given["reasoning_effort"], (str,), "input.reasoning_effort"))
    if kind == "budget" and given.get("dynamic_thinking") is True:
        return Reasoning(adaptive=True)
    if kind == "budget" and given.get("thinking_budget") is not None:
        return Reasoning(budget_tokens=typed(given["thinking_budget"], (int,), "input.thinking_budget"))
    if kind == "extended" and given.get("extended_thinking") is True:
        budget = given.get("thinking_budget_tokens", _THOUGHT_LEAST)
        return Reasoning(budget_tokens=typed(budget, (int,), "input.thinking_budget_tokens"))
    return None


def _image(url: str) -> Media:
    inline = from_data_url(url)
    return Media("image", url=url) if inline is None else Media("image", inline[0], inline[1])


# -- request, written


def _write_request(request: Request, notes: Notes) -> WrittenRequest:
    family = family_of(request.model)
    given: Json = {"prompt": _prompt(request, family)}
    if family.system and request.system:
        given[family.system] = words_of(request.system)
    images = [_url_of(part) for message in request.messages for part in message.parts if isinstance(part, Media)]
    if family.images and images:
        given[family.images] = images[0] if family.one_image else images
    given |= written_fields(request, family.plain)
    if family.stop and request.stop:
        if any("," in one for one in request.stop):
            notes.add("stop sequences with a comma left out")
        given[family.stop] = ",".join(one for one in request.stop if "," not in one)
    if request.reasoning is not None:
        given |= _written_thinking(request.reasoning, family.thinking, request.max_tokens, notes)
    body: Json = {}
    for key, value in ((request.origin == family.name and request.rest) or {}).items():
        if key.startswith("input."):
            given[key.removeprefix("input.")] = value
        else:
            body[key] = value
    # What takes longer nobody gets: it is not to go on, and to cost, behind our back.
    headers = {"prefer": f"wait={WAIT_S}", "cancel-after": "1m"}
    return WrittenRequest(body | {"input": given}, headers)


def _prompt(request: Request, family: Family) -> str:
    inner = replace(request, system=[]) if family.system else request
    if not inner.system and len(inner.messages) == 1 and inner.messages[0].role == "user":
        return words_of(inner.messages[0].parts)
    return transcript(inner)


def _url_of(image: Media) -> str:
    return image.url if image.url is not None else data_url(image.mime or "image/png", image.data or "")


def _written_thinking(reasoning: Reasoning, kind: str, max_tokens: int | None, notes: Notes) -> Json:
    budget = budget_of(reasoning)
    if kind == "effort":
        effort = reasoning.effort or (effort_of_budget(reasoning.budget_tokens or 0) if budget is not None else None)
        return {"reasoning_effort": effort} if effort else {}
    if budget is None or not kind:
        return {}
    if kind == "budget":
        return {"dynamic_thinking": True} if budget < 0 else {"thinking_budget": budget}
    budget = max(budget, _THOUGHT_LEAST)
    if not is_off(reasoning) and max_tokens is not None and max_tokens <= budget:  # it holds the thoughts, too
        notes.add("thinking budget lowered to fit max_tokens")
        budget = max_tokens // 2
    if is_off(reasoning) or budget < _THOUGHT_LEAST:
        return {"extended_thinking": False}
    return {"extended_thinking": True, "thinking_budget_tokens": budget}


# -- answer, read


def settled(status: int, body: bytes) -> tuple[int, bytes]:
    """(status, body) in which the status says what became of the prediction: 200, 502 where it failed, 504 where it is
    not done. Raises: UnreadableError.

    Where an answer is waited for, one that is there counts, though the prediction may still be called "processing":
    recorded so, and what Replicate's own client takes for one.
    """
    value = _object(body)
    if value is None or "status" not in value:
        raise UnreadableError("The answer is no prediction.")
    if status >= 300:
        return status, body
    state, error = text(value["status"]), value.get("error")
    if state == "succeeded" or (state == "processing" and value.get("output") is not None and not error):
        return 200, body
    if state == "failed" or error:
        detail = cut(error) or "The prediction failed and does not say why."
        return 502, orjson.dumps({"title": "Prediction failed", "detail": detail, "status": 502})
    why = f"The prediction was not done within {WAIT_S} s (it is {cut(state)[:32] or 'in no known state'})."
    return 504, orjson.dumps({"title": "Prediction not done", "detail": why, "status": 504})


def _pieces(value: Any) -> list[str]:
    """Of an output. Raises: UnreadableError."""
    pieces = [value] if type(value) is str else value
    if type(pieces) is not list or not all(type(piece) is str for piece in pieces):
        raise UnreadableError("The output of the prediction is no text.")
    return pieces


def _read_answer(body: Json) -> Answer:
    words = "".join(_pieces(body.get("output")))
    choice = Choice([Text(words)] if words else [], "stop")
    metrics = body.get("metrics")
    usage = replicate_usage(metrics) if type(metrics) is dict else None
    return Answer(NAME, text(body.get("id")), text(body.get("model")), [choice], usage, seconds(body.get("created_at")))


class _Reader:
    """A line that holds a whole prediction."""

    def __init__(self) -> None:
        self._over = False

    def read(self, frame: Frame) -> list[StreamEvent]:
        if self._over:
            return []
        self._over = True
        value = _object(frame.data)
        try:
            answer, pieces = _read_answer(value or {}), _pieces((value or {}).get("output"))
        except UnreadableError as exc:
            return [ErrorEvent(ProviderError(0, "server", str(exc)))]
        events: list[StreamEvent] = [Start(answer.id, answer.model, answer.created_s), PartStart(0, 0, Text(""))]
        events += [TextDelta(0, 0, piece) for piece in pieces if piece]
        events += (PartStop(0, 0), Finish(0, "stop"))
        return [*events, UsageEvent(answer.usage), End()] if answer.usage is not None else [*events, End()]

    def end(self) -> list[StreamEvent]:
        return [] if self._over else [broken_off()]


def _object(data: bytes) -> Json | None:
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError:
        return None
    return value if type(value) is dict else None


# -- answer, written


def _write_answer(answer: Answer, request: Request, notes: Notes) -> Json:
    choice = answer.choices[0] if answer.choices else Choice([], "stop")
    if len(answer.choices) > 1:
        notes.add("all answers but the first left out")
    for part in choice.parts:
        if isinstance(part, (Text, Refusal)):
            note_part(part, notes)
        else:
            notes.add("all but text left out")
    return _prediction(request, answer.id, answer.created_s, [words_of(choice.parts)], answer.usage)


def _prediction(request: Request, given_id: str, created_s: int | None, pieces: list[str], usage: Usage | None) -> Json:
    name, at = given_id or new_id(""), iso(created_s)
    own = f"https://api.replicate.com/v1/predictions/{name}"
    body: Json = {
        "id": name,
        "model": request.model,
        "version": "hidden",
        "input": _write_request(request, Notes()).body["input"],
        "logs": "",
        "output": pieces,
        "error": None,
        "status": "succeeded",
        "created_at": at,
        "started_at": at,
        "completed_at": at,
        "urls": {"get": own, "cancel": f"{own}/cancel"},
    }
    if usage is not None:
        body["metrics"] = {"input_token_count": usage.input_tokens, "output_token_count": usage.output_tokens}
    return body


class _Writer(OneAnswerWriter):
    """One line, at the end."""

    def __init__(self, request: Request, notes: Notes) -> None:
        super().__init__(notes)
        self._request = request
        self._begun = Start("", "")
        self._texts: set[int] = set()
        self._pieces: list[str] = []

    def _start(self, event: Start, out: list[bytes]) -> None:
        self._begun = event

    def _text(self, event: TextDelta, out: list[bytes]) -> None:
        if event.part in self._texts:
            self._pieces.append(event.text)

    def _of_choice(self, event: StreamEvent, out: list[bytes]) -> None:
        if not isinstance(event, PartStart):
            return
        if isinstance(event.value, (Text, Refusal)):
            self._texts.add(event.part)
            self._pieces += [event.value.text] if event.value.text else []
        else:
            self._notes.add("all but text left out")

    def _error(self, error: ProviderError, out: list[bytes]) -> None:
        self._over = True
        out.append(ndjson_frame(orjson.dumps({"status": "failed", "error": error.message, "output": None})))

    def _end(self, out: list[bytes]) -> None:
        begun = self._begun
        made = _prediction(self._request, begun.id, begun.created_s, self._pieces, self._usage)
        out.append(ndjson_frame(orjson.dumps(made)))


# -- errors


def _read_error(status: int, body: bytes) -> ProviderError:
    value = _object(body) or {}
    title, detail = cut(value.get("title")), cut(value.get("detail"))
    message = detail or title or f"The provider answered with status {status}."
    return ProviderError(status, kind_of(status), message, title or None)


def _write_error(error: ProviderError) -> Json:
    status = error.status or KINDS.get(error.kind, 500)
    return {"title": error.native or error.kind.replace("_", " "), "detail": error.message, "status": status}


# -- the adapter

DIALECT: Final[Dialect] = Adapter(
    NAME,
    "ndjson",
    "path",
    _read_request,
    _write_request,
    _read_answer,
    _write_answer,
    _read_error,
    _write_error,
    _Reader,
    _Writer,
)
