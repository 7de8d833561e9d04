"""Google Vertex AI.

Source: google-genai (vertexai=True), anthropic (lib/vertex), cloud.google.com/vertex-ai/generative-ai/docs. The project
and the location stand in the path; express mode leaves them out and sends an API key. Publishers other than Google
answer in their own dialect under rawPredict and streamRawPredict; of these Anthropic and Mistral are read.
"""

from types import MappingProxyType
from typing import Final

from outrider.providers.gemini import STREAM, VERBS
from outrider.providers.model import BEARER, COMMON_HEADERS, Endpoint, Operation, Provider, Slots
from outrider.providers.openai import chat

_VERSIONS: Final = ("/v1", "/v1beta1")
_LOCATION: Final = "/projects/{id}/locations/{id}"
_MESSAGES: Final = Operation("messages", "anthropic.messages", "path", "anthropic.messages")
_MESSAGES_STREAM: Final = Operation("messages", "anthropic.messages", "path", "anthropic.messages", "sse", "sent")
_COUNT: Final = Operation("count_tokens", "anthropic.count_tokens", "body")
_MISTRAL: Final = Operation("chat", "openai.chat", "path", "openai.chat", "sse", "sent")
_RAW: Final = Operation("predict", "", "path", "", "sse", "none")
_ANY: Final = "GET POST PATCH DELETE"


def _rows() -> tuple[Endpoint, ...]:
    anthropic, mistral = "/publishers/anthropic/models/{model}", "/publishers/mistralai/models/{model}"
    located = [
        Endpoint("POST", "/publishers/anthropic/models/count-tokens:rawPredict", _COUNT),
        Endpoint("POST", f"{anthropic}:rawPredict", _MESSAGES),
        Endpoint("POST", f"{anthropic}:streamRawPredict", _MESSAGES_STREAM),
        Endpoint("POST", f"{mistral}:rawPredict", _MISTRAL),
        Endpoint("POST", f"{mistral}:streamRawPredict", _MISTRAL),
        Endpoint("POST", "/publishers/{id}/models/{model}:rawPredict", _RAW),
        Endpoint("POST", "/publishers/{id}/models/{model}:streamRawPredict", _RAW),
    ]
    for verb, operation in VERBS.items():
        located.append(Endpoint("POST", f"/publishers/google/models/{{model}}:{verb}", operation))
        located.append(Endpoint("POST", f"/endpoints/{{model}}:{verb}", operation))
    located += [
        Endpoint("POST", "/endpoints/{id}/chat/completions", chat("inject", "google.openai")),
        Endpoint("POST", "/endpoints/{model}:serverStreamingPredict", STREAM),
        Endpoint("GET POST", "/cachedContents", Operation("cached_contents")),
        Endpoint(_ANY, "/cachedContents/{id}", Operation("cached_contents")),
        Endpoint("GET POST", "/batchPredictionJobs", Operation("batches")),
        Endpoint(_ANY, "/batchPredictionJobs/{id}", Operation("batches")),
        Endpoint("POST", "/batchPredictionJobs/{id}:cancel", Operation("batches")),
        Endpoint("GET POST", "/tuningJobs", Operation("fine_tuning")),
        Endpoint(_ANY, "/tuningJobs/**", Operation("fine_tuning")),
        Endpoint("GET", "/models", Operation("models")),
        Endpoint("GET", "/models/{model}", Operation("models")),
        Endpoint("GET", "/publishers/google/models/{model}/operations/{id}", Operation("operations")),
        Endpoint("GET", "/operations/{id}", Operation("operations")),
    ]
    located_prefixes = tuple(version + _LOCATION for version in _VERSIONS)
    rows = [Endpoint(row.methods, row.template, row.operation, located_prefixes) for row in located]
    rows += [
        Endpoint("POST", f"/publishers/google/models/{{model}}:{verb}", operation, _VERSIONS)
        for verb, operation in VERBS.items()
    ]
    rows += [
        Endpoint("GET", "/publishers/{id}/models", Operation("models"), _VERSIONS),
        Endpoint("GET", "/publishers/{id}/models/{model}", Operation("models"), _VERSIONS),
        Endpoint("GET", "/ws/google.cloud.aiplatform.{id}.LlmBidiService/BidiGenerateContent", Operation("realtime")),
    ]
    return tuple(rows)


PROVIDER: Final = Provider(
    name="vertex",
    title="Google Vertex AI",
    otel_name="gcp.vertex_ai",
    hosts=("aiplatform.googleapis.com", "*-aiplatform.googleapis.com", "aiplatform.*.rep.googleapis.com"),
    origin="https://{region}-aiplatform.googleapis.com",
    auth=BEARER,
    slots=Slots(COMMON_HEADERS, ("key", "access_token", "oauth_token", "$key", "$access_token")),
    error_dialect="google",
    endpoints=_rows(),
    ratelimit="",
    env=("GOOGLE_API_KEY",),
    regional_origins=MappingProxyType(
        {
            "global": "https://aiplatform.googleapis.com",
            "us": "https://aiplatform.us.rep.googleapis.com",
            "eu": "https://aiplatform.eu.rep.googleapis.com",
        }
    ),
)
