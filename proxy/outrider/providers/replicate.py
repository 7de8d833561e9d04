"""Replicate.

Source: replicate.com/docs/reference/http. Calls of other APIs are served by the predictions of a named model
(dialects.replicate), which are waited for; what an app asks itself is passed on, and polled for: of that no usage is
read, since the answer that begins a prediction does not have it. Streams are fetched from the address in the answer's
`urls.stream`, which holds its own right of access; where that is a name under replicate.net it is nobody's business
here.
"""

from typing import Final

from outrider.providers.model import BEARER, COMMON_SLOTS, Endpoint, Operation, Provider

_PREDICTIONS: Final = Operation("predictions")
_OF_MODEL: Final = Operation("predictions", "replicate.predictions", "path", "replicate.predictions")
_DEPLOYMENTS: Final = Operation("endpoints")
_ROWS: Final = (
    Endpoint("GET POST", "/v1/predictions", _PREDICTIONS),
    Endpoint("GET", "/v1/predictions/{id}", _PREDICTIONS),
    Endpoint("POST", "/v1/predictions/{id}/cancel", _PREDICTIONS),
    Endpoint("POST", "/v1/models/{model*}/predictions", _OF_MODEL),
    Endpoint("POST", "/v1/deployments/{model*}/predictions", Operation("predictions", model_in="path")),
    Endpoint("GET POST QUERY", "/v1/models", Operation("models")),
    Endpoint("GET PATCH DELETE", "/v1/models/{model*}", Operation("models")),
    Endpoint("POST", "/v1/models/{model*}/trainings", Operation("fine_tuning")),
    Endpoint("GET", "/v1/trainings", Operation("fine_tuning")),
    Endpoint("GET POST", "/v1/trainings/**", Operation("fine_tuning")),
    Endpoint("GET POST", "/v1/deployments", _DEPLOYMENTS),
    Endpoint("GET PATCH DELETE", "/v1/deployments/**", _DEPLOYMENTS),
    Endpoint("GET POST", "/v1/files", Operation("files")),
    Endpoint("GET DELETE", "/v1/files/**", Operation("files")),
    Endpoint("GET", "/v1/collections", Operation("models")),
    Endpoint("GET", "/v1/collections/{id}", Operation("models")),
    Endpoint("GET", "/v1/hardware", Operation("models")),
    Endpoint("GET", "/v1/search", Operation("models")),
    Endpoint("GET", "/v1/account", Operation("account")),
    Endpoint("GET", "/v1/webhooks/default/secret", Operation("admin", mints_secrets=True)),
    Endpoint("GET", "/v1/streams/{id}", Operation("predictions", stream="sse")),
    Endpoint("GET", "/v1/files/**", Operation("files")),
)

PROVIDER: Final = Provider(
    name="replicate",
    title="Replicate",
    otel_name="replicate",
    hosts=("api.replicate.com", "stream.replicate.com"),
    origin="https://api.replicate.com",
    auth=BEARER,
    slots=COMMON_SLOTS,
    error_dialect="replicate",
    endpoints=_ROWS,
    ratelimit="",
    env=("REPLICATE_API_TOKEN",),
)
