"""vLLM, self-hosted: it exists only where config names it.

Source: docs.vllm.ai/en/stable/serving/openai_compatible_server.html.
"""

from typing import Final

from outrider.providers.anthropic import COUNT_TOKENS, MESSAGES
from outrider.providers.model import BEARER, COMMON_SLOTS, Endpoint, Operation, Provider
from outrider.providers.openai import AUDIO, RERANK, RESPONSES, RESPONSES_STORED, compatible

_COUNT: Final = Operation("count_tokens", model_in="body")
_SCORE: Final = Operation("rerank", model_in="body", usage="openai.chat")
_POOLING: Final = Operation("embeddings", "", "body", "openai.embeddings")

ENDPOINTS: Final = (
    *compatible(
        "/v1",
        "inject",
        extra=(
            Endpoint("POST", "/responses", RESPONSES),
            Endpoint("GET", "/responses/{id}", RESPONSES_STORED),
            Endpoint("POST", "/responses/{id}/cancel", RESPONSES_STORED),
            Endpoint("POST", "/messages", MESSAGES),
            Endpoint("POST", "/messages/count_tokens", COUNT_TOKENS),
            Endpoint("POST", "/audio/transcriptions", AUDIO),
            Endpoint("POST", "/audio/translations", AUDIO),
        ),
    ),
    Endpoint("POST", "/rerank", RERANK, ("", "/v1", "/v2")),
    Endpoint("POST", "/score", _SCORE, ("", "/v1")),
    Endpoint("POST", "/pooling", _POOLING),
    Endpoint("POST", "/classify", Operation("classify", model_in="body", usage="openai.chat")),
    Endpoint("POST", "/tokenize", _COUNT),
    Endpoint("POST", "/detokenize", _COUNT),
    Endpoint("GET", "/health", Operation("models")),
    Endpoint("GET", "/version", Operation("models")),
    Endpoint("GET", "/ping", Operation("models")),
)

PROVIDER: Final = Provider(
    name="vllm",
    title="vLLM",
    otel_name="vllm",
    hosts=(),
    origin="http://127.0.0.1:8000",
    auth=BEARER,
    slots=COMMON_SLOTS,
    error_dialect="openai",
    endpoints=ENDPOINTS,
    ratelimit="",
    env=("VLLM_API_KEY",),
    needs_config=True,
)
