"""Together AI.

Source: docs.together.ai/reference. Its SDK sends chat to api-inference.together.ai. Usage comes unasked in the last
chunk.
"""

from typing import Final

from outrider.providers.model import BEARER, COMMON_SLOTS, Endpoint, Operation, Provider
from outrider.providers.openai import AUDIO, BATCHES, FILES, IMAGES, RERANK, VIDEOS, compatible

_ROWS: Final = compatible(
    "/v1",
    "sent",
    extra=(
        Endpoint("POST", "/rerank", RERANK),
        Endpoint("POST", "/images/generations", IMAGES),
        Endpoint("POST", "/audio/speech", AUDIO),
        Endpoint("POST", "/audio/transcriptions", AUDIO),
        Endpoint("POST", "/audio/translations", AUDIO),
        Endpoint("GET POST", "/videos", VIDEOS),
        Endpoint("GET", "/videos/{id}", Operation("videos")),
        Endpoint("GET POST", "/files", FILES),
        Endpoint("GET POST DELETE", "/files/**", FILES),
        Endpoint("GET POST", "/batches", BATCHES),
        Endpoint("GET POST", "/batches/**", BATCHES),
        Endpoint("GET POST", "/fine-tunes", Operation("fine_tuning")),
        Endpoint("GET POST DELETE", "/fine-tunes/**", Operation("fine_tuning")),
        Endpoint("GET POST", "/endpoints", Operation("endpoints")),
        Endpoint("GET PATCH DELETE", "/endpoints/{id}", Operation("endpoints")),
    ),
)

PROVIDER: Final = Provider(
    name="together",
    title="Together AI",
    otel_name="together_ai",
    hosts=("api.together.xyz", "api.together.ai", "api-inference.together.ai"),
    origin="https://api.together.xyz",
    auth=BEARER,
    slots=COMMON_SLOTS,
    error_dialect="openai",
    endpoints=_ROWS,
    ratelimit="openai",
    env=("TOGETHER_API_KEY",),
)
