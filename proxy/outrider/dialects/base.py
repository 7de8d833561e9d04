"""What an adapter is: one dialect's wire form to the canonical form and back. N adapters, never N×M pairs.

Rules
- Readers are lenient (unknown fields go to `rest`, unknown events are ignored) and raise UnreadableError with a
  sentence only for what cannot be understood; writers never raise: carry.py has refused before what cannot be written.
- A writer writes `rest` only when `origin` is its own dialect.
- Stream readers and writers are sans-IO state machines: one frame in, events out; events in, bytes out, framed.
- What a reader or writer finds out that the app should know goes to `notes`, once each (header x-outrider-translated).

Does not know: HTTP, providers, credentials.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from outrider.dialects.canonical import Answer, ProviderError, Request, StreamEvent

__all__ = [
    "Adapter",
    "Dialect",
    "Frame",
    "Framing",
    "Notes",
    "StreamReader",
    "StreamWriter",
    "UnreadableError",
    "WrittenRequest",
]

type Json = dict[str, Any]
type Framing = Literal["sse", "ndjson", "eventstream", "json-array", ""]


class UnreadableError(ValueError):
    """This is not a body of that dialect. str() is a sentence that names the field; safe to show."""


class Notes:
    """What was left out or changed on the way, as short phrases: "logit_bias left out".

    Bounded, in order, once each.
    """

    MAX = 32

    def __init__(self) -> None:
        self.phrases: list[str] = []

    def add(self, phrase: str) -> None:
        if phrase not in self.phrases and len(self.phrases) < self.MAX:
            self.phrases.append(phrase)

    @property
    def note(self) -> str:
        """The header's value: phrases with `; ` between them, printable ASCII, "" where there is nothing to say."""
        return "; ".join(map(_printable, self.phrases))


def _printable(phrase: str) -> str:
    """Names of the app's own fields stand in it."""
    return "".join(letter if " " <= letter <= "~" and letter != ";" else "?" for letter in phrase[:200])


@dataclass(slots=True)
class Frame:
    """One event off the wire. name: SSE's event or the event stream's :event-type, "" where there is none.

    is_exception: an event stream's exception frame (name is then its :exception-type).
    """

    data: bytes
    name: str = ""
    is_exception: bool = False


@dataclass(slots=True)
class WrittenRequest:
    """body goes out as JSON; what the dialect puts elsewhere stands beside it. headers: lower-case names.

    A model in the path is the provider's to place (providers/*): the model is `Request.model`.
    """

    body: Json
    headers: dict[str, str] = field(default_factory=dict)


class StreamReader(Protocol):
    def read(self, frame: Frame) -> list[StreamEvent]:
        """0..n events, in order. Never raises: what cannot be read is an ErrorEvent or is left out."""
        ...

    def end(self) -> list[StreamEvent]:
        """The connection ended: End if all had been said; else an ErrorEvent that says that it was cut."""
        ...


class StreamWriter(Protocol):
    def write(self, events: list[StreamEvent]) -> bytes:
        """Framed bytes of the dialect, b"" where there is nothing to say yet."""
        ...


class Dialect(Protocol):
    """One adapter; the modules of this package hold one instance each, DIALECT.

    name: as in providers' Operation.dialect. framing: of its streams. model_in: "body" or "path".
    """

    name: str
    framing: Framing
    model_in: Literal["body", "path"]

    def read_request(self, body: Json, *, model: str | None = None, stream: bool | None = None) -> Request:
        """model and stream: what the path said, where it says it. Raises: UnreadableError."""
        ...

    def write_request(self, request: Request, notes: Notes) -> WrittenRequest: ...

    def read_answer(self, body: Json) -> Answer:
        """Raises: UnreadableError."""
        ...

    def write_answer(self, answer: Answer, request: Request, notes: Notes) -> Json:
        """request: what the app asked, for what an answer repeats of it."""
        ...

    def read_error(self, status: int, body: bytes) -> ProviderError:
        """Whatever the bytes are."""
        ...

    def write_error(self, error: ProviderError) -> Json: ...

    def stream_reader(self) -> StreamReader: ...

    def stream_writer(self, request: Request, notes: Notes) -> StreamWriter: ...


@dataclass(slots=True)
class Adapter:
    """A Dialect made of a module's functions, which are what its methods say."""

    name: str
    framing: Framing
    model_in: Literal["body", "path"]
    reads_request: Callable[[Json, str | None, bool | None], Request]
    write_request: Callable[[Request, Notes], WrittenRequest]
    read_answer: Callable[[Json], Answer]
    write_answer: Callable[[Answer, Request, Notes], Json]
    read_error: Callable[[int, bytes], ProviderError]
    write_error: Callable[[ProviderError], Json]
    stream_reader: Callable[[], StreamReader]
    stream_writer: Callable[[Request, Notes], StreamWriter]

    def read_request(self, body: Json, *, model: str | None = None, stream: bool | None = None) -> Request:
        return self.reads_request(body, model, stream)
