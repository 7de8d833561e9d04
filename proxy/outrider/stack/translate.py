"""A call that is served in another dialect than the app's: what is sent to the target, and what becomes of its answer.

Rules
- Every other layer sees the app's dialect: this one stands between them and the wire. Usage alone is read off the wire.
- What cannot be carried is refused before anything is sent, with a sentence that names it; what was left out or changed
  is said in `x-outrider-translated`.
- An answer that cannot be read is withheld; a stream that breaks ends in the app's dialect's own error event.
- What the target wants by its own account (a version in the body, a model in the path) is the provider's table.

Does not know: how a target is chosen, sockets, credentials.
"""

from functools import cache
from typing import TYPE_CHECKING, Any, Final, Protocol

import orjson

from outrider.dialects.base import Dialect, UnreadableError
from outrider.dialects.canonical import Media, Request
from outrider.dialects.carry import CannotCarryError
from outrider.dialects.registry import dialect
from outrider.dialects.translate import StreamTranslation, Translation
from outrider.errors import BadRequestError, SidecarError, UpstreamBrokenError
from outrider.providers.places import Place, place_of
from outrider_ext import http1

if TYPE_CHECKING:
    from outrider.providers.registry import Binding
    from outrider.stack.call import Call
    from outrider_ext.relay import Exchange

_CONTENT_ENCODING = http1.header_id(b"content-encoding")
_CONTENT_TYPE = http1.header_id(b"content-type")
# Of the provider's head: what describes its bytes, which do not go on.
_REPLACED = http1.mask_of(b"content-type", b"content-encoding", b"content-length", b"etag", b"content-md5")
_STREAMS: Final = (b"text/event-stream", b"application/x-ndjson", b"application/vnd.amazon.eventstream")
_STREAM_TYPES: Final = {
    "sse": b"text/event-stream; charset=utf-8",
    "ndjson": b"application/x-ndjson",
    "eventstream": b"application/vnd.amazon.eventstream",
    "json-array": b"application/json",
}
JSON_TYPE: Final = b"application/json"


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

    def remote_media(self, call: "Call", body: bytes) -> list[Media]:
        """What the target wants as bytes and the app named by URL."""
        if b"http" not in body:
            return []
        translation, request = self._read(call, body)
        return translation.remote_media(request)

    def request(
        self, x: "Exchange", call: "Call", target: TargetLike, body: bytes, fetched: dict[str, Media] | None = None
    ) -> tuple[bytes, bytes, bytes]:
        """(path with its query, head lines, body). fetched: url -> what was fetched for it.

        Raises: UntranslatableError, BadRequestError.
        """
        translation, request = self._read(call, body)
        if call.strip_usage:  # it was asked for on the app's behalf, and is read from the target's own wire
            request.stream_usage, call.strip_usage = None, False
        for media in translation.remote_media(request) if fetched else ():
            found = fetched.get(media.url or "") if fetched else None
            if found is not None:
                media.data, media.mime, media.url = found.data, found.mime, None
        try:
            written = translation.write(request, target.model)
        except CannotCarryError as exc:
            raise UntranslatableError(str(exc)) from exc
        place = self._place(target, request)
        call.translation, call.plain_answer = translation, True
        lines = _lines(place, written.headers)
        return place.path.encode("ascii"), lines, orjson.dumps(_placed(written.body, place))

    def _read(self, call: "Call", body: bytes) -> tuple[Translation, Request]:
        translation = Translation(self.client, self.provider)
        in_path = self.client.model_in == "path"
        try:
            value = orjson.loads(body)
            if not isinstance(value, dict):
                raise UnreadableError("The body is no JSON object.")
            request = translation.read(
                value,
                call.route.model if in_path else None,
                call.stream if in_path else None,
            )
        except orjson.JSONDecodeError as exc:
            raise BadRequestError("the body is not JSON, so it cannot be sent to another provider") from exc
        except UnreadableError as exc:
            raise BadRequestError(f"the body cannot be read, so it cannot be sent to another provider: {exc}") from exc
        return translation, request

    def _place(self, target: TargetLike, request: Request) -> Place:
        place = place_of(target.binding, self.provider.name, request.model, stream=request.stream)
        if place is None:
            how = "a stream" if request.stream else "a call"
            raise UntranslatableError(
                f"{target.binding.name} takes no such call: {how} of {self.provider.name} has no address there "
                f"(providers.{target.binding.name}: region and project may be missing)"
            )
        return place

    # -- from the target

    def answer(self, x: "Exchange", call: "Call") -> None:
        """At the head of an answer that counts: how its bytes are changed. Raises: UpstreamBrokenError."""
        translation: Translation = call.translation
        coding = x.answer_head.get(_CONTENT_ENCODING)
        if coding is not None and coding.lower() != b"identity":
            shown = coding.decode("latin-1")[:40]
            raise UpstreamBrokenError(f"the answer came as {shown!r} though asked for plain: it cannot be translated")
        kind = (x.answer_head.get(_CONTENT_TYPE) or b"").lower()
        x.drop_mask |= _REPLACED
        if x.status >= 400:
            self._whole(x, call, lambda body: translation.error(x.status, body)[1])
            call.answer_kind = JSON_TYPE
        elif kind.startswith(_STREAMS):
            self._stream(x, translation.stream(), call)
            call.answer_kind = _STREAM_TYPES[self.client.framing]
        else:
            self._whole(x, call, translation.answer)
            call.answer_kind = JSON_TYPE
        note = translation.note
        lines = b"content-type: " + call.answer_kind + b"\r\n"
        if note:
            lines += b"x-outrider-translated: " + note.encode("ascii") + b"\r\n"
        call.answer_lines = (call.answer_lines or b"") + lines

    @staticmethod
    def _whole(x: "Exchange", call: "Call", change: Any) -> None:
        def whole(x: "Exchange", body: bytes) -> bytes:
            try:
                changed: bytes = change(body)
            except UnreadableError as exc:
                name = call.to.destination_host
                raise UpstreamBrokenError(f"the answer of {name} cannot be translated: {exc}") from exc
            return changed

        x.whole, x.whole_cap = whole, call.translation_cap_bytes

    @staticmethod
    def _stream(x: "Exchange", stream: StreamTranslation, call: "Call") -> None:
        call.stream_translation = stream
        if x.sse:
            x.rewrite, x.rewrite_all = (lambda x, run: stream.feed(run)), True
            x.rewrite_end = lambda x, rest: stream.feed(rest) + stream.end()
        else:
            x.pipe = lambda x, data, is_last: stream.feed(data) + (stream.end() if is_last else b"")


@cache
def translator(asked: str, spoken: str) -> Translator | None:
    """None where one of the two has no adapter, or where nothing has to be translated."""
    if asked == spoken:
        return None
    client, provider = dialect(asked), dialect(spoken)
    return Translator(client, provider) if client is not None and provider is not None else None


def _placed(body: dict[str, Any], place: Place) -> dict[str, Any]:
    for name in place.drop:
        body.pop(name, None)
    body.update(place.body)
    return body


def _lines(place: Place, headers: dict[str, str]) -> bytes:
    """The body is JSON, whatever the app's was called."""
    told = {"content-type": "application/json", **place.headers, **headers}
    return b"".join(f"{name}: {value}\r\n".encode("latin-1") for name, value in told.items())
