"""A call that is served in another dialect than the app's: what is sent to the target, and what becomes of its answer.

Rules
- Every other layer sees the app's dialect: this one stands between them and the wire. Usage alone is read off the wire.
- What cannot be carried is refused before anything is sent, with a sentence that names it; what was left out or changed
  is said in `x-outrider-translated`, what only the answer shows too, where it comes whole; for the records always.
- An answer that cannot be read is withheld; a stream that breaks ends in the app's dialect's own error event.
- What the target wants by its own account (a version in the body, a model in the path) is the provider's table.

Does not know: how a target is chosen, sockets, credentials.
"""

from collections.abc import Callable, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any, Final, Protocol

import orjson

from outrider.dialects import count_tokens
from outrider.dialects.base import Dialect, Json, Notes, UnreadableError, WrittenRequest
from outrider.dialects.canonical import Media, Request
from outrider.dialects.carry import CannotCarryError
from outrider.dialects.frames import ArrayWriter
from outrider.dialects.registry import dialect
from outrider.dialects.streams import CONTENT_TYPES, framing_of
from outrider.dialects.translate import StreamTranslation, Translation
from outrider.errors import BadRequestError, SidecarError, UpstreamBrokenError
from outrider.providers.betas import TAKEN, betas_for, betas_of
from outrider.providers.places import CALLS, Place, place_of
from outrider.stack.call import PlainHook, behind
from outrider.stack.fan_out import MOST_PARTS
from outrider_ext import http1

if TYPE_CHECKING:
    from outrider.providers.registry import Binding
    from outrider.stack.call import Call
    from outrider_ext.relay import Exchange

_CONTENT_ENCODING = http1.header_id(b"content-encoding")
_CONTENT_TYPE = http1.header_id(b"content-type")
# Of the provider's head: what describes its bytes, which do not go on.
_REPLACED = http1.mask_of(b"content-type", b"content-encoding", b"content-length")
JSON_TYPE: Final = b"application/json"
# Of `translator`: InvokeModel, for a model that makes embeddings, and for one that ranks.
INVOKE_EMBED: Final = "bedrock.invoke_embed"
INVOKE_RERANK: Final = "bedrock.invoke_rerank"

_JSON: Final = {"content-type": "application/json"}  # whatever the app's body was

type Sent = tuple[bytes, bytes, bytes]  # path with its query, head lines, body


class UntranslatableError(SidecarError):
    """The target cannot hold what this call asks for."""

    code, status, should_retry = "cannot_translate", 400, False


class TargetLike(Protocol):
    """What is read of upstream.targets.Target."""

    @property
    def binding(self) -> "Binding": ...
    @property
    def model(self) -> str | None: ...


class Translator:
    """From what an app speaks (client) to what a target speaks (provider), and back; it keeps nothing of a call."""

    def __init__(self, client: Dialect, provider: Dialect) -> None:
        self.client = client
        self.provider = provider

    # -- to the target

    def remote_media(self, call: "Call", body: bytes, model: str | None = None) -> list[Media]:
        """What the app named by URL and the target wants as bytes. model: its name there. Raises: BadRequestError."""
        if b'"http' not in body:
            return []
        translation = self._read(call, body)
        return _wanted(translation, model)

    def request(
        self, call: "Call", target: TargetLike, body: bytes, fetched: Mapping[str, Media] | None = None
    ) -> Sent:
        """fetched: url -> the same with its bytes. Raises: UntranslatableError, BadRequestError."""
        translation = self._read(call, body)
        request = translation.asked
        request.model = target.model or request.model
        for media in _wanted(translation, target.model) if fetched else ():
            found = fetched.get(media.url or "") if fetched else None
            if found is not None:
                media.data, media.mime, media.url = found.data, found.mime, None
        with_target = _carrying(lambda: translation.write(request, target.model))
        _forget_usage(call, request)
        place = _place(target, self.provider.name, request.model, stream=request.stream)
        call.translation, call.plain_answer = translation, True
        _note(call, translation.notes)
        if call.dispatch is not None and call.dispatch.betas:
            _put_betas(call, target, with_target, self.provider.name, translation.notes)
        return _sent(place, with_target.body, {**_JSON, **with_target.headers})

    def _read(self, call: "Call", body: bytes) -> Translation:
        translation = Translation(self.client, self.provider)
        in_path = self.client.model_in == "path"
        model = call.route.model if in_path else None
        stream = bool(call.route.operation.stream) if in_path else None
        _reading(lambda value: translation.read(value, model, stream), body)
        return translation

    # -- from the target

    def answer(self, x: "Exchange", call: "Call") -> None:
        """At the head of an answer: how its bytes are changed. Raises: UpstreamBrokenError."""
        translation: Translation = call.translation
        framing = framing_of(_plain_kind(x)) if x.status < 400 else ""
        if framing:
            call.translating = stream = translation.stream()
            _stream(x, stream, is_sse=framing == "sse")
            call.spoken_kind = CONTENT_TYPES[self.client.framing]
            if wants_array(x, call):
                _head(x, call, translation.note, JSON_TYPE)
                return
            _head(x, call, translation.note)
        elif x.status >= 400:
            _failed(x, call, translation)
        else:
            _json(x, call, lambda body: _noting(x, translation, body))  # the note is said once the answer was read


class Lifted(Translator):
    """A newer form of the API that the app speaks, as govern.lifts names them: functions as tools, completions as chat.

    Where the provider is the app's own, it is asked at the app's own path, which is that of the other form.
    """

    def __init__(self, client: Dialect, provider: Dialect, forms: tuple[str, ...]) -> None:
        super().__init__(client, provider)
        self._forms = forms

    def request(
        self, call: "Call", target: TargetLike, body: bytes, fetched: Mapping[str, Media] | None = None
    ) -> Sent:
        """Raises: UntranslatableError, BadRequestError."""
        translation = self._read(call, body)
        request = translation.asked
        was_legacy, request.legacy_functions = request.legacy_functions, False
        if was_legacy and request.tools and request.parallel_tool_calls is None:
            request.parallel_tool_calls = False  # a message of the older form has room for one call
        written = _carrying(lambda: translation.write(request, target.model))
        _forget_usage(call, request)
        request.legacy_functions = was_legacy  # its answers are written so
        if was_legacy:
            translation.notes.add("functions lifted to tools")
        if self.client is not self.provider:
            translation.notes.add("completions lifted to chat")
        if "max_tokens" in self._forms and "max_tokens" in written.body:
            written.body["max_completion_tokens"] = written.body.pop("max_tokens")
        call.translation, call.plain_answer = translation, True
        _note(call, translation.notes)
        headers = {**_JSON, **written.headers} if self.client is not self.provider else written.headers
        if target.model is None:
            return _own_path(call, self.client is not self.provider), _lines(headers), orjson.dumps(written.body)
        return _sent(_place(target, self.provider.name, request.model, stream=request.stream), written.body, headers)


class _NoFiles:
    """What names no file by URL that a target could want as bytes."""

    def remote_media(self, call: "Call", body: bytes, model: str | None = None) -> list[Media]:
        return []


class Form[Asked](_NoFiles):
    """Embeddings and rerankings, which are never streamed: what an adapter of either kind has.

    write(asked, provider, notes) -> bodies, one for each call that the target wants. Source: dialects.embeddings,
    dialects.rerank.
    """

    def __init__(
        self, client: Any, provider: Any, write: Callable[[Asked, Any, Any], list[Json]], back: Callable[..., Json]
    ) -> None:
        self.client = client
        self.provider = provider
        self._write = write
        self._back = back

    def request(
        self, call: "Call", target: TargetLike, body: bytes, fetched: Mapping[str, Media] | None = None
    ) -> Sent:
        """Raises: UntranslatableError, BadRequestError."""
        asked: Any = _reading(lambda value: self.client.read_request(value, call.route.model), body)
        asked.model = target.model or asked.model
        notes = Notes()
        bodies = _carrying(lambda: self._write(asked, self.provider, notes))
        if len(bodies) > MOST_PARTS:
            raise UntranslatableError(
                f"{target.binding.name} takes {self.provider.inputs_max} of these inputs a call, so these would be "
                f"{len(bodies)} calls, and {MOST_PARTS} are made of one"
            )
        place = _place(target, self.provider.name, asked.model, stream=False)
        call.translation, call.plain_answer = (asked, notes), True
        _note(call, notes)
        sent = [_sent(place, body, _JSON) for body in bodies]
        if len(sent) > 1:
            call.dispatch.parts = tuple(body for _, _, body in sent)
        return sent[0]

    def answer(self, x: "Exchange", call: "Call") -> None:
        asked, notes = call.translation
        status = x.status

        def change(body: bytes) -> bytes:
            if status >= 400:
                return orjson.dumps(self.client.write_error(self.provider.read_error(status, body)))
            return orjson.dumps(self._back(self._bodies(call, body), self, asked))

        _json(x, call, change, notes.note)

    @staticmethod
    def _bodies(call: "Call", body: bytes) -> list[Json]:
        """The answers of all calls that were made; what they used is known already. Raises: UnreadableError."""
        whole, plan = _object(body), call.dispatch
        if not plan.parts:
            return [whole]
        if plan.used is not None:
            call.usage, call.reader = plan.used, None
        parts: list[Json] = whole["parts"]
        if not all(isinstance(part, dict) for part in parts):
            raise UnreadableError("It is no JSON object.")
        return parts


class Relocation(_NoFiles):
    """The same dialect, at a provider that wants something in its body besides, or the model in the path alone."""

    def __init__(self, name: str) -> None:
        self._name = name

    def request(
        self, call: "Call", target: TargetLike, body: bytes, fetched: Mapping[str, Media] | None = None
    ) -> Sent:
        """Raises: UntranslatableError, BadRequestError."""
        value: Json = _reading(lambda value: value, body)
        if target.model is not None:
            value["model"] = target.model
        model = str(value.get("model") or "")
        place = _place(target, self._name, model, stream=bool(value.get("stream") or call.stream))
        return _sent(place, value, self._betas(call, target))

    @staticmethod
    def _betas(call: "Call", target: TargetLike) -> dict[str, str]:
        """The header of Anthropic's betas, as this provider has them."""
        plan = call.dispatch  # a rule's word leaves with the head as it is
        if plan is None or plan.betas_ruled or not plan.betas or target.binding.provider.kind not in TAKEN:
            return {}
        kept, left = betas_for(target.binding.provider.kind, betas_of(plan.betas.decode("latin-1")))
        line = b"x-outrider-translated: betas left out: %b\r\n" % ", ".join(left).encode("ascii", "replace")
        if left and line not in (call.answer_lines or b""):
            call.answer_lines = (call.answer_lines or b"") + line
        return {"anthropic-beta": ", ".join(kept)} if kept else {}

    def answer(self, x: "Exchange", call: "Call") -> None:
        """It is the app's dialect already."""


class GeminiEmbed(Relocation):
    """Gemini's own embeddings for a name of ours: the path names the model, and every request in the body once more."""

    def request(
        self, call: "Call", target: TargetLike, body: bytes, fetched: Mapping[str, Media] | None = None
    ) -> Sent:
        """Raises: UntranslatableError, BadRequestError."""
        value: Json = _reading(lambda value: value, body)
        from outrider.dialects.models import resource_name

        model = str(target.model)
        requests = value.get("requests")
        for one in requests if isinstance(requests, list) else [value]:
            if isinstance(one, dict):
                one["model"] = resource_name(model)
        return _sent(_place(target, self._name, model, stream=False), value, {})


class InvokeEmbed(_NoFiles):
    """InvokeModel's bodies for embeddings, Titan's or Cohere's: which one it is, the body tells."""

    def __init__(self, titan: Form[Any], cohere: Form[Any]) -> None:
        self._titan = titan
        self._cohere = cohere

    def request(
        self, call: "Call", target: TargetLike, body: bytes, fetched: Mapping[str, Media] | None = None
    ) -> Sent:
        """Raises: UntranslatableError, BadRequestError."""
        value: Json = _reading(lambda value: value, body)
        form = self._titan if value.keys() & {"inputText", "inputImage"} else self._cohere
        sent = form.request(call, target, body, fetched)
        call.translation = form, call.translation
        return sent

    def answer(self, x: "Exchange", call: "Call") -> None:
        form, call.translation = call.translation
        form.answer(x, call)


class Counting(_NoFiles):
    """From the app's question for tokens (asked: a name of CALLS) to a target's (spoken: another), and back."""

    def __init__(self, asked: str, spoken: str) -> None:
        self._asked, self._spoken = asked, spoken

    def request(
        self, call: "Call", target: TargetLike, body: bytes, fetched: Mapping[str, Media] | None = None
    ) -> Sent:
        """Raises: UntranslatableError, BadRequestError."""
        translation = asked_about(self._asked, self._spoken, call, body)
        request = translation.asked
        if translation.remote_media(request):
            name = target.binding.name
            raise UntranslatableError(f"{name} takes files by their bytes alone, and this question names one by URL")
        if self._spoken == "anthropic.count_tokens" and request.max_tokens is None:
            request.max_tokens = 1  # a call has to have one, and a question has none
        written = _carrying(lambda: translation.write(request, target.model))
        question = count_tokens.written_question(CALLS[self._spoken], written.body, request.model)
        place = _place(target, self._spoken, request.model, stream=False)
        call.translation, call.plain_answer = translation, True
        _note(call, translation.notes)
        return _sent(place, question, {**_JSON, **written.headers})

    def answer(self, x: "Exchange", call: "Call") -> None:
        translation: Translation = call.translation
        if x.status >= 400:
            _failed(x, call, translation)
        else:
            _json(x, call, self._back, translation.note)

    def _back(self, body: bytes) -> bytes:
        tokens = count_tokens.read_answer(CALLS[self._spoken], _object(body))
        return orjson.dumps(count_tokens.written_answer(CALLS[self._asked], tokens))


def asked_about(asked: str, spoken: str, call: "Call", body: bytes) -> Translation:
    """The call that a question for tokens is about, read: its `asked`. Raises: BadRequestError."""
    client, provider = dialect(CALLS[asked]), dialect(CALLS[spoken])
    assert client is not None
    assert provider is not None
    translation = Translation(client, provider)
    model = call.route.model if call.route.operation.model_in == "path" else None

    def read(value: Json) -> None:
        question = count_tokens.read_question(CALLS[asked], value, model)
        translation.read(question, model, None if model is None else False)

    _reading(read, body)
    return translation


type AnyTranslator = Translator | Form[Any] | Relocation | InvokeEmbed | Counting


@cache
def translator(asked: str, spoken: str) -> AnyTranslator | None:
    """None where one of the two has no adapter, or where nothing has to be translated."""
    if asked == spoken:
        return None
    if asked == INVOKE_EMBED:
        titan, cohere = _embeddings("bedrock.titan_embed", spoken), _embeddings("bedrock.cohere_embed", spoken)
        return InvokeEmbed(titan, cohere) if titan is not None and cohere is not None else None
    if asked == INVOKE_RERANK:  # Amazon's has a field less than Cohere's, and no other
        return _rerankings("bedrock.cohere_rerank", spoken)
    client, provider = dialect(asked), dialect(spoken)
    if client is not None and provider is not None:
        if spoken == "replicate.predictions":
            from outrider.stack.predictions import Predictions

            return Predictions(client, provider)
        return Translator(client, provider)
    if asked in CALLS and spoken in CALLS:
        return Counting(asked, spoken)
    for forms in (_embeddings, _rerankings):
        if (found := forms(asked, spoken)) is not None:
            return found
    return None


@cache
def lifted(asked: str, spoken: str, forms: tuple[str, ...]) -> Lifted | None:
    client, provider = dialect(asked), dialect(spoken)
    return Lifted(client, provider, forms) if client is not None and provider is not None else None


def _embeddings(asked: str, spoken: str) -> Form[Any] | None:
    from outrider.dialects import embeddings

    client, provider = embeddings.DIALECTS.get(asked), embeddings.DIALECTS.get(spoken)
    if client is None or provider is None:
        return None

    def back(bodies: list[Json], form: Form[Any], request: Any) -> Json:
        return embeddings.translate_answer(bodies, form.provider, form.client, request)

    return Form(client, provider, embeddings.translate_request, back)


def _rerankings(asked: str, spoken: str) -> Form[Any] | None:
    from outrider.dialects import rerank

    client, provider = rerank.DIALECTS.get(asked), rerank.DIALECTS.get(spoken)
    if client is None or provider is None:
        return None

    def write(request: Any, target: Any, notes: Any) -> list[Json]:
        return [rerank.translate_request(request, target, notes)]

    def back(bodies: list[Json], form: Form[Any], request: Any) -> Json:
        made: Json = form.client.write_answer(form.provider.read_answer(bodies[0]), request)
        return made

    return Form(client, provider, write, back)


def translate_answer(cap_bytes: int) -> PlainHook:
    """First of the hooks of an answer: those that follow see what it makes. cap_bytes: of one that comes whole."""

    def hook(x: "Exchange", call: "Call") -> None:
        _answered(x, call)
        plan = call.dispatch  # what was joined is held already, within bounds of its own
        x.whole_cap = max(cap_bytes, plan.joined_bytes) if plan is not None and plan.parts else cap_bytes

    return PlainHook(hook)


def _answered(x: "Exchange", call: "Call") -> None:
    if call.translation is not None:
        call.target.translator.answer(x, call)


def wants_array(x: "Exchange", call: "Call") -> bool:
    """Google's streams are one JSON array unless the query says otherwise."""
    operation = call.route.operation
    if operation.dialect != "gemini.generate" or not operation.stream:
        return False
    return b"alt=sse" not in x.target.partition(b"?")[2]


class _ArrayEnd:
    """In the place of a StreamTranslation, for whom the provider breaks off."""

    def __init__(self, stream: StreamTranslation, array: ArrayWriter) -> None:
        self._stream = stream
        self._array = array

    def end(self) -> bytes:
        return self._array.take(self._stream.end(), True)


def _as_array(x: "Exchange", call: "Call") -> None:
    stream = call.translating
    if stream is None or not wants_array(x, call):
        return
    array = ArrayWriter()
    call.translating = _ArrayEnd(stream, array)
    behind(x, lambda x, data, is_last: array.take(data, is_last))
    words = x.last_words
    if words is not None:
        x.last_words = lambda x, failure: array.take(words(x, failure), True)


FRAME_ANSWER: Final = PlainHook(_as_array)  # last of them: none of the others knows this framing


# -- pieces


def _reading(read: Callable[[Json], Any], body: bytes) -> Any:
    try:
        return read(_object(body))
    except UnreadableError as exc:
        raise BadRequestError(f"the body cannot be read, so it cannot be sent to another provider: {exc}") from exc


def _object(body: bytes) -> Json:
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as exc:
        raise UnreadableError("It is not JSON.") from exc
    if not isinstance(value, dict):
        raise UnreadableError("It is no JSON object.")
    return value


def _forget_usage(call: "Call", request: Request) -> None:
    """Where it was asked for on the app's behalf: it is read from the target's own wire, and the app gets none."""
    if not call.strip_usage:
        return
    call.strip_usage = False
    if call.keeping is None:  # what is remembered is for those who ask for it too; see stack.copying
        request.stream_usage = None


def _wanted(translation: Translation, model: str | None) -> list[Media]:
    """What has to be fetched for this model of the target; of a body that cannot be had there that is said later."""
    request = translation.asked
    request.model = model or request.model
    try:
        return translation.remote_media(request)
    except CannotCarryError:
        return []


def _carrying[Made](write: Callable[[], Made]) -> Made:
    try:
        return write()
    except CannotCarryError as exc:
        raise UntranslatableError(str(exc)) from exc


def _place(target: TargetLike, spoken: str, model: str, *, stream: bool) -> Place:
    place = place_of(target.binding, spoken, model, stream=stream)
    if place is None:
        how = "a stream" if stream else "a call"
        name = target.binding.name
        raise UntranslatableError(
            f"{name} has no address for {how} of {spoken}; providers.{name}.region or project may be missing"
        )
    return place


def _sent(place: Place, body: Json, headers: Mapping[str, str]) -> Sent:
    path = place.path
    if "requests" in body and path.endswith(":embedContent"):
        path = path.removesuffix("embedContent") + "batchEmbedContents"
    for name in place.drop:
        body.pop(name, None)
    body.update(place.body)
    return path.encode("ascii"), _lines({**place.headers, **headers}), orjson.dumps(body)


def _lines(headers: Mapping[str, str]) -> bytes:
    return b"".join(f"{name}: {value}\r\n".encode("latin-1") for name, value in headers.items())


def _own_path(call: "Call", is_completions: bool) -> bytes:
    """The path that the app asked, as rules lifted it, with its query; of a legacy completion that of a chat."""
    plan = call.dispatch
    path = plan.own_path.partition(b"?")[0] if plan.own_path is not None else call.route.path
    if is_completions:
        path = path.removesuffix(b"completions") + b"chat/completions"
    return b"%b?%b" % (path, plan.path_query) if plan.path_query else bytes(path)


def _put_betas(call: "Call", target: TargetLike, written: WrittenRequest, spoken: str, notes: Notes) -> None:
    """What the app's head says of Anthropic's betas, where the target takes Anthropic's own body."""
    if spoken not in ("bedrock.invoke", "anthropic.messages") or "anthropic_version" not in written.body:
        return
    said = [*(written.body.get("anthropic_beta") or ()), *betas_of(call.dispatch.betas.decode("latin-1"))]
    kept, left = betas_for(target.binding.provider.kind, said)
    if kept:
        written.body["anthropic_beta"] = kept
    if left:
        notes.add(f"betas left out: {', '.join(left)}")


def _plain_kind(x: "Exchange") -> bytes:
    coding = x.answer_head.get(_CONTENT_ENCODING)
    if coding is not None and coding.lower() != b"identity":
        shown = coding.decode("latin-1")[:40]
        raise UpstreamBrokenError(f"the answer came as {shown!r} though asked for plain: it cannot be translated")
    return (x.answer_head.get(_CONTENT_TYPE) or b"").lower()


def _json(x: "Exchange", call: "Call", change: Callable[[bytes], bytes], note: str = "") -> None:
    """An answer that comes whole. Raises: UpstreamBrokenError."""
    _plain_kind(x)
    x.whole = _whole(call, change)
    call.spoken_kind = JSON_TYPE
    _head(x, call, note)


def _failed(x: "Exchange", call: "Call", translation: Translation) -> None:
    """An error of the provider's, with the status that says the same in the app's dialect."""
    status = x.status
    x.status = translation.told_status(status)
    _json(x, call, lambda body: translation.error(status, body)[1], translation.note)


def _whole(call: "Call", change: Callable[[bytes], bytes]) -> Callable[["Exchange", bytes], bytes]:
    def whole(x: "Exchange", body: bytes) -> bytes:
        try:
            return change(body)
        except UnreadableError as exc:
            name = call.to.destination_host
            raise UpstreamBrokenError(f"the answer of {name} cannot be translated: {exc}") from exc

    return whole


def _noting(x: "Exchange", translation: Translation, body: bytes) -> bytes:
    """The answer, and in its head what was left out of the call and of the answer."""
    made = translation.answer(body)
    x.late_lines = _note_line(translation.note)
    return made


def _note(call: "Call", notes: Notes) -> None:
    if call.dispatch is not None:
        call.dispatch.notes = notes


def _note_line(note: str) -> bytes:
    return b"x-outrider-translated: %b\r\n" % note.encode("ascii") if note else b""


def _stream(x: "Exchange", stream: StreamTranslation, *, is_sse: bool) -> None:
    if is_sse:
        x.sse = x.rewrite_all = True
        x.rewrite = lambda x, run: stream.feed(run)
        x.rewrite_end = lambda x, rest: stream.feed(rest) + stream.end()
    else:
        x.pipe = lambda x, data, is_last: stream.feed(data) + (stream.end() if is_last else b"")


def _head(x: "Exchange", call: "Call", note: str, kind: bytes | None = None) -> None:
    x.drop_mask |= _REPLACED
    assert call.spoken_kind is not None
    lines = b"content-type: %b\r\n" % (kind or call.spoken_kind)
    call.answer_lines = (call.answer_lines or b"") + lines + _note_line(note)
