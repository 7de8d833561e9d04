"""What binds a call to the route (provider, key, model) of its conversation, though the dialect is the same.

Rules
- What the route keeps (a conversation, cached content, a container, files) is refused elsewhere, with the reason.
- Proofs that it made are bound to it, too: Gemini's signatures and sealed reasoning of OpenAI are taken off with a
  note, and calls get the value that Google names for calls from elsewhere. Anthropic's signatures hold at all of
  its hosts, for any of its models.

Does not know: which route served the conversation; whoever remembers it asks here whether it must be the same.
"""

from typing import Final

from outrider.dialects.base import Notes
from outrider.dialects.canonical import Media, Part, Request, Text, Thinking, ToolCall, ToolResult
from outrider.dialects.carry import CannotCarryError

__all__ = ["is_bound", "reroute"]

_KEPT: Final = "what it refers to is known to the route that served it only"
_HOLDS_EVERYWHERE: Final = frozenset({"anthropic.messages"})


def _parts(request: Request) -> list[Part]:
    found: list[Part] = list(request.system)
    for message in request.messages:
        for part in message.parts:
            found.append(part)
            if isinstance(part, ToolResult):
                found += part.parts
    return found


def _file_of(request: Request) -> Media | None:
    return next((part for part in _parts(request) if isinstance(part, Media) and part.file_id is not None), None)


def is_bound(request: Request) -> bool:
    """Whether it can be served by the route of its conversation only: what `reroute` would refuse."""
    return bool(request.conversation) or _file_of(request) is not None


def reroute(request: Request, target: str, notes: Notes) -> None:
    """Makes the request fit for another route of its own dialect, in place. Raises: CannotCarryError."""
    if request.conversation:
        raise CannotCarryError(next(iter(request.conversation)), target, _KEPT)
    if (file := _file_of(request)) is not None:
        raise CannotCarryError(f"{file.kind} by file id", target, _KEPT)
    if request.origin in _HOLDS_EVERYWHERE:
        return
    for message in request.messages:
        kept: list[Part] = []
        for part in message.parts:
            if isinstance(part, (Text, Thinking, ToolCall)) and part.signature is not None:
                part.signature = None
                notes.add("signatures left out")
            if isinstance(part, Thinking) and part.hidden is not None:
                notes.add("sealed thoughts left out")
                continue
            kept.append(part)
        message.parts = kept
