"""A call made in one dialect and served in another: request, answer, error and stream, all as bytes or JSON.

Rules
- What the target cannot hold is refused before anything is sent (CannotCarryError); what cannot be read is
  UnreadableError: the app's fault in a request, the provider's in an answer.
- A stream always ends: as it should, or in the client dialect's own error event. Nothing is written after that.
- What is held for a stream is bounded by MAX_STREAM_BYTES of the provider's.

Does not know: HTTP, sockets, which target was chosen and why.
"""

from typing import Any, Final

import orjson

from outrider.dialects import carry, freetext
from outrider.dialects.base import Dialect, Frame, Json, Notes, UnreadableError, WrittenRequest
from outrider.dialects.canonical import End, ErrorEvent, Media, ProviderError, Request, Start, StreamEvent
from outrider.dialects.errors import KINDS
from outrider.dialects.frames import FrameError, FrameReader

__all__ = ["MAX_STREAM_BYTES", "StreamTranslation", "Translation"]

MAX_STREAM_BYTES: Final = 64 << 20


class Translation:
    """One call. client: what the app speaks; provider: what the target speaks. notes: for x-outrider-translated."""

    def __init__(self, client: Dialect, provider: Dialect) -> None:
        self.client = client
        self.provider = provider
        self.notes = Notes()
        self._request: Request | None = None
        self._free: frozenset[str] = frozenset()  # names of tools whose text goes as JSON

    # -- request

    def read(self, body: Json, model: str | None = None, stream: bool | None = None) -> Request:
        """model, stream: what the path said, where it says it. Raises: UnreadableError."""
        self._request = self.client.read_request(body, model=model, stream=stream)
        return self._request

    def remote_media(self, request: Request) -> list[Media]:
        """What has to be fetched before `write`: whoever may do it sets `data` and `mime`, and clears `url`."""
        return carry.remote_media(request, self.provider.name)

    def write(self, request: Request, target_model: str | None = None) -> WrittenRequest:
        """Raises: CannotCarryError."""
        self._request = request
        if target_model is not None:
            request.model = target_model
        carry.check(request, self.provider.name, self.notes)
        if carry.is_converted("tools that take free text", request, self.provider.name):
            self._free = freetext.names_of(request)
            if self._free:
                request = freetext.as_json(request)
        return self.provider.write_request(request, self.notes)

    def request(
        self, body: Json, model: str | None = None, stream: bool | None = None, target_model: str | None = None
    ) -> tuple[WrittenRequest, Request]:
        """read and write in one. Raises: UnreadableError, CannotCarryError."""
        request = self.read(body, model, stream)
        return self.write(request, target_model), request

    @property
    def note(self) -> str:
        """As Notes have it."""
        return self.notes.note

    # -- what comes back

    def answer(self, body: bytes) -> bytes:
        """A whole answer of the provider. Raises: UnreadableError. `read` or `write` came before."""
        try:
            value: Any = orjson.loads(body)
        except orjson.JSONDecodeError as exc:
            raise UnreadableError("The answer is not JSON.") from exc
        if type(value) is not dict:
            raise UnreadableError("The answer is no JSON object.")
        answer = self.provider.read_answer(value)
        answer.model = answer.model or self._asked().model  # Bedrock and Cohere do not say it
        if self._free:
            freetext.as_text(answer, self._free)
        return orjson.dumps(self.client.write_answer(answer, self._asked(), self.notes))

    def error(self, status: int, body: bytes) -> tuple[int, bytes]:
        """(status, body) for the client."""
        error = self.provider.read_error(status, body)
        return self._status(error), orjson.dumps(self.client.write_error(error))

    def told_status(self, status: int) -> int:
        """What the client is told in place of a status, of which nothing more is known."""
        return self._status(self.provider.read_error(status, b""))

    def _status(self, error: ProviderError) -> int:
        """529 is Anthropic's own; whoever else speaks is told 503."""
        is_anthropic = self.client.name.startswith("anthropic.")
        if error.kind == "overloaded":
            return 529 if is_anthropic else 503
        return error.status if error.status >= 400 else KINDS[error.kind]

    def stream(self) -> "StreamTranslation":
        """For a streamed answer. `read` or `write` came before."""
        return StreamTranslation(self.client, self.provider, self._asked(), self.notes, self._free)

    @property
    def asked(self) -> Request:
        """What `read` or `write` was given last."""
        return self._asked()

    def _asked(self) -> Request:
        if self._request is None:
            raise RuntimeError("An answer is translated for a request, and none was read.")
        return self._request


class StreamTranslation:
    """feed(bytes) -> bytes, end() -> bytes; sans-IO.

    ended: the client's stream has been closed, well or not. error: why it was not.
    """

    def __init__(
        self, client: Dialect, provider: Dialect, request: Request, notes: Notes, free: frozenset[str] = frozenset()
    ) -> None:
        self._frames = FrameReader(provider.framing)
        self._reader = provider.stream_reader()
        self._writer = client.stream_writer(request, notes)
        self._model = request.model
        self._unwrapping = freetext.Unwrapping(free) if free else None
        self._bytes = 0
        self.ended = False
        self.error: ProviderError | None = None

    def feed(self, chunk: bytes) -> bytes:
        if self.ended:
            return b""
        self._bytes += len(chunk)
        if self._bytes > MAX_STREAM_BYTES:
            return self._write([_broken(f"The provider's stream has over {MAX_STREAM_BYTES} bytes.")])
        return self._take(self._frames.feed, chunk)

    def end(self) -> bytes:
        if self.ended:
            return b""
        out = self._take(self._frames.end)
        return out if self.ended else out + self._write(self._reader.end())

    def _take(self, source: Any, *chunk: bytes) -> bytes:
        try:
            return self._read(source(*chunk))
        except FrameError as exc:
            out = self._read(exc.frames)
            return out if self.ended else out + self._write([_broken(str(exc))])

    def _read(self, frames: list[Frame]) -> bytes:
        if len(frames) == 1:
            return self._write(self._reader.read(frames[0]))
        out = []
        for frame in frames:
            if self.ended:
                break
            out.append(self._write(self._reader.read(frame)))
        return b"".join(out)

    def _write(self, events: list[StreamEvent]) -> bytes:
        if not events:
            return b""
        first, last = events[0], events[-1]
        if type(first) is Start and not first.model:
            first.model = self._model
        if type(last) is End:
            self.ended = True
        elif type(last) is ErrorEvent:
            self.ended = True
            self.error = last.error
        if self._unwrapping is not None:
            events = self._unwrapping.events(events)
        return self._writer.write(events)


def _broken(message: str) -> ErrorEvent:
    return ErrorEvent(ProviderError(0, "server", message, code="stream_broken"))
