"""AI21 Labs.

Source: docs.ai21.com/reference. A stream's last chunk holds usage, unasked.
"""

from typing import Final

from outrider.providers.model import BEARER, COMMON_SLOTS, Endpoint, Operation, Provider
from outrider.providers.openai import FILES, chat

_ROWS: Final = (
    Endpoint("POST", "/studio/v1/chat/completions", chat("sent")),
    Endpoint("POST", "/studio/v1/{model}/complete", Operation("completions", "ai21.complete", "path")),
    Endpoint("POST", "/studio/v1/{model}/chat", Operation("chat", "ai21.chat", "path")),
    Endpoint("POST", "/studio/v1/embed", Operation("embeddings")),
    Endpoint("GET POST", "/studio/v1/library/files", FILES),
    Endpoint("GET PUT DELETE", "/studio/v1/library/files/{id}", FILES),
    Endpoint("POST", "/studio/v1/library/**", Operation("retrieve")),
    Endpoint("POST", "/studio/v1/conversational-rag", Operation("retrieve", "", "", "openai.chat")),
    Endpoint("GET POST", "/studio/v1/batch/**", Operation("batches")),
    Endpoint("GET", "/studio/v1/models", Operation("models")),
    Endpoint("GET POST", "/studio/v1/maestro/runs", Operation("agents")),
    Endpoint("GET", "/studio/v1/maestro/runs/{id}", Operation("agents")),
)

PROVIDER: Final = Provider(
    name="ai21",
    title="AI21 Labs",
    otel_name="ai21",
    hosts=("api.ai21.com",),
    origin="https://api.ai21.com",
    auth=BEARER,
    slots=COMMON_SLOTS,
    error_dialect="openai",
    endpoints=_ROWS,
    ratelimit="",
    env=("AI21_API_KEY",),
)
