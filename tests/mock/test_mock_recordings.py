"""The emulator against recorded traffic: it takes what the providers took, and says what they said, key for key."""

import base64
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest

from outrider.mock import route
from outrider.mock.reply import Call, Stream, Whole
from outrider.mock.server import reply_to
from support.vectors import rows

AUTH = {"anthropic": {"x-api-key": "k", "anthropic-version": "2023-06-01"}, "gemini": {"x-goog-api-key": "k"}}
AUTH |= {"azure": {"api-key": "k"}}
HOSTS = {"anthropic": "api.anthropic.com", "openai": "api.openai.com", "azure": "x.openai.azure.com"}
ENDINGS = {
    "openai": ("/v1/chat/completions", "/v1/responses", "/v1/embeddings"),
    "azure": ("/chat/completions",),
    "anthropic": ("/v1/messages",),
    "gemini": (":generateContent", ":streamGenerateContent"),
    "bedrock": ("/converse", "/converse-stream"),
    "ollama": ("/api/chat", "/api/generate"),
    "groq": ("/chat/completions",),
    "mistral": ("/v1/chat/completions",),
    "together": ("/v1/chat/completions",),
    "deepseek": ("/chat/completions",),
}


def chosen(provider: str) -> list[dict[str, Any]]:
    """The recorded exchanges of one provider that succeeded and that the emulator has an endpoint for."""
    return [
        row
        for row in rows("exchanges")
        if row["provider"] == provider
        and row["status"] == 200
        and urlsplit(row["url"]).path.endswith(ENDINGS[provider])
        and '"model":"muse-spark' not in (row.get("req") or "")  # another service, recorded under OpenAI's host name
        and not (row.get("resp") or "").replace(" ", "").replace("\n", "").startswith('{"error":{')
    ]


def asked(row: Mapping[str, Any]) -> Call:
    url = urlsplit(row["url"])
    host = url.netloc or HOSTS[row["provider"]]
    found = route.find(host, url.path)
    body = base64.b64decode(row["req_b64"]) if row.get("req_b64") else (row.get("req") or "").encode()
    headers = {"host": host, "content-type": "application/json", "authorization": "Bearer k"}
    return Call(
        provider=found.provider,
        method=row["method"],
        target=url.path + (f"?{url.query}" if url.query else ""),
        path=url.path,
        operation=found.operation,
        query=dict(parse_qsl(url.query)),
        headers=headers | AUTH.get(row["provider"], {}),
        raw_headers=(),
        body=body,
        host=host,
        official=found.official,
        now_s=1_760_000_000,
    )


def objects(raw: bytes) -> list[dict[str, Any]]:
    """Every JSON object of an answer, whichever way it was framed: event stream, SSE, NDJSON, array or plain."""
    if raw[:1] == b"\0":
        return list(frames(raw))
    text = raw.decode()
    if text.lstrip().startswith(("data:", "event:", ":")):
        lines = [line.removeprefix("data:").strip() for line in text.splitlines() if line.startswith("data:")]
        return [json.loads(line) for line in lines if line and line != "[DONE]"]
    try:
        value = json.loads(text)
    except json.JSONDecodeError:
        return [json.loads(line) for line in text.splitlines() if line]
    return value if isinstance(value, list) else [value]


def frames(raw: bytes) -> Iterator[dict[str, Any]]:
    at = 0
    while at < len(raw):
        size, head = int.from_bytes(raw[at : at + 4], "big"), int.from_bytes(raw[at + 4 : at + 8], "big")
        names = raw[at + 12 : at + 12 + head]
        kind = names.split(b":event-type\x07", 1)[1]
        length = int.from_bytes(kind[:2], "big")
        payload = json.loads(raw[at + 12 + head : at + size - 4])
        yield {"type": kind[2 : 2 + length].decode(), **payload}
        at += size


def said(reply: Whole | Stream) -> bytes:
    return reply.body if isinstance(reply, Whole) else b"".join(reply.events)


@dataclass
class Seen:
    """The top-level keys that answers of one kind had: ever, and always."""

    ever: set[str] = field(default_factory=set)
    always: set[str] | None = None

    def add(self, keys: Iterable[str]) -> None:
        self.ever |= set(keys)
        self.always = set(keys) if self.always is None else self.always & set(keys)


def shapes(answers: Iterable[tuple[str, bytes]]) -> dict[str, Seen]:
    seen: dict[str, Seen] = defaultdict(Seen)
    for kind, raw in answers:
        for value in objects(raw):
            name = f"{kind} {value.get('type', '') if kind.startswith('stream') else ''}".strip()
            seen[name].add(value)
    return seen


def kind_of(row: Mapping[str, Any]) -> str:
    ending = urlsplit(row["url"]).path.rsplit("/", 1)[-1].rsplit(":", 1)[-1]
    return f"{'stream' if row['stream'] else 'plain'} {ending}"


def recorded(row: Mapping[str, Any]) -> bytes:
    return base64.b64decode(row["resp_b64"]) if row.get("resp_b64") else (row.get("resp") or "").encode()


@pytest.mark.parametrize("provider", sorted(ENDINGS))
def test_the_mock_takes_every_recorded_request_that_the_provider_took(provider: str) -> None:
    refused = []
    for row in chosen(provider):
        reply = reply_to(asked(row))
        if reply.status != 200:
            assert isinstance(reply, Whole)
            refused.append((row["url"], reply.status, reply.body[:300], (row.get("req") or "")[:200]))
    assert refused == []


@pytest.mark.parametrize("provider", ["openai", "azure", "anthropic", "gemini", "bedrock", "ollama"])
def test_every_kind_of_answer_has_the_keys_that_recordings_have(provider: str) -> None:
    exchanges = chosen(provider)
    theirs = shapes((kind_of(row), recorded(row)) for row in exchanges)
    ours = shapes((kind_of(row), said(reply_to(asked(row)))) for row in exchanges)
    for kind, seen in ours.items():
        assert kind in theirs, f"{provider} never sends {kind}"
        assert seen.ever <= theirs[kind].ever, f"{provider} {kind}: keys that the provider never sends"
        assert (theirs[kind].always or set()) <= (seen.always or set()), f"{provider} {kind}: a key is missing"


def usages(raw: bytes) -> Iterator[dict[str, Any]]:
    """Every usage object in an answer, wherever its dialect puts it."""
    for value in objects(raw):
        inner = [value, value.get("message"), value.get("response"), value.get("metadata")]
        for holder in (part for part in inner if isinstance(part, dict)):
            for name in ("usage", "usageMetadata"):
                if isinstance(holder.get(name), dict):
                    yield holder[name]


@pytest.mark.parametrize("provider", ["openai", "azure", "anthropic", "gemini", "bedrock"])
def test_usage_has_no_name_that_recordings_never_show(provider: str) -> None:
    exchanges = chosen(provider)
    theirs = {name for row in exchanges for usage in usages(recorded(row)) for name in usage}
    ours = {name for row in exchanges for usage in usages(said(reply_to(asked(row)))) for name in usage}
    assert ours
    assert ours <= theirs
