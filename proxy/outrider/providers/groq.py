"""Groq.

Source: console.groq.com/docs/api-reference. Usage stands in a stream's last chunk, unasked, under `x_groq`.
"""

from typing import Final

from outrider.providers.model import BEARER, COMMON_SLOTS, Endpoint, Operation, Provider
from outrider.providers.openai import AUDIO, BATCHES, FILES, RESPONSES, compatible

_ROWS: Final = compatible(
    "/openai/v1",
    "sent",
    extra=(
        Endpoint("POST", "/responses", RESPONSES),
        Endpoint("POST", "/audio/transcriptions", AUDIO),
        Endpoint("POST", "/audio/translations", AUDIO),
        Endpoint("POST", "/audio/speech", AUDIO),
        Endpoint("GET POST", "/files", FILES),
        Endpoint("GET DELETE", "/files/**", FILES),
        Endpoint("GET POST", "/batches", BATCHES),
        Endpoint("GET POST", "/batches/**", BATCHES),
        Endpoint("GET POST", "/fine_tunings", Operation("fine_tuning")),
        Endpoint("GET DELETE", "/fine_tunings/**", Operation("fine_tuning")),
    ),
)

PROVIDER: Final = Provider(
    name="groq",
    title="Groq",
    otel_name="groq",
    hosts=("api.groq.com",),
    origin="https://api.groq.com",
    auth=BEARER,
    slots=COMMON_SLOTS,
    error_dialect="openai",
    endpoints=_ROWS,
    ratelimit="openai",
    env=("GROQ_API_KEY",),
)
