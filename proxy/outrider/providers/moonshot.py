"""Moonshot AI (Kimi).

Source: platform.moonshot.ai/docs. A stream's usage comes unasked, in older answers inside `choices[0]`. The Anthropic
dialect is under `/anthropic`.
"""

from typing import Final

from outrider.providers.anthropic import COUNT_TOKENS, MESSAGES
from outrider.providers.model import BEARER, COMMON_SLOTS, Endpoint, Operation, Provider
from outrider.providers.openai import FILES, compatible

_ROWS: Final = (
    *compatible(
        "/v1",
        "sent",
        extra=(
            Endpoint("POST", "/tokenizers/estimate-token-count", Operation("count_tokens", model_in="body")),
            Endpoint("GET", "/users/me/balance", Operation("account")),
            Endpoint("GET POST", "/files", FILES),
            Endpoint("GET DELETE", "/files/{id}", FILES),
            Endpoint("GET", "/files/{id}/content", FILES),
        ),
    ),
    Endpoint("POST", "/anthropic/v1/messages", MESSAGES),
    Endpoint("POST", "/anthropic/v1/messages/count_tokens", COUNT_TOKENS),
)

PROVIDER: Final = Provider(
    name="moonshot",
    title="Moonshot AI",
    otel_name="moonshot_ai",
    hosts=("api.moonshot.ai", "api.moonshot.cn"),
    origin="https://api.moonshot.ai",
    auth=BEARER,
    slots=COMMON_SLOTS,
    error_dialect="openai",
    endpoints=_ROWS,
    ratelimit="openai",
    env=("MOONSHOT_API_KEY",),
)
