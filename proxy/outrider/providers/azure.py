"""Azure OpenAI and Azure AI Foundry.

Source: learn.microsoft.com/azure/ai-foundry/openai/reference and .../api-version-lifecycle; openai (lib/azure.py).
Classic paths name a deployment (`/openai/deployments/{deployment}/...?api-version=`), the v1 API has OpenAI's own paths
under `/openai/v1`; Foundry resources add `/models/...` and Anthropic's API under `/anthropic`. The deployment is what
stands as model: only the account knows which model is behind it. Anyone can own a name under these suffixes, so a
credential needs the resource's exact host in config.
"""

from dataclasses import replace
from typing import Final

from outrider.providers import anthropic, openai
from outrider.providers.model import COMMON_HEADERS, Auth, Endpoint, Operation, Provider, Slots

_DEPLOYED: Final = ("/chat/completions", "/completions", "/embeddings", "/audio/", "/images/")
_RERANK: Final = Operation("rerank", model_in="body")


def _deployment_rows() -> tuple[Endpoint, ...]:
    rows = [row for row in openai.INFERENCE if row.methods == "POST" and row.template.startswith(_DEPLOYED)]
    return tuple(
        Endpoint("POST", "/openai/deployments/{model}" + row.template, replace(row.operation, model_in="path"))
        for row in rows
        if "{" not in row.template
    )


ENDPOINTS: Final = (
    *_deployment_rows(),
    # Tried before the resource paths, so that `/openai/v1` is never read as a resource.
    *openai.under(openai.WITHOUT_ADMIN, "/openai/v1"),
    *openai.under(openai.WITHOUT_ADMIN, "/openai"),
    Endpoint("POST", "/openai/realtimeapi/sessions", openai.EPHEMERAL_KEY),
    Endpoint("GET", "/openai/deployments", openai.MODELS),
    Endpoint("GET", "/openai/deployments/{id}", openai.MODELS),
    Endpoint("POST", "/models/chat/completions", openai.chat("inject")),
    Endpoint("POST", "/models/embeddings", openai.EMBEDDINGS),
    Endpoint("POST", "/models/images/embeddings", openai.EMBEDDINGS),
    Endpoint("GET", "/models/info", openai.MODELS),
    Endpoint("POST", "/anthropic/v1/messages", anthropic.MESSAGES),
    Endpoint("POST", "/anthropic/v1/messages/count_tokens", anthropic.COUNT_TOKENS),
    Endpoint("POST", "/providers/cohere/v2/rerank", _RERANK),
)

PROVIDER: Final = Provider(
    name="azure",
    title="Azure OpenAI",
    otel_name="azure.ai.openai",
    hosts=(
        "*.openai.azure.com",
        "*.services.ai.azure.com",
        "*.cognitiveservices.azure.com",
        "*.openai.azure.us",
        "*.openai.azure.cn",
    ),
    origin="",
    auth=Auth("header", "api-key"),
    slots=Slots(
        (*COMMON_HEADERS, "ocp-apim-subscription-key"),
        ("api-key", "subscription-key"),
        ("openai-insecure-api-key.",),
    ),
    error_dialect="openai",
    endpoints=ENDPOINTS,
    ratelimit="openai",
    env=("AZURE_OPENAI_API_KEY", "AZURE_OPENAI_AD_TOKEN"),
)
