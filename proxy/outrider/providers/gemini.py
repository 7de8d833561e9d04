"""Google Gemini API (AI Studio).

Source: google-genai (models.py, files.py, caches.py, batches.py, live.py) and ai.google.dev/api. A stream is SSE with
`?alt=sse` and a JSON array without: `stream` names the first, the content type of the answer decides.
google-genai asks `/v1` instead of `/v1beta` when its base URL is custom, so each row stands under every version.
"""

from typing import Final

from outrider.providers.model import COMMON_HEADERS, Auth, Endpoint, Operation, Provider, Slots
from outrider.providers.openai import EMBEDDINGS, IMAGES, chat

GENERATE: Final = Operation("generate_content", "gemini.generate", "path", "gemini.generate")
STREAM: Final = Operation("generate_content", "gemini.generate", "path", "gemini.generate", "sse", "sent")
EMBED: Final = Operation("embed_content", "gemini.embed", "path", "gemini.embed")
COUNT: Final = Operation("count_tokens", "gemini.count_tokens", "path")
BATCH: Final = Operation("batches", model_in="path")
PREDICT: Final = Operation("predict", "google.predict", "path", "google.predict")
INTERACTIONS: Final = Operation("interactions", "gemini.interactions", "body", "gemini.interactions", "sse", "sent")
_LIVE_SERVICE: Final = "/ws/google.ai.generativelanguage.{id}.GenerativeService.BidiGenerateContent"
_FILES: Final = Operation("files")
_CACHES: Final = Operation("cached_contents")
_VERSIONS: Final = ("/v1beta", "/v1", "/v1alpha")
_ANY: Final = "GET POST PATCH DELETE"

# verb -> operation; the same verbs serve models/, tunedModels/ and (on Vertex) endpoints/.
VERBS: Final = {
    "generateContent": GENERATE,
    "streamGenerateContent": STREAM,
    "embedContent": EMBED,
    "batchEmbedContents": EMBED,
    "asyncBatchEmbedContent": BATCH,
    "countTokens": COUNT,
    "computeTokens": COUNT,
    "batchGenerateContent": BATCH,
    "predict": PREDICT,
    "predictLongRunning": Operation("videos", model_in="path"),
    "fetchPredictOperation": Operation("operations", model_in="path"),
    "generateAnswer": Operation("generate_answer", model_in="path"),
}


def _rows() -> tuple[Endpoint, ...]:
    models = Operation("models")
    rows = [Endpoint("POST", f"/models/{{model}}:{verb}", operation) for verb, operation in VERBS.items()]
    rows += [Endpoint("POST", f"/{{tuned}}:{verb}", operation) for verb, operation in VERBS.items()]
    rows += [
        Endpoint("GET", "/models", models),
        Endpoint("GET", "/models/{model}", models),
        Endpoint("GET POST", "/tunedModels", Operation("fine_tuning")),
        Endpoint(_ANY, "/tunedModels/**", Operation("fine_tuning")),
        Endpoint("POST", "/interactions", INTERACTIONS),
        Endpoint("GET DELETE POST", "/interactions/**", Operation("interactions_stored")),
        Endpoint("GET POST", "/cachedContents", _CACHES),
        Endpoint("GET PATCH DELETE", "/cachedContents/{id}", _CACHES),
        Endpoint("GET POST", "/files", _FILES),
        Endpoint("GET DELETE", "/files/{id}", _FILES),
        Endpoint("GET", "/files/{id}:download", _FILES),
        Endpoint("POST", "/files:register", _FILES),
        Endpoint("GET POST", "/fileSearchStores", Operation("vector_stores")),
        Endpoint(_ANY, "/fileSearchStores/**", Operation("vector_stores")),
        Endpoint("GET POST", "/corpora", Operation("vector_stores")),
        Endpoint(_ANY, "/corpora/**", Operation("vector_stores")),
        Endpoint("GET", "/batches", BATCH),
        Endpoint("GET POST DELETE", "/batches/**", BATCH),
        Endpoint("GET", "/operations/**", Operation("operations")),
        Endpoint("POST", "/auth_tokens", Operation("client_secrets", mints_secrets=True)),
        Endpoint("POST", "/openai/chat/completions", chat("inject", "google.openai")),
        Endpoint("POST", "/openai/embeddings", EMBEDDINGS),
        Endpoint("POST", "/openai/images/generations", IMAGES),
        Endpoint("GET", "/openai/models", models),
        Endpoint("GET", "/openai/models/{model*}", models),
    ]
    tuned = [
        Endpoint(row.methods, row.template.replace("/{tuned}", "/tunedModels/{model}"), row.operation, _VERSIONS)
        for row in rows
    ]
    uploads = [
        Endpoint("POST", "/files", _FILES, tuple("/upload" + version for version in _VERSIONS)),
        Endpoint("POST", "/fileSearchStores/**", _FILES, tuple("/upload" + version for version in _VERSIONS)),
        Endpoint("GET", _LIVE_SERVICE, Operation("realtime")),
    ]
    return (*tuned, *uploads)


PROVIDER: Final = Provider(
    name="gemini",
    title="Google Gemini",
    otel_name="gcp.gemini",
    hosts=("generativelanguage.googleapis.com",),
    origin="https://generativelanguage.googleapis.com",
    auth=Auth("header", "x-goog-api-key"),
    slots=Slots(COMMON_HEADERS, ("key", "access_token", "oauth_token", "$key", "$access_token")),
    error_dialect="google",
    endpoints=_rows(),
    ratelimit="",
    env=("GOOGLE_API_KEY", "GEMINI_API_KEY"),
)
