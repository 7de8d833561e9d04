"""OpenAI, and the table that OpenAI-compatible providers share.

Source: the paths of the openai Python SDK (resources/) and platform.openai.com/docs/api-reference.
"""

from typing import Final

from outrider.providers.model import BEARER, COMMON_HEADERS, Endpoint, Operation, Provider, Slots, StreamUsage

ADMIN: Final = Operation("admin", mints_secrets=True)
FILES: Final = Operation("files")
BATCHES: Final = Operation("batches")
MODELS: Final = Operation("models")
FINE_TUNING: Final = Operation("fine_tuning")
RESPONSES: Final = Operation("responses", "openai.responses", "body", "openai.responses", "sse", "sent")
RESPONSES_STORED: Final = Operation("responses_stored")  # usage is not read again: every poll would count it once more
EMBEDDINGS: Final = Operation("embeddings", "openai.embeddings", "body", "openai.embeddings")
MODERATIONS: Final = Operation("moderations", model_in="body")
IMAGES: Final = Operation("images", model_in="body", usage="openai.images", stream="sse", stream_usage="sent")
AUDIO: Final = Operation("audio", model_in="body", usage="openai.images", stream="sse", stream_usage="sent")
VIDEOS: Final = Operation("videos", model_in="body")
REALTIME: Final = Operation("realtime", model_in="query")
REALTIME_CALLS: Final = Operation("realtime")
EPHEMERAL_KEY: Final = Operation("client_secrets", mints_secrets=True)
ASSISTANTS: Final = Operation("assistants")
ASSISTANT_RUN: Final = Operation("assistants", "", "body", "openai.chat", "sse", "sent")
VECTOR_STORES: Final = Operation("vector_stores")
RERANK: Final = Operation("rerank", model_in="body", usage="openai.chat")
COUNT_TOKENS: Final = Operation("count_tokens", "openai.input_tokens", "body")


def chat(stream_usage: StreamUsage, usage: str = "openai.chat") -> Operation:
    return Operation("chat", "openai.chat", "body", usage, "sse", stream_usage)


def completions(stream_usage: StreamUsage, usage: str = "openai.chat") -> Operation:
    return Operation("completions", "openai.completions", "body", usage, "sse", stream_usage)


def compatible(
    prefix: str, stream_usage: StreamUsage, *, usage: str = "openai.chat", extra: tuple[Endpoint, ...] = ()
) -> tuple[Endpoint, ...]:
    """What nearly every OpenAI-compatible provider has under `prefix`; a row that one lacks answers 404 there."""
    rows = (
        Endpoint("POST", "/chat/completions", chat(stream_usage, usage)),
        Endpoint("POST", "/completions", completions(stream_usage, usage)),
        Endpoint("POST", "/embeddings", EMBEDDINGS),
        Endpoint("GET", "/models", MODELS),
        Endpoint("GET", "/models/{model*}", MODELS),
        *extra,
    )
    return tuple(Endpoint(row.methods, prefix + row.template, row.operation) for row in rows)


_CHAT: Final = chat("inject")

_INFERENCE: Final = (
    Endpoint("POST", "/chat/completions", _CHAT),
    Endpoint("GET", "/chat/completions", Operation("chat_stored")),
    Endpoint("GET POST DELETE", "/chat/completions/{id}", Operation("chat_stored")),
    Endpoint("GET", "/chat/completions/{id}/messages", Operation("chat_stored")),
    Endpoint("POST", "/completions", completions("inject")),
    Endpoint("POST", "/responses", RESPONSES),
    Endpoint("GET", "/responses", Operation("responses")),  # served over WebSocket
    Endpoint("POST", "/responses/compact", Operation("responses", "", "body", "openai.responses")),
    Endpoint("POST", "/responses/input_tokens", COUNT_TOKENS),
    Endpoint("GET DELETE", "/responses/{id}", RESPONSES_STORED),
    Endpoint("POST", "/responses/{id}/cancel", RESPONSES_STORED),
    Endpoint("GET", "/responses/{id}/input_items", RESPONSES_STORED),
    Endpoint("GET POST DELETE", "/conversations", Operation("conversations")),
    Endpoint("GET POST DELETE", "/conversations/**", Operation("conversations")),
    Endpoint("POST", "/embeddings", EMBEDDINGS),
    Endpoint("POST", "/moderations", MODERATIONS),
    Endpoint("POST", "/images/generations", IMAGES),
    Endpoint("POST", "/images/edits", IMAGES),
    Endpoint("POST", "/images/variations", IMAGES),
    Endpoint("POST", "/audio/speech", AUDIO),
    Endpoint("POST", "/audio/transcriptions", AUDIO),
    Endpoint("POST", "/audio/translations", AUDIO),
    Endpoint("GET POST DELETE", "/audio/voices", Operation("audio")),
    Endpoint("GET POST DELETE", "/audio/voices/{id}", Operation("audio")),
    Endpoint("GET POST DELETE", "/audio/voice_consents", Operation("audio")),
    Endpoint("GET POST DELETE", "/audio/voice_consents/{id}", Operation("audio")),
    Endpoint("GET POST", "/videos", VIDEOS),
    Endpoint("GET POST DELETE", "/videos/**", Operation("videos")),
    Endpoint("GET", "/models", MODELS),
    Endpoint("GET DELETE", "/models/{model*}", MODELS),
)

_STORED: Final = (
    Endpoint("GET POST", "/files", FILES),
    Endpoint("GET DELETE", "/files/{id}", FILES),
    Endpoint("GET", "/files/{id}/content", FILES),
    Endpoint("POST", "/uploads", FILES),
    Endpoint("POST", "/uploads/**", FILES),
    Endpoint("GET POST", "/batches", BATCHES),
    Endpoint("GET", "/batches/{id}", BATCHES),
    Endpoint("POST", "/batches/{id}/cancel", BATCHES),
    Endpoint("GET POST", "/fine_tuning/jobs", FINE_TUNING),
    Endpoint("GET POST DELETE", "/fine_tuning/**", FINE_TUNING),
    Endpoint("GET POST", "/vector_stores", VECTOR_STORES),
    Endpoint("GET POST DELETE", "/vector_stores/**", VECTOR_STORES),
    Endpoint("GET POST", "/containers", Operation("containers")),
    Endpoint("GET POST DELETE", "/containers/**", Operation("containers")),
    Endpoint("GET POST", "/evals", Operation("evals")),
    Endpoint("GET POST DELETE", "/evals/**", Operation("evals")),
    Endpoint("GET POST", "/skills", Operation("skills")),
    Endpoint("GET POST DELETE", "/skills/**", Operation("skills")),
    Endpoint("POST", "/traces/ingest", Operation("traces")),
)

_ASSISTANTS: Final = (
    Endpoint("GET POST", "/assistants", ASSISTANTS),
    Endpoint("GET POST DELETE", "/assistants/{id}", ASSISTANTS),
    Endpoint("POST", "/threads/runs", ASSISTANT_RUN),
    Endpoint("POST", "/threads/{id}/runs", ASSISTANT_RUN),
    Endpoint("POST", "/threads/{id}/runs/{id}/submit_tool_outputs", ASSISTANT_RUN),
    Endpoint("POST", "/threads", ASSISTANTS),
    Endpoint("GET POST DELETE", "/threads/**", ASSISTANTS),
)

_LIVE: Final = (
    Endpoint("GET", "/realtime", REALTIME),
    Endpoint("GET", "/realtime/translations", REALTIME),
    Endpoint("POST", "/realtime/client_secrets", EPHEMERAL_KEY),
    Endpoint("POST", "/realtime/translations/client_secrets", EPHEMERAL_KEY),
    Endpoint("POST", "/realtime/sessions", EPHEMERAL_KEY),
    Endpoint("POST", "/realtime/transcription_sessions", EPHEMERAL_KEY),
    Endpoint("POST", "/realtime/calls", REALTIME_CALLS),
    Endpoint("POST", "/realtime/calls/**", REALTIME_CALLS),
    Endpoint("POST", "/chatkit/sessions", EPHEMERAL_KEY),
    Endpoint("POST", "/chatkit/sessions/{id}/cancel", Operation("chatkit")),
    Endpoint("GET DELETE", "/chatkit/threads", Operation("chatkit")),
    Endpoint("GET DELETE", "/chatkit/threads/**", Operation("chatkit")),
)

# Administration reads and changes keys, members, certificates and limits of the whole organisation: all of it counts as
# minting, since telling the harmless rows apart would have to be redone with every release.
_ADMIN: Final = (
    Endpoint("GET POST DELETE PUT PATCH", "/organization/**", ADMIN),
    Endpoint("GET POST DELETE PUT PATCH", "/projects/**", ADMIN),
)

INFERENCE: Final = _INFERENCE
ALL: Final = _INFERENCE + _STORED + _ASSISTANTS + _LIVE + _ADMIN
WITHOUT_ADMIN: Final = _INFERENCE + _STORED + _ASSISTANTS + _LIVE


def under(rows: tuple[Endpoint, ...], *prefixes: str) -> tuple[Endpoint, ...]:
    return tuple(Endpoint(row.methods, row.template, row.operation, prefixes) for row in rows)


_REGIONS: Final = ("us", "eu", "au", "ca", "jp", "in", "sg", "kr", "gb", "ae")  # data residency, guides/your-data
SLOTS: Final = Slots(COMMON_HEADERS, (), ("openai-insecure-api-key.",))

PROVIDER: Final = Provider(
    name="openai",
    title="OpenAI",
    otel_name="openai",
    hosts=("api.openai.com", *(f"{region}.api.openai.com" for region in _REGIONS)),
    origin="https://api.openai.com",
    auth=BEARER,
    slots=SLOTS,
    error_dialect="openai",
    endpoints=under(ALL, "/v1"),
    ratelimit="openai",
    env=("OPENAI_API_KEY",),
)
