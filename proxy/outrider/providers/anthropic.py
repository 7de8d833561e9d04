"""Anthropic.

Source: the paths of the anthropic Python SDK (resources/) and docs.anthropic.com/en/api. The key may stand in x-api-key
or, for OAuth and workload identity, in authorization.
"""

from typing import Final

from outrider.providers.model import COMMON_SLOTS, Auth, Endpoint, Operation, Provider
from outrider.providers.openai import chat

MESSAGES: Final = Operation("messages", "anthropic.messages", "body", "anthropic.messages", "sse", "sent")
COUNT_TOKENS: Final = Operation("count_tokens", "anthropic.count_tokens", "body")
_BATCHES: Final = Operation("batches")
_FILES: Final = Operation("files")
_MODELS: Final = Operation("models")
_AGENTS: Final = Operation("agents")
_ADMIN: Final = Operation("admin", mints_secrets=True)
_ANY: Final = "GET POST DELETE PUT PATCH"


def _resource(path: str, operation: Operation) -> tuple[Endpoint, ...]:
    return (Endpoint(_ANY, f"/v1/{path}", operation), Endpoint(_ANY, f"/v1/{path}/**", operation))


ENDPOINTS: Final = (
    Endpoint("POST", "/v1/messages", MESSAGES),
    Endpoint("POST", "/v1/messages/count_tokens", COUNT_TOKENS),
    Endpoint("GET POST", "/v1/messages/batches", _BATCHES),
    Endpoint("GET DELETE", "/v1/messages/batches/{id}", _BATCHES),
    Endpoint("POST", "/v1/messages/batches/{id}/cancel", _BATCHES),
    Endpoint("GET", "/v1/messages/batches/{id}/results", _BATCHES),
    Endpoint("POST", "/v1/complete", Operation("completions", "anthropic.complete", "body", "", "sse", "none")),
    Endpoint("POST", "/v1/chat/completions", chat("inject")),
    Endpoint("GET", "/v1/models", _MODELS),
    Endpoint("GET", "/v1/models/{model}", _MODELS),
    Endpoint("GET POST", "/v1/files", _FILES),
    Endpoint("GET DELETE", "/v1/files/{id}", _FILES),
    Endpoint("GET", "/v1/files/{id}/content", _FILES),
    *_resource("skills", Operation("skills")),
    *_resource("agents", _AGENTS),
    *_resource("sessions", _AGENTS),
    *_resource("environments", _AGENTS),
    *_resource("deployments", _AGENTS),
    *_resource("deployment_runs", _AGENTS),
    *_resource("memory_stores", _AGENTS),
    *_resource("dreams", _AGENTS),
    # Vaults hold credentials, tunnels reveal tokens, user profiles hand out enrolment links, organizations mint keys.
    *_resource("vaults", _ADMIN),
    *_resource("tunnels", _ADMIN),
    *_resource("user_profiles", _ADMIN),
    Endpoint(_ANY, "/v1/organizations/**", _ADMIN),
    Endpoint("POST", "/v1/oauth/token", _ADMIN),
    Endpoint("POST", "/api/oauth/**", _ADMIN),
)

PROVIDER: Final = Provider(
    name="anthropic",
    title="Anthropic",
    otel_name="anthropic",
    hosts=("api.anthropic.com",),
    origin="https://api.anthropic.com",
    auth=Auth("header", "x-api-key"),
    slots=COMMON_SLOTS,
    error_dialect="anthropic",
    endpoints=ENDPOINTS,
    ratelimit="anthropic",
    env=("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN"),
)
