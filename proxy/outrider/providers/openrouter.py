"""OpenRouter.

Source: openrouter.ai/docs/api-reference. Usage comes unasked in a stream's last chunk. Provisioning keys and OAuth
codes are minted under `/keys` and `/auth`.
"""

from typing import Final

from outrider.providers.anthropic import MESSAGES
from outrider.providers.model import BEARER, COMMON_SLOTS, Endpoint, Operation, Provider
from outrider.providers.openai import ADMIN, RESPONSES, compatible

_ROWS: Final = compatible(
    "/api/v1",
    "sent",
    extra=(
        Endpoint("POST", "/responses", RESPONSES),
        Endpoint("POST", "/messages", MESSAGES),
        Endpoint("GET", "/generation", Operation("account")),
        Endpoint("GET", "/credits", Operation("account")),
        Endpoint("GET", "/key", Operation("account")),
        Endpoint("GET", "/activity", Operation("account")),
        Endpoint("GET", "/providers", Operation("models")),
        Endpoint("GET", "/endpoints/zdr", Operation("models")),
        Endpoint("GET", "/embeddings/models", Operation("models")),
        Endpoint("GET POST", "/keys", ADMIN),
        Endpoint("GET PATCH DELETE", "/keys/{id}", ADMIN),
        Endpoint("POST", "/auth/keys", ADMIN),
        Endpoint("POST", "/auth/keys/code", ADMIN),
        Endpoint("POST", "/credits/coinbase", ADMIN),
    ),
)

PROVIDER: Final = Provider(
    name="openrouter",
    title="OpenRouter",
    otel_name="openrouter",
    hosts=("openrouter.ai", "eu.openrouter.ai", "us.openrouter.ai"),
    origin="https://openrouter.ai",
    auth=BEARER,
    slots=COMMON_SLOTS,
    error_dialect="openai",
    endpoints=_ROWS,
    ratelimit="openai",
    env=("OPENROUTER_API_KEY",),
)
