"""xAI (Grok).

Source: docs.x.ai/docs/api-reference. completion_tokens leaves reasoning out (the reader adds it). xai-sdk speaks gRPC,
which is passed on only where HTTP/2 is.
"""

from typing import Final

from outrider.providers.anthropic import MESSAGES
from outrider.providers.model import BEARER, COMMON_HEADERS, Endpoint, Operation, Provider, Slots
from outrider.providers.openai import (
    EPHEMERAL_KEY,
    FILES,
    IMAGES,
    REALTIME,
    RESPONSES,
    RESPONSES_STORED,
    VIDEOS,
    compatible,
)

_ROWS: Final = compatible(
    "/v1",
    "inject",
    extra=(
        Endpoint("POST", "/responses", RESPONSES),
        Endpoint("GET DELETE", "/responses/{id}", RESPONSES_STORED),
        Endpoint("GET", "/chat/deferred-completion/{id}", Operation("chat_stored")),
        Endpoint("POST", "/messages", MESSAGES),
        Endpoint("POST", "/images/generations", IMAGES),
        Endpoint("POST", "/images/edits", IMAGES),
        Endpoint("POST", "/videos/generations", VIDEOS),
        Endpoint("GET", "/videos/{id}", Operation("videos")),
        Endpoint("GET", "/realtime", REALTIME),
        Endpoint("POST", "/realtime/client_secrets", EPHEMERAL_KEY),
        Endpoint("POST", "/tokenize-text", Operation("count_tokens", model_in="body")),
        Endpoint("GET", "/language-models", Operation("models")),
        Endpoint("GET", "/language-models/{model}", Operation("models")),
        Endpoint("GET", "/embedding-models", Operation("models")),
        Endpoint("GET", "/image-generation-models", Operation("models")),
        Endpoint("GET POST", "/files", FILES),
        Endpoint("GET PUT DELETE", "/files/**", FILES),
        Endpoint("POST", "/documents/search", Operation("retrieve")),
        Endpoint("GET", "/api-key", Operation("account")),
    ),
)

PROVIDER: Final = Provider(
    name="xai",
    title="xAI",
    otel_name="x_ai",
    hosts=("api.x.ai", "us-east-1.api.x.ai", "eu-west-1.api.x.ai"),
    origin="https://api.x.ai",
    auth=BEARER,
    slots=Slots(COMMON_HEADERS, (), ("xai-client-secret.", "openai-insecure-api-key.")),
    error_dialect="openai",
    endpoints=_ROWS,
    ratelimit="openai",
    env=("XAI_API_KEY",),
)
