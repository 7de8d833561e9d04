"""Mistral AI.

Source: docs.mistral.ai/api. Usage comes unasked in a stream's last chunk; unknown request fields are refused with 422,
so stream_options is never put in.
"""

from typing import Final

from outrider.providers.model import BEARER, COMMON_SLOTS, Endpoint, Operation, Provider
from outrider.providers.openai import BATCHES, FILES, FINE_TUNING, MODERATIONS, chat, compatible

_CHAT: Final = chat("sent")
_CONVERSATION: Final = Operation("conversations", "mistral.conversations", "body", "openai.chat", "sse", "sent")
_ROWS: Final = compatible(
    "/v1",
    "sent",
    extra=(
        Endpoint(
            "POST", "/fim/completions", Operation("completions", "openai.chat", "body", "openai.chat", "sse", "sent")
        ),
        Endpoint("POST", "/agents/completions", _CHAT),
        Endpoint("POST", "/ocr", Operation("ocr", model_in="body")),
        Endpoint("POST", "/moderations", MODERATIONS),
        Endpoint("POST", "/chat/moderations", MODERATIONS),
        Endpoint("POST", "/classifications", MODERATIONS),
        Endpoint("POST", "/chat/classifications", MODERATIONS),
        Endpoint("POST", "/audio/transcriptions", Operation("audio", "", "body", "openai.chat", "sse", "sent")),
        Endpoint("POST", "/audio/speech", Operation("audio", "", "body")),
        Endpoint("DELETE", "/models/{model*}", Operation("models")),
        Endpoint("GET POST", "/conversations", _CONVERSATION),
        Endpoint("POST", "/conversations/{id}", _CONVERSATION),
        Endpoint("POST", "/conversations/{id}/restart", _CONVERSATION),
        Endpoint("GET PATCH DELETE", "/conversations/**", Operation("conversations")),
        Endpoint("GET POST", "/agents", Operation("agents")),
        Endpoint("GET PATCH DELETE", "/agents/{id}", Operation("agents")),
        Endpoint("GET POST", "/files", FILES),
        Endpoint("GET DELETE", "/files/**", FILES),
        Endpoint("GET POST", "/batch/jobs", BATCHES),
        Endpoint("GET POST", "/batch/jobs/**", BATCHES),
        Endpoint("GET POST", "/fine_tuning/jobs", FINE_TUNING),
        Endpoint("GET POST PATCH DELETE", "/fine_tuning/**", FINE_TUNING),
    ),
)

PROVIDER: Final = Provider(
    name="mistral",
    title="Mistral AI",
    otel_name="mistral_ai",
    hosts=("api.mistral.ai", "codestral.mistral.ai"),
    origin="https://api.mistral.ai",
    auth=BEARER,
    slots=COMMON_SLOTS,
    error_dialect="openai",
    endpoints=_ROWS,
    ratelimit="mistral",
    env=("MISTRAL_API_KEY", "CODESTRAL_API_KEY"),
)
