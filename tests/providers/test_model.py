"""Paths to operations: each provider's table, and what a path may not do to get around it."""
# ruff: noqa: E501  (a table is read by its columns)

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider.dialects.usage import READERS
from outrider.providers import BUILT_IN
from outrider.providers.model import NO_MATCH, UNKNOWN, Endpoint, decode_path

NAMES = [
    "openai",
    "anthropic",
    "gemini",
    "vertex",
    "azure",
    "bedrock",
    "mistral",
    "cohere",
    "together",
    "moonshot",
    "groq",
    "deepseek",
    "xai",
    "perplexity",
    "fireworks",
    "openrouter",
    "huggingface",
    "replicate",
    "ai21",
    "ollama",
    "vllm",
]

ARN = "arn%3Aaws%3Abedrock%3Aus-east-1%3A012345678901%3Ainference-profile%2Fus.anthropic.claude-3-7-sonnet-20250219-v1%3A0"
ARN_DECODED = "arn:aws:bedrock:us-east-1:012345678901:inference-profile/us.anthropic.claude-3-7-sonnet-20250219-v1:0"
LOCATED = "/v1/projects/p-1/locations/us-east5"

# provider, method, path, operation, model, usage reader, stream framing
TABLE = [
    ("openai", "POST", "/v1/chat/completions", "chat", None, "openai.chat", "sse"),
    ("openai", "POST", "/v1/responses", "responses", None, "openai.responses", "sse"),
    ("openai", "GET", "/v1/responses/resp_1", "responses_stored", None, "", ""),
    ("openai", "POST", "/v1/completions", "completions", None, "openai.chat", "sse"),
    ("openai", "POST", "/v1/embeddings", "embeddings", None, "openai.embeddings", ""),
    ("openai", "GET", "/v1/models", "models", None, "", ""),
    ("openai", "GET", "/v1/models/gpt-5", "models", "gpt-5", "", ""),
    ("openai", "GET", "/v1/models/ft:gpt-4o:org::id", "models", "ft:gpt-4o:org::id", "", ""),
    ("openai", "POST", "/v1/files", "files", None, "", ""),
    ("openai", "GET", "/v1/files/file-1/content", "files", None, "", ""),
    ("openai", "POST", "/v1/threads/t_1/runs", "assistants", None, "openai.chat", "sse"),
    ("openai", "GET", "/v1/threads/t_1/runs/r_1", "assistants", None, "", ""),
    ("openai", "GET", "/v1/realtime", "realtime", None, "", ""),
    ("openai", "POST", "/v1/realtime/client_secrets", "client_secrets", None, "", ""),
    ("openai", "POST", "/v1/organization/admin_api_keys", "admin", None, "", ""),
    ("anthropic", "POST", "/v1/messages", "messages", None, "anthropic.messages", "sse"),
    ("anthropic", "POST", "/v1/messages/count_tokens", "count_tokens", None, "", ""),
    ("anthropic", "GET", "/v1/messages/batches/b_1/results", "batches", None, "", ""),
    ("anthropic", "POST", "/v1/organizations/api_keys/k", "admin", None, "", ""),
    ("gemini", "POST", "/v1beta/models/gemini-2.5-pro:generateContent", "generate_content", "gemini-2.5-pro", "gemini.generate", ""),
    ("gemini", "POST", "/v1/models/gemini-2.5-pro:streamGenerateContent", "generate_content", "gemini-2.5-pro", "gemini.generate", "sse"),
    ("gemini", "POST", "/v1beta/tunedModels/mine-1:generateContent", "generate_content", "mine-1", "gemini.generate", ""),
    ("gemini", "POST", "/v1beta/models/gemini-embedding-001:batchEmbedContents", "embed_content", "gemini-embedding-001", "gemini.embed", ""),
    ("gemini", "POST", "/v1beta/models/g:countTokens", "count_tokens", "g", "", ""),
    ("gemini", "POST", "/v1beta/openai/chat/completions", "chat", None, "google.openai", "sse"),
    ("gemini", "POST", "/upload/v1beta/files", "files", None, "", ""),
    ("gemini", "POST", "/v1alpha/auth_tokens", "client_secrets", None, "", ""),
    ("vertex", "POST", f"{LOCATED}/publishers/google/models/gemini-2.5-pro:generateContent", "generate_content", "gemini-2.5-pro", "gemini.generate", ""),
    ("vertex", "POST", "/v1beta1/publishers/google/models/gemini-2.5-pro:streamGenerateContent", "generate_content", "gemini-2.5-pro", "gemini.generate", "sse"),
    ("vertex", "POST", f"{LOCATED}/publishers/anthropic/models/claude-sonnet-4@20250514:rawPredict", "messages", "claude-sonnet-4@20250514", "anthropic.messages", ""),
    ("vertex", "POST", f"{LOCATED}/publishers/anthropic/models/claude-sonnet-4@20250514:streamRawPredict", "messages", "claude-sonnet-4@20250514", "anthropic.messages", "sse"),
    ("vertex", "POST", f"{LOCATED}/publishers/anthropic/models/count-tokens:rawPredict", "count_tokens", None, "", ""),
    ("vertex", "POST", f"{LOCATED}/publishers/mistralai/models/mistral-large:rawPredict", "chat", "mistral-large", "openai.chat", "sse"),
    ("vertex", "POST", f"{LOCATED}/endpoints/openapi/chat/completions", "chat", None, "google.openai", "sse"),
    ("azure", "POST", "/openai/deployments/my-gpt/chat/completions", "chat", "my-gpt", "openai.chat", "sse"),
    ("azure", "POST", "/openai/deployments/emb/embeddings", "embeddings", "emb", "openai.embeddings", ""),
    ("azure", "POST", "/openai/v1/chat/completions", "chat", None, "openai.chat", "sse"),
    ("azure", "POST", "/openai/v1/responses", "responses", None, "openai.responses", "sse"),
    ("azure", "POST", "/openai/responses", "responses", None, "openai.responses", "sse"),
    ("azure", "POST", "/models/chat/completions", "chat", None, "openai.chat", "sse"),
    ("azure", "POST", "/anthropic/v1/messages", "messages", None, "anthropic.messages", "sse"),
    ("bedrock", "POST", "/model/amazon.nova-lite-v1%3A0/converse", "converse", "amazon.nova-lite-v1:0", "bedrock.converse", ""),
    ("bedrock", "POST", "/model/amazon.nova-lite-v1:0/converse-stream", "converse", "amazon.nova-lite-v1:0", "bedrock.converse", "eventstream"),
    ("bedrock", "POST", f"/model/{ARN}/invoke", "invoke_model", ARN_DECODED, "bedrock.invoke", ""),
    ("bedrock", "POST", f"/model/{ARN}/invoke-with-response-stream", "invoke_model", ARN_DECODED, "bedrock.invoke", "eventstream"),
    ("bedrock", "POST", "/guardrail/g1/version/1/apply", "guardrail", None, "", ""),
    ("mistral", "POST", "/v1/fim/completions", "completions", None, "openai.chat", "sse"),
    ("cohere", "POST", "/v2/chat", "chat", None, "cohere.chat", "sse"),
    ("cohere", "POST", "/v1/chat", "chat", None, "cohere.chat_v1", "ndjson"),
    ("cohere", "POST", "/v2/embed", "embeddings", None, "cohere.meta", ""),
    ("groq", "POST", "/openai/v1/chat/completions", "chat", None, "openai.chat", "sse"),
    ("deepseek", "POST", "/chat/completions", "chat", None, "openai.chat", "sse"),
    ("deepseek", "POST", "/beta/chat/completions", "chat", None, "openai.chat", "sse"),
    ("perplexity", "POST", "/chat/completions", "chat", None, "openai.chat", "sse"),
    ("fireworks", "POST", "/inference/v1/chat/completions", "chat", None, "openai.chat", "sse"),
    ("fireworks", "POST", "/v1/accounts/a/users/u/apiKeys", "admin", None, "", ""),
    ("openrouter", "POST", "/api/v1/chat/completions", "chat", None, "openai.chat", "sse"),
    ("openrouter", "POST", "/api/v1/keys", "admin", None, "", ""),
    ("huggingface", "POST", "/v1/chat/completions", "chat", None, "openai.chat", "sse"),
    ("huggingface", "POST", "/hf-inference/models/org/name/v1/chat/completions", "chat", "org/name", "openai.chat", "sse"),
    ("huggingface", "POST", "/", "completions", None, "", "sse"),
    ("replicate", "POST", "/v1/models/meta/llama-2-70b-chat/predictions", "predictions", "meta/llama-2-70b-chat", "replicate.predictions", ""),
    ("ai21", "POST", "/studio/v1/chat/completions", "chat", None, "openai.chat", "sse"),
    ("ollama", "POST", "/api/chat", "chat", None, "ollama.chat", "ndjson"),
    ("ollama", "POST", "/v1/chat/completions", "chat", None, "openai.chat", "sse"),
    ("vllm", "POST", "/v1/chat/completions", "chat", None, "openai.chat", "sse"),
]  # fmt: skip


@pytest.mark.parametrize("row", TABLE, ids=lambda row: f"{row[0]} {row[2]}")
def test_a_path_of_the_table_is_its_operation(row):
    provider, method, path, operation, model, usage, stream = row
    match = BUILT_IN[provider].match(method.encode(), path.encode())
    got = (match.operation.name, match.model, match.operation.usage, match.operation.stream)
    assert match.known
    assert got == (operation, model, usage, stream)


def test_every_provider_of_the_contract_is_built_in_under_its_own_name():
    assert list(BUILT_IN) == NAMES
    assert all(name == provider.name == provider.kind for name, provider in BUILT_IN.items())


UNMATCHED = [
    b"",
    b"v1/chat/completions",
    b"*",
    b"/v1/chat/completions/",
    b"//v1/chat/completions",
    b"/v1//chat/completions",
    b"/v1/./chat/completions",
    b"/v1/chat/../chat/completions",
    b"/v1/chat/%2e%2e/chat/completions",
    b"/v1/chat/.%2E/chat/completions",
    b"/v1/chat/%2e/completions",
    b"/v1/chat%2Fcompletions",
    b"/v1/chat%5ccompletions",
    b"/v1/chat\\completions",
    b"/v1/ch%2561t/completions",
    b"/v1/chat/completions%00",
    b"/v1/chat/completions%",
    b"/v1/chat/completions%4",
    b"/v1/chat/completions%zz",
    b"/v1/chat/completions;x=1",
    b"/v1/chat/completions?x=1",
    b"/v1/chat/completions%3Fx",
    b"/v1/chat/completions#x",
    b"/v1/chat/completions ",
    b"/v1/chat/completions%20",
    b"/v1/chat/completions%0d%0a",
    b"/v1/chat/complet\xc3\xadons",
    b"/v1/chat/complet%C3%ADons",
    b"/V1/Chat/Completions",
    b"/chat/completions",
    b"/openai/v1/chat/completions",
    b"/v1/models/" + b"a" * 9000,
]


@pytest.mark.parametrize("path", UNMATCHED)
def test_a_path_that_two_servers_could_read_differently_matches_nothing(path):
    assert BUILT_IN["openai"].match(b"POST", path) is NO_MATCH
    assert BUILT_IN["openai"].match(b"GET", path) is NO_MATCH


def test_an_escaped_letter_is_the_letter():
    assert BUILT_IN["openai"].match(b"POST", b"/v1/ch%61t/completions").operation.name == "chat"


def test_a_method_that_the_table_does_not_have_is_unknown():
    for method in (b"GET", b"post", b"DELETE", b"\xff", b""):
        assert BUILT_IN["anthropic"].match(method, b"/v1/messages").operation is UNKNOWN


@pytest.mark.parametrize(
    "path",
    [
        b"/model/a%2F..%2Fb/invoke",
        b"/model/..%2Fb/invoke",
        b"/model/%2Fb/invoke",
        b"/model/b%2F/invoke",
        b"/model/a%2F%2Fb/invoke",
        b"/model/a/b/invoke",
        b"/model/a%252Fb/invoke",
        b"/model/a%2Finvoke",
        b"/model//invoke",
        b"/model/" + b"a" * 2049 + b"/invoke",
    ],
)
def test_slashes_in_a_bedrock_model_cannot_move_the_match(path):
    assert not BUILT_IN["bedrock"].match(b"POST", path).known


def test_an_encoded_slash_is_allowed_only_where_the_table_says_so():
    assert not BUILT_IN["azure"].match(b"POST", b"/openai/deployments/a%2Fb/chat/completions").known
    assert not BUILT_IN["gemini"].match(b"POST", b"/v1beta/models/a%2Fb:generateContent").known


def test_a_gemini_verb_that_is_not_known_is_unknown():
    assert not BUILT_IN["gemini"].match(b"POST", b"/v1beta/models/gemini-2.5-pro:exfiltrate").known


def test_an_azure_v1_path_is_never_a_deployment():
    assert BUILT_IN["azure"].match(b"POST", b"/openai/v1/chat/completions").model is None


@given(st.binary(max_size=200), st.sampled_from(NAMES))
def test_garbage_gives_a_match_and_nothing_else(path, name):
    match = BUILT_IN[name].match(b"POST", path)
    assert match.known == (match.operation is not UNKNOWN)


@given(st.text(alphabet="abc/.%2fFeE5c0:", max_size=60))
def test_a_decoded_path_has_no_dot_segments_no_empty_ones_and_no_escapes(text):
    decoded = decode_path(b"/" + text.encode())
    if decoded is None:
        return
    *whole, last = decoded[1:].replace("\x00", "/").split("/")
    assert "%" not in decoded
    assert not {"", ".", ".."} & set(whole)
    assert last not in (".", "..")


def _rows():
    return [(provider.name, row) for provider in BUILT_IN.values() for row in provider.endpoints]


@pytest.mark.parametrize("name", NAMES)
def test_every_row_can_be_reached(name):
    """A row behind a broader one would never match: each row's own example must come back as an operation of that name."""
    for row in BUILT_IN[name].endpoints:
        for prefix in row.prefixes:
            path = (prefix + row.template).replace("/**", "/x").replace("{model*}", "m1").replace("%}", "}")
            path = path.replace("{model}", "m1").replace("{id}", "i1")
            for method in row.methods.split():
                match = BUILT_IN[name].match(method.encode(), path.encode())
                assert match.operation == row.operation, (name, method, path)


def test_every_usage_reader_named_in_a_table_exists():
    named = {row.operation.usage for _, row in _rows() if row.operation.usage}
    assert named <= READERS.keys()
    assert set(READERS) == named


def test_a_streamed_answer_with_a_reader_says_how_its_usage_comes():
    for name, row in _rows():
        operation = row.operation
        if operation.stream and operation.usage:
            assert operation.stream_usage in ("inject", "sent"), (name, row.template)
        if operation.stream_usage == "inject":
            assert operation.dialect in ("openai.chat", "openai.completions"), (name, row.template)


def test_operations_that_mint_keys_are_marked():
    minting = {(name, row.operation.name) for name, row in _rows() if row.operation.mints_secrets}
    assert {name for _, name in minting} == {"admin", "client_secrets"}
    assert {"openai", "anthropic", "gemini", "azure", "openrouter", "perplexity", "xai", "fireworks", "replicate"} <= {
        provider for provider, _ in minting
    }


def test_every_provider_strips_at_least_the_common_slots_and_its_own():
    for provider in BUILT_IN.values():
        assert {"authorization", "x-api-key", "api-key", "x-goog-api-key"} <= set(provider.slots.headers)
        if provider.auth.kind in ("bearer", "header"):
            assert provider.auth.name in provider.slots.headers
        assert all(header == header.lower() for header in provider.slots.headers)
    assert "key" in BUILT_IN["gemini"].slots.query
    assert "X-Amz-Signature" in BUILT_IN["bedrock"].slots.query


def test_a_provider_has_hosts_or_needs_config_and_says_where_sdks_look_for_its_key():
    for provider in BUILT_IN.values():
        assert bool(provider.hosts) != provider.needs_config
        assert provider.env
        assert not provider.origin.endswith("/")


def test_templates_are_well_formed():
    for name, row in _rows():
        assert isinstance(row, Endpoint)
        assert row.template.startswith("/") or row.prefixes != ("",), name
        assert "?" not in row.template
        assert set(row.methods.split()) <= {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "QUERY"}
