"""DeepSeek.

Source: api-docs.deepseek.com. The same paths stand bare, under `/v1` and under `/beta`; the Anthropic dialect is under
`/anthropic`. A stream's last chunk holds usage, unasked.
"""

from typing import Final

from outrider.providers.anthropic import MESSAGES
from outrider.providers.model import BEARER, COMMON_SLOTS, Endpoint, Operation, Provider
from outrider.providers.openai import compatible

_ROWS: Final = (
    *compatible("", "sent"),
    *compatible("/v1", "sent"),
    *compatible("/beta", "sent"),
    Endpoint("GET", "/user/balance", Operation("account")),
    Endpoint("POST", "/anthropic/v1/messages", MESSAGES),
    Endpoint("GET", "/anthropic/v1/models", Operation("models")),
)

PROVIDER: Final = Provider(
    name="deepseek",
    title="DeepSeek",
    otel_name="deepseek",
    hosts=("api.deepseek.com",),
    origin="https://api.deepseek.com",
    auth=BEARER,
    slots=COMMON_SLOTS,
    error_dialect="openai",
    endpoints=_ROWS,
    ratelimit="",
    env=("DEEPSEEK_API_KEY",),
)
