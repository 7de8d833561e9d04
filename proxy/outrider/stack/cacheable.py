"""Which requests may be answered from memory, and which answers may be remembered.

Rules: in doubt, not. A request whose answer is not the same each time (a temperature above 0, tools that the provider
runs) or is more than an answer (stored, in the background, part of a conversation that the provider keeps) is asked
anew; only an answer that ended as its dialect ends one, without an error and not cut short, is remembered.
Does not know: keys, stores, how long anything is good for.
"""

import re
import zlib
from binascii import Error as Base64Error
from binascii import a2b_base64
from typing import Any, Final

import orjson

from outrider.dialects.streams import framing_of
from outrider.providers.model import Operation
from outrider_ext.eventstream import EventStreamError, EventStreamReader
from outrider_ext.jsonscan import FieldScan, JsonScanError
from outrider_ext.remember import FIXED as IS_FIXED
from outrider_ext.remember import NEVER, OPEN, Question
from outrider_ext.sse import event_spans

# Operations whose answer follows from their input.
FIXED: Final = frozenset(("embeddings", "embed_content", "rerank", "count_tokens", "moderations", "classify"))
GENERATING: Final = frozenset(
    ("chat", "completions", "messages", "responses", "generate_content", "converse", "invoke_model")
)
# Kinds of providers that look things up for every answer -> operations whose requests can say that this one does not.
SEARCHING: Final = {"perplexity": frozenset(("chat",))}
# InvokeModel of these is no answer of words.
_WORDLESS: Final = re.compile(
    r"(?:^|[./])(?:amazon\.titan-embed|cohere\.embed|amazon\.nova-2-multimodal-embed|(?:cohere|amazon)\.rerank)"
)

# Fields of a request, in the order in which it is scanned for them. What stands in it makes of a call more than a
# question (see the docstring); a value of null or false is as if it were not there.
_STATEFUL: Final = (
    b"store", b"previous_response_id", b"background", b"conversation", b"container", b"mcp_servers", b"cachedContent",
    b"cached_content", b"web_search_options", b"search_parameters", b"plugins", b"connectors", b"context",
    b"conversation_id",
)  # fmt: skip
_HOLDERS: Final = (
    b"generationConfig", b"generation_config", b"inferenceConfig", b"options", b"textGenerationConfig",
)  # fmt: skip
_OTHERS: Final = (b"toolConfig", b"disable_search")
_FIELDS: Final = (b"temperature", b"tools", *_HOLDERS, *_STATEFUL, *_OTHERS)
_TEMPERATURE, _TOOLS, _FIRST_HOLDER, _FIRST_STATEFUL = 0, 1, 2, 2 + len(_HOLDERS)
_TOOL_CONFIG, _DISABLE_SEARCH = len(_FIELDS) - 2, len(_FIELDS) - 1
_STORE: Final = _FIRST_STATEFUL
_NOTHING: Final = (None, b"null", b"false", b"[]", b"{}")
_OWN_TOOLS: Final = (None, "function", "custom")
_DECLARED: Final = frozenset(("functionDeclarations", "function_declarations"))


def is_cacheable(operation: Operation, kind: str) -> bool:
    """Whether any of its answers may be. kind: of the provider."""
    return operation.name in FIXED or operation.name in SEARCHING.get(kind, GENERATING)


class Requests:
    """Reads requests of one operation. question: what is usual, compiled; `look` is asked for what is not.

    kind: of the provider. model: where it stands in the path.
    """

    def __init__(self, operation: Operation, kind: str = "", model: str | None = None) -> None:
        is_wordless = operation.name == "invoke_model" and _WORDLESS.search(model or "") is not None
        self._is_fixed = operation.name in FIXED or is_wordless
        self._searches = kind in SEARCHING and not self._is_fixed
        self._stores_unasked = operation.dialect == "openai.responses"
        self._declares = operation.dialect.startswith("gemini")
        self._scan = FieldScan(_FIELDS)
        self._inner = FieldScan((b"temperature",))
        # Where every body has a field that is to be looked into, or has to have one, there is nothing usual.
        is_usual = not self._stores_unasked and not self._searches
        self.question = Question(FieldScan(_FIELDS), _TOOLS, self._is_fixed, is_usual, self.look)

    def look(self, body: bytes) -> int:
        """NEVER, OPEN or FIXED of outrider_ext.remember."""
        scan = self._scan
        try:
            scan.scan(body)
            for at in range(_FIRST_STATEFUL, _TOOL_CONFIG):
                if scan.starts(at) >= 0 and scan.raw(at) not in _NOTHING:
                    return NEVER
            # What the Responses API is not told not to keep, it keeps, and a later call may go on with it.
            if self._stores_unasked and scan.raw(_STORE) != b"false":
                return NEVER
            if self._searches and scan.raw(_DISABLE_SEARCH) != b"true":
                return NEVER
            config = scan.raw(_TOOL_CONFIG)
            if config is not None and config not in _NOTHING and not _configures_own(config):
                return NEVER
            tools = scan.raw(_TOOLS)
            if tools is not None and tools not in _NOTHING and not self._runs_nothing(tools):
                return NEVER
            return IS_FIXED if self._is_fixed or self._is_cold(body) else OPEN
        except (JsonScanError, ValueError):
            return NEVER
        finally:
            scan.clear()

    def _is_cold(self, body: bytes) -> bool:
        """A temperature of 0, said."""
        scan, inner = self._scan, self._inner
        said = scan.raw(_TEMPERATURE)
        for at in range(_FIRST_HOLDER, _FIRST_STATEFUL):
            start, end = scan.span(at)
            if said is None and start >= 0 and body[start : start + 1] == b"{":
                inner.scan(body, start, end)
                said = inner.raw(0)
        return said is not None and said[:1] in b"0-" and float(said) == 0

    def _runs_nothing(self, tools: bytes) -> bool:
        """Whether all are tools that the app runs itself."""
        found = orjson.loads(tools)
        if not isinstance(found, list) or not all(isinstance(tool, dict) for tool in found):
            return False
        if self._declares:
            return all(tool.keys() <= _DECLARED for tool in found)
        return all(tool.get("type") in _OWN_TOOLS for tool in found)


def _configures_own(config: bytes) -> bool:
    """Whether Bedrock's `toolConfig` has the app's own tools only: a systemTool is run there."""
    found = orjson.loads(config)
    tools = found.get("tools") if isinstance(found, dict) else None
    return isinstance(tools, list) and all(
        isinstance(tool, dict) and tool.keys() <= {"toolSpec", "cachePoint"} for tool in tools
    )


# -- answers

# finish_reason, stopReason and the like; within a text its quotes would be escaped.
_REASON: Final = re.compile(rb'eason"\s{0,8}:\s{0,8}"([A-Za-z_]{1,40})"')
# Ends that leave nothing out. Any other (a length, a filter, one that is not known) does.
_WHOLE_REASONS: Final = frozenset(
    (
        b"stop", b"tool_calls", b"function_call", b"end_turn", b"stop_sequence", b"tool_use", b"STOP", b"COMPLETE",
        b"STOP_SEQUENCE", b"TOOL_CALL", b"eos", b"FINISH",
    )
)  # fmt: skip
_ERRORS: Final = re.compile(rb'(?:^|\n)event: ?error\b|(?:^|\n)data: ?\{"error"|\{"type": ?"error"')
_GZIP_WINDOW: Final = 16 + zlib.MAX_WBITS
_COMPLETED: Final = re.compile(rb'"type": ?"response\.completed"')
_MESSAGE_STOP: Final = re.compile(rb'"type": ?"message_stop"')
_MESSAGE_END: Final = re.compile(rb'"type": ?"message-end"|^data: ?\[DONE\]')
# dialect -> what its last server-sent event holds; a dialect that is not here has no known end.
_LAST_EVENT: Final[dict[str, re.Pattern[bytes]]] = {
    "openai.chat": re.compile(rb"^data: ?\[DONE\]"),
    "openai.completions": re.compile(rb"^data: ?\[DONE\]"),
    "openai.responses": _COMPLETED,
    "anthropic.messages": _MESSAGE_STOP,
    "gemini.generate": _REASON,
    "cohere.chat": _MESSAGE_END,
}


def unpacked(body: bytes, coding: bytes | None, cap_bytes: int) -> bytes | None:
    """The body without its content-encoding; None where it does not unpack, or to more than `cap_bytes`."""
    if coding is None or coding == b"identity":
        return body
    if coding not in (b"gzip", b"x-gzip"):
        return None
    decoder = zlib.decompressobj(_GZIP_WINDOW)
    try:
        plain = decoder.decompress(body, cap_bytes)
    except zlib.error:
        return None
    return plain if decoder.eof and not decoder.unused_data and not decoder.unconsumed_tail else None


def is_complete(operation: Operation, kind: bytes, body: bytes) -> bool:
    """Whether a good answer's (unpacked) body is all that was asked for. kind: its content-type, in lower case."""
    framing = framing_of(kind)
    if framing == "sse":
        return _is_complete_stream(operation.dialect, body)
    if framing == "ndjson":
        return _is_complete_lines(body)
    if framing == "eventstream":
        return _is_complete_frames(operation.dialect, body)
    if not kind.startswith(b"application/json"):
        return False
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        return False
    return _is_complete_value(operation, value, body)


def _is_complete_value(operation: Operation, value: Any, body: bytes) -> bool:
    if isinstance(value, list) and value:  # a stream in the form of an array
        is_one = operation.dialect == "gemini.generate"
        return is_one and not any("error" in one for one in value) and _ended_whole(body)
    if not isinstance(value, dict) or value.get("error"):
        return False
    if operation.name in FIXED or (operation.name == "invoke_model" and value.keys() & _VECTORS):
        return bool(value)
    if operation.dialect == "openai.responses":
        return bool(value.get("status") == "completed")
    found = [_first(one, _PART_REASONS) for one in _parts(value) if isinstance(one, dict)]
    found += [value[name] for name in _REASON_NAMES if name in value]
    return bool(found) and all(isinstance(one, str) and one.encode() in _WHOLE_REASONS for one in found)


_REASON_NAMES: Final = ("finish_reason", "stop_reason", "stopReason", "done_reason")
_PART_REASONS: Final = ("finish_reason", "finishReason", "completionReason")
_VECTORS: Final = frozenset(("embedding", "embeddings", "embeddingsByType"))


def _first(part: dict[str, Any], names: tuple[str, ...]) -> Any:
    return next((part[name] for name in names if part.get(name)), None)


def _parts(value: dict[str, Any]) -> list[Any]:
    """What an answer has several of, each with its own end."""
    parts = value.get("choices") or value.get("candidates") or value.get("results")
    return parts if isinstance(parts, list) else []


def _is_complete_stream(dialect: str, body: bytes) -> bool:
    end = _LAST_EVENT.get(dialect)
    if end is None or _ERRORS.search(body):
        return False
    spans = event_spans(body)
    if not spans or body[spans[-1][1] :].strip():
        return False
    last = body[spans[-1][0] : spans[-1][1]]
    return end.search(last) is not None and (dialect == "openai.responses" or _ended_whole(body))


def _is_complete_lines(body: bytes) -> bool:
    *_, last = body.rstrip().rsplit(b"\n", 1)
    try:
        value = orjson.loads(last)
    except orjson.JSONDecodeError:
        return False
    is_done = isinstance(value, dict) and (value.get("done") is True or value.get("is_finished") is True)
    return is_done and b'{"error"' not in body and _ended_whole(body)


def _is_complete_frames(dialect: str, body: bytes) -> bool:
    if b":exception-type" in body or b":error-code" in body:
        return False
    if dialect == "bedrock.converse":
        return b"messageStop" in body and _ended_whole(body)
    if dialect != "bedrock.invoke":
        return False
    reader = EventStreamReader()
    try:
        payloads = [message.payload for message in reader.receive_data(body)]
        reader.finish()
        chunks = [a2b_base64(orjson.loads(payload)["bytes"]) for payload in payloads]
    except (EventStreamError, Base64Error, orjson.JSONDecodeError, KeyError, TypeError, ValueError):
        return False
    if not chunks or not _ended_whole(b"\n".join(chunks)):
        return False
    # Claude's says so; of the others the reason stands in the last chunk, or before Nova's usage.
    is_claude = b'"message_start"' in chunks[0]
    return _MESSAGE_STOP.search(chunks[-1]) is not None if is_claude else _ended_whole(b"\n".join(chunks[-2:]))


def _ended_whole(body: bytes) -> bool:
    reasons = _REASON.findall(body)
    return bool(reasons) and all(reason in _WHOLE_REASONS for reason in reasons)
