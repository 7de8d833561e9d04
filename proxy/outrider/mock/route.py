"""Which provider a request is for: by its Host when that is a provider's own, else by its path.

The table is the mock's own and is not read from the proxy's: a judge that copies the judged finds no mistakes.
"""

import re
from dataclasses import dataclass

_COMPATIBLE = {  # hosts that speak OpenAI's chat API, and where it starts
    "api.mistral.ai": ("mistral", "/v1"),
    "api.together.xyz": ("together", "/v1"),
    "api.together.ai": ("together", "/v1"),
    "api.moonshot.ai": ("moonshot", "/v1"),
    "api.moonshot.cn": ("moonshot", "/v1"),
    "api.groq.com": ("groq", "/openai/v1"),
    "api.deepseek.com": ("deepseek", ""),
    "api.x.ai": ("xai", "/v1"),
    "api.perplexity.ai": ("perplexity", ""),
    "api.fireworks.ai": ("fireworks", "/inference/v1"),
    "openrouter.ai": ("openrouter", "/api/v1"),
    "router.huggingface.co": ("huggingface", "/v1"),
    "api.ai21.com": ("ai21", "/studio/v1"),
}
_BESIDE = {"cohere": "/compatibility/v1", "ollama": "/v1"}  # who has OpenAI's API beside its own, and where it starts
_PATTERNS = tuple(
    (re.compile(pattern), provider)
    for pattern, provider in (
        (r"([a-z]{2}\.)?api\.openai\.com", "openai"),
        (r"api\.anthropic\.com", "anthropic"),
        (r"generativelanguage\.googleapis\.com", "gemini"),
        (r"([a-z0-9-]+-)?aiplatform\.googleapis\.com", "vertex"),
        (r"[^.]+\.(openai\.azure\.com|cognitiveservices\.azure\.com|services\.ai\.azure\.com)", "azure"),
        (r"bedrock-runtime(-fips)?\.[a-z0-9-]+\.amazonaws\.com", "bedrock"),
        (r"ollama\.com", "ollama"),
        (r"api\.cohere\.(com|ai)", "cohere"),
        (r"api\.replicate\.com", "replicate"),
    )
)
_BY_PATH = tuple(
    (re.compile(pattern), provider)
    for pattern, provider in (
        (r"/v1/messages(/|$)", "anthropic"),
        (r"/v1/models/[^/]+/[^/]+/predictions$", "replicate"),
        (r"/v1(beta1?)?/projects/[^/]+/", "vertex"),
        (r"/v1(alpha|beta|)/models/[^/]+:[a-zA-Z]+$", "gemini"),
        (r"/v1beta/", "gemini"),
        (r"/model/", "bedrock"),
        (r"/api/", "ollama"),
        (r"/v2/(chat|embed|rerank)$|/compatibility/v1/", "cohere"),
        (r"/openai/(deployments/|v1/|realtime)", "azure"),
    )
)
_REGIONS = [
    "us-east-1",
    "us-east-2",
    "us-west-2",
    "ca-central-1",
    "eu-west-1",
    "eu-west-2",
    "eu-west-3",
    "eu-central-1",
    "eu-north-1",
    "ap-southeast-1",
    "ap-southeast-2",
    "ap-northeast-1",
    "ap-south-1",
    "sa-east-1",
]

CERTIFICATE_NAMES = (
    "localhost",
    "api.openai.com",
    "*.api.openai.com",
    "api.anthropic.com",
    "*.googleapis.com",
    "*.openai.azure.com",
    "*.cognitiveservices.azure.com",
    "*.services.ai.azure.com",
    *(f"*.{region}.amazonaws.com" for region in _REGIONS),
    *_COMPATIBLE,
    "api.cohere.com",
    "api.cohere.ai",
    "api.replicate.com",
    "api-inference.huggingface.co",
    "ollama.com",
    *(f"{word}.internal" for word in ("llm", "vllm", "ollama")),
)


@dataclass(frozen=True, slots=True)
class Route:
    provider: str
    operation: str  # the path after the provider's prefix
    official: bool  # the host is the provider's own


def find(host: str, path: str) -> Route:
    """The route for a Host header (with or without a port) and a path without its query."""
    name = host.rsplit(":", 1)[0].lower() if not host.endswith("]") else host
    if name in _COMPATIBLE:
        provider, prefix = _COMPATIBLE[name]
        return Route(provider, _without(path, (prefix, "/v1", "/beta")), False)
    provider = next((provider for pattern, provider in _PATTERNS if pattern.fullmatch(name)), "")
    is_official = bool(provider)
    if not is_official:
        provider = next((provider for pattern, provider in _BY_PATH if pattern.match(path)), "openai")
    if speaks_openai(provider, path):
        return Route(provider, path.removeprefix(_BESIDE[provider]), False)
    return Route(provider, _operation(provider, path), is_official)


def speaks_openai(provider: str, path: str) -> bool:
    """Whether this path of a provider that has an API of its own is OpenAI's."""
    return provider in _BESIDE and path.startswith(f"{_BESIDE[provider]}/")


def _operation(provider: str, path: str) -> str:
    if provider == "azure":
        return _without(path, ("/openai/v1",))
    if provider in ("openai", "anthropic"):
        # Without the version there is no such operation: the leading "/-" keeps it from matching one.
        return path.removeprefix("/v1") if path.startswith("/v1/") else f"/-{path}"
    return path


def _without(path: str, prefixes: tuple[str, ...]) -> str:
    return next((path.removeprefix(prefix) for prefix in prefixes if prefix and path.startswith(f"{prefix}/")), path)
