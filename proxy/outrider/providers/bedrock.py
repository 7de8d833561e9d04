"""AWS Bedrock: the runtime and the agents' runtime.

Source: botocore data (bedrock-runtime, bedrock-agent-runtime). A model id may be an ARN with escaped slashes. The
control plane (bedrock.*, bedrock-agent.*) is not in the table: it is nobody's business here and never gets a
credential.
Bearer keys (AWS_BEARER_TOKEN_BEDROCK) and SigV4 both stand in authorization.
"""

from typing import Final

from outrider.providers import openai
from outrider.providers.model import COMMON_HEADERS, Auth, Endpoint, Operation, Provider, Slots

CONVERSE: Final = Operation("converse", "bedrock.converse", "path", "bedrock.converse")
CONVERSE_STREAM: Final = Operation("converse", "bedrock.converse", "path", "bedrock.converse", "eventstream", "sent")
INVOKE: Final = Operation("invoke_model", "bedrock.invoke", "path", "bedrock.invoke")
INVOKE_STREAM: Final = Operation("invoke_model", "bedrock.invoke", "path", "bedrock.invoke", "eventstream", "sent")
_GUARDRAIL: Final = Operation("guardrail")
_ASYNC: Final = Operation("batches")
_AGENT: Final = Operation("agents", stream="eventstream")
_RETRIEVE: Final = Operation("retrieve", stream="eventstream")

_RUNTIME: Final = (
    Endpoint("POST", "/model/{model%}/converse", CONVERSE),
    Endpoint("POST", "/model/{model%}/converse-stream", CONVERSE_STREAM),
    Endpoint("POST", "/model/{model%}/invoke", INVOKE),
    Endpoint("POST", "/model/{model%}/invoke-with-response-stream", INVOKE_STREAM),
    Endpoint("POST", "/model/{model%}/count-tokens", Operation("count_tokens", model_in="path")),
    Endpoint("POST", "/model/{model%}/invoke-with-bidirectional-stream", Operation("realtime", model_in="path")),
    Endpoint("POST", "/guardrail/{id%}/version/{id}/apply", _GUARDRAIL),
    Endpoint("POST", "/guardrail-checks/invoke", _GUARDRAIL),
    Endpoint("GET POST", "/async-invoke", _ASYNC),
    Endpoint("GET", "/async-invoke/{id%}", _ASYNC),
    Endpoint("POST", "/openai/v1/chat/completions", openai.chat("inject")),
    Endpoint("POST", "/openai/v1/responses", openai.RESPONSES),
    Endpoint("GET", "/openai/v1/models", openai.MODELS),
)

_AGENT_RUNTIME: Final = (
    Endpoint("POST", "/agents/{id%}/agentAliases/{id%}/sessions/{id}/text", _AGENT),
    Endpoint("GET DELETE", "/agents/{id%}/agentAliases/{id%}/memories", _AGENT),
    Endpoint("POST", "/agents/{id}", _AGENT),
    Endpoint("POST", "/flows/{id%}/aliases/{id%}", _AGENT),
    Endpoint("POST", "/knowledgebases/{id%}/retrieve", _RETRIEVE),
    Endpoint("POST", "/retrieveAndGenerate", _RETRIEVE),
    Endpoint("POST", "/retrieveAndGenerateStream", _RETRIEVE),
    Endpoint("POST", "/agenticRetrieveStream", _RETRIEVE),
    Endpoint("POST", "/rerank", Operation("rerank")),
    Endpoint("POST", "/generateQuery", _AGENT),
    Endpoint("POST", "/optimize-prompt", _AGENT),
)

_SIGNED_QUERY: Final = (
    "X-Amz-Algorithm",
    "X-Amz-Credential",
    "X-Amz-Date",
    "X-Amz-Expires",
    "X-Amz-SignedHeaders",
    "X-Amz-Signature",
    "X-Amz-Security-Token",
)

PROVIDER: Final = Provider(
    name="bedrock",
    title="AWS Bedrock",
    otel_name="aws.bedrock",
    hosts=(
        "bedrock-runtime.*.amazonaws.com",
        "bedrock-runtime-fips.*.amazonaws.com",
        "bedrock-runtime.*.api.aws",
        "bedrock-agent-runtime.*.amazonaws.com",
        "bedrock-agent-runtime-fips.*.amazonaws.com",
    ),
    origin="https://bedrock-runtime.{region}.amazonaws.com",
    auth=Auth("sigv4", "bedrock"),
    slots=Slots((*COMMON_HEADERS, "x-amz-date", "x-amz-security-token", "x-amz-content-sha256"), _SIGNED_QUERY),
    error_dialect="aws",
    endpoints=_RUNTIME + _AGENT_RUNTIME,
    ratelimit="",
    env=("AWS_BEARER_TOKEN_BEDROCK", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"),
)
