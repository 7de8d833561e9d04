"""Hosts and prefixes to providers, and which names may receive a credential."""

import re
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider.providers import BUILT_IN
from outrider.providers.registry import Registry, RegistryError, parse_origin, split_host_port
from support import vectors


@dataclass(frozen=True)
class Settings:
    kind: str | None = None
    hosts: tuple[str, ...] = ()
    connect_to: str | None = None
    region: str | None = None
    credential: Any = None
    intercept: bool = True


def problems_of(**settings: Settings) -> tuple[str, ...]:
    with pytest.raises(RegistryError) as caught:
        Registry(settings)
    return caught.value.problems


def name_of(registry: Registry, host: str, port: int = 443) -> str | None:
    binding = registry.by_host(host, port)
    return binding.name if binding else None


BUILT_IN_HOSTS = [
    ("api.openai.com", "openai"),
    ("eu.api.openai.com", "openai"),
    ("api.anthropic.com", "anthropic"),
    ("generativelanguage.googleapis.com", "gemini"),
    ("aiplatform.googleapis.com", "vertex"),
    ("us-central1-aiplatform.googleapis.com", "vertex"),
    ("aiplatform.eu.rep.googleapis.com", "vertex"),
    ("my-resource.openai.azure.com", "azure"),
    ("my-resource.services.ai.azure.com", "azure"),
    ("my-resource.cognitiveservices.azure.com", "azure"),
    ("bedrock-runtime.us-east-1.amazonaws.com", "bedrock"),
    ("bedrock-runtime-fips.us-gov-west-1.amazonaws.com", "bedrock"),
    ("bedrock-agent-runtime.ap-south-1.amazonaws.com", "bedrock"),
    ("api.mistral.ai", "mistral"),
    ("api.cohere.com", "cohere"),
    ("api-inference.together.ai", "together"),
    ("api.moonshot.cn", "moonshot"),
    ("api.groq.com", "groq"),
    ("api.deepseek.com", "deepseek"),
    ("api.x.ai", "xai"),
    ("api.perplexity.ai", "perplexity"),
    ("api.fireworks.ai", "fireworks"),
    ("openrouter.ai", "openrouter"),
    ("router.huggingface.co", "huggingface"),
    ("abc.us-east-1.aws.endpoints.huggingface.cloud", "huggingface"),
    ("api.replicate.com", "replicate"),
    ("api.ai21.com", "ai21"),
    ("API.OpenAI.com.", "openai"),
    ("openai.com", None),
    ("api.openai.com.evil.example", None),
    ("xapi.openai.com", None),
    ("openai.azure.com", None),
    ("evil-openai.azure.com", None),
    ("bedrock-runtime.a.b.amazonaws.com", None),
    ("bedrock-runtime..amazonaws.com", None),
    ("bedrock.us-east-1.amazonaws.com", None),
    ("-aiplatform.googleapis.com", None),
    ("a.b-aiplatform.googleapis.com", None),
    ("127.0.0.1", None),
    ("localhost", None),
    ("", None),
]


@pytest.mark.parametrize(("host", "name"), BUILT_IN_HOSTS)
def test_a_host_belongs_to_the_provider_that_claims_it(host, name):
    assert name_of(Registry({}), host) == name


def test_only_the_default_ports_are_claimed_unless_an_entry_names_one():
    registry = Registry({"local": Settings("openai", ("llm.internal:8443", "[::1]:9000"))})
    assert name_of(registry, "api.openai.com", 80) == "openai"
    assert name_of(registry, "api.openai.com", 8443) is None
    assert name_of(registry, "llm.internal", 8443) == "local"
    assert name_of(registry, "llm.internal", 443) is None
    assert name_of(registry, "::1", 9000) == "local"


def test_self_hosted_providers_exist_only_where_config_names_them():
    assert Registry({}).by_name("ollama") is None
    registry = Registry({"ollama": Settings(), "vllm": Settings(hosts=("gpu.internal:8000",))})
    assert registry.by_name("ollama").connect_to == ("http", "127.0.0.1", 11434)
    assert registry.by_name("ollama").origin == ("http", "127.0.0.1", 11434)
    assert registry.by_name("ollama").credential_hosts == {"127.0.0.1:11434"}
    assert registry.by_name("vllm").origin == ("https", "gpu.internal", 8000)
    assert name_of(registry, "gpu.internal", 8000) == "vllm"


def test_every_other_provider_is_there_without_config():
    registry = Registry({})
    assert set(registry.bindings) == set(BUILT_IN) - {"ollama", "vllm"}
    assert registry.by_name("openai").origin == ("https", "api.openai.com", 443)
    assert registry.by_name("openai").settings is None
    assert registry.by_name("nobody") is None


def test_a_pattern_never_gives_a_right_to_the_credential():
    azure = Registry({"azure": Settings(hosts=("mine.openai.azure.com",), credential=object())}).by_name("azure")
    assert azure.credential_hosts == {"mine.openai.azure.com"}
    assert azure.may_receive_credential("mine.openai.azure.com", 443)
    assert not azure.may_receive_credential("yours.openai.azure.com", 443)
    assert not azure.may_receive_credential("mine.openai.azure.com", 8443)
    assert azure.origin == ("https", "mine.openai.azure.com", 443)


def test_a_region_names_the_one_host_that_is_signed_for():
    bedrock = Registry({"bedrock": Settings(region="eu-west-1", credential=object())}).by_name("bedrock")
    assert bedrock.origin == ("https", "bedrock-runtime.eu-west-1.amazonaws.com", 443)
    assert bedrock.credential_hosts == {"bedrock-runtime.eu-west-1.amazonaws.com"}
    assert Registry({}).by_name("bedrock").origin is None


@pytest.mark.parametrize(
    ("region", "host"),
    [
        ("us-east5", "us-east5-aiplatform.googleapis.com"),
        ("global", "aiplatform.googleapis.com"),
        ("eu", "aiplatform.eu.rep.googleapis.com"),
    ],
)
def test_vertex_regions_have_their_own_hosts(region, host):
    binding = Registry({"vertex": Settings(region=region)}).by_name("vertex")
    assert binding.origin == ("https", host, 443)
    assert host in binding.credential_hosts


def test_a_provider_of_another_name_has_only_the_hosts_of_config():
    registry = Registry({"local": Settings("openai", ("llm.internal",), "http://127.0.0.1:8000")})
    local = registry.by_name("local")
    assert (local.origin, local.connect_to) == (("https", "llm.internal", 443), ("http", "127.0.0.1", 8000))
    assert local.credential_hosts == {"llm.internal"}
    assert local.provider is BUILT_IN["openai"]
    assert name_of(registry, "api.openai.com") == "openai"


def test_a_second_account_is_reached_by_base_url_and_claims_no_host():
    registry = Registry({"team-b": Settings("openai", credential=object())})
    second = registry.by_name("team-b")
    assert second.hosts == ()
    assert second.origin == ("https", "api.openai.com", 443)
    assert second.may_receive_credential("api.openai.com", 443)
    assert name_of(registry, "api.openai.com") == "openai"


def test_a_provider_with_only_an_address_is_reached_there():
    local = Registry({"local": Settings("openai", connect_to="http://127.0.0.1:8000")}).by_name("local")
    assert local.connect_to == ("http", "127.0.0.1", 8000)
    assert local.may_receive_credential(*local.origin[1:])


def test_a_built_in_provider_keeps_its_host_when_config_dials_elsewhere():
    openai = Registry({"openai": Settings(connect_to="http://127.0.0.1:9999")}).by_name("openai")
    assert openai.origin == ("https", "api.openai.com", 443)
    assert openai.connect_to == ("http", "127.0.0.1", 9999)
    assert openai.may_receive_credential("api.openai.com", 443)


def test_an_exact_name_beats_a_pattern_and_a_longer_pattern_a_shorter_one():
    registry = Registry(
        {
            "prod": Settings("azure", ("prod.openai.azure.com",)),
            "team": Settings("azure", ("*.team.openai.azure.com",)),
        }
    )
    assert name_of(registry, "prod.openai.azure.com") == "prod"
    assert name_of(registry, "x.team.openai.azure.com") == "team"
    assert name_of(registry, "other.openai.azure.com") == "azure"


def test_intercept_false_leaves_the_hosts_to_the_egress_rule_and_the_prefix_alive():
    registry = Registry({"openai": Settings(intercept=False)})
    assert name_of(registry, "api.openai.com") is None
    assert registry.by_name("openai").may_receive_credential("api.openai.com", 443)


@pytest.mark.parametrize(
    ("host", "pattern"),
    [
        ("mine.openai.azure.com", "*.openai.azure.com"),
        ("api.openai.com", "api.openai.com"),
        ("us-east5-aiplatform.googleapis.com", "us-east5-aiplatform.googleapis.com"),
        ("bedrock-runtime.us-east-1.amazonaws.com", "bedrock-runtime.us-east-1.amazonaws.com"),
        ("a.us-east-1.aws.endpoints.huggingface.cloud", "*.us-east-1.aws.endpoints.huggingface.cloud"),
        ("nobody.example", "nobody.example"),
    ],
)
def test_one_leaf_serves_a_whole_left_wildcard(host, pattern):
    assert Registry({}).pattern_of(host) == pattern


def test_a_named_host_below_a_wildcard_has_its_own_leaf():
    registry = Registry({"azure": Settings(hosts=("mine.openai.azure.com",))})
    assert registry.pattern_of("mine.openai.azure.com") == "mine.openai.azure.com"
    assert "mine.openai.azure.com" in registry.exact_hosts()
    assert not any("*" in host for host in registry.exact_hosts())


def test_questions_are_remembered_within_a_bound():
    registry = Registry({})
    for number in range(10_000):
        registry.by_host(f"h{number}.example", 443)
    assert len(registry._remembered) <= 4096
    assert name_of(registry, "api.openai.com") == "openai"


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"local": Settings()}, r"providers\.local\.kind: local is not a built-in provider; add kind, one of openai"),
        ({"local": Settings("opnai")}, r"providers\.local\.kind: there is no kind 'opnai'; use one of openai"),
        ({"openai": Settings("azure")}, r"providers\.openai\.kind: openai is built in"),
        ({"v1": Settings("openai")}, r"providers\.v1: 'v1' cannot be a provider's name"),
        ({"Up per": Settings("openai")}, r"providers\.Up per: 'Up per' cannot be a provider's name"),
        ({"openai": Settings(hosts=("https://x",))}, r"providers\.openai\.hosts: 'https://x' is not a host name"),
        ({"openai": Settings(hosts=("*",))}, r"providers\.openai\.hosts: '\*' is not a pattern"),
        ({"openai": Settings(hosts=("*.com",))}, r"'\*\.com' is not a pattern"),
        ({"openai": Settings(hosts=("a.*.com",))}, r"'a\.\*\.com' is not a pattern"),
        ({"openai": Settings(hosts=("a:0",))}, r"'a:0' has a port outside"),
        ({"openai": Settings(hosts=("a:99999",))}, r"'a:99999' has a port outside"),
        ({"openai": Settings(hosts=("",))}, r"'' is not a host name"),
        ({"openai": Settings(connect_to="127.0.0.1:8000")}, r"providers\.openai\.connect_to: .* is not an http"),
        ({"openai": Settings(connect_to="http://h/v1")}, r"may not have a path"),
        ({"openai": Settings(connect_to="http://u:p@h")}, r"may not hold a user or a password"),
        ({"openai": Settings(connect_to="http://h:99999")}, r"is not a URL"),
        ({"bedrock": Settings(region="us.evil.example/")}, r"providers\.bedrock\.region: .* is not a region name"),
        (
            {"a": Settings("openai", ("x.example",)), "b": Settings("openai", ("x.example",))},
            r"providers\.b\.hosts: x\.example is claimed by providers\.a too",
        ),
        (
            {"a": Settings("openai", ("*.x.example",)), "b": Settings("openai", ("*.x.example",))},
            r"providers\.b\.hosts: \*\.x\.example is claimed by providers\.a too",
        ),
        (
            {"openai": Settings(), "b": Settings("openai", ("api.openai.com",))},
            r"providers\.b\.hosts: api\.openai\.com is claimed by providers\.openai too",
        ),
    ],
)
def test_a_mistake_is_one_sentence_that_names_its_key(settings, sentence):
    problems = problems_of(**settings)
    assert len(problems) == 1
    assert re.search(sentence, problems[0])
    assert problems[0].endswith(".")


def test_a_password_in_an_address_is_not_repeated():
    assert "hunter2" not in "".join(problems_of(openai=Settings(connect_to="http://u:hunter2@h")))


def test_all_mistakes_are_told_at_once():
    assert len(problems_of(a=Settings(), b=Settings("nope"), openai=Settings(hosts=("*",), connect_to="x"))) == 4


def test_a_built_in_provider_that_config_does_not_mention_yields_its_host():
    registry = Registry({"mine": Settings("openai", ("api.openai.com", "*.openai.azure.com"))})
    assert name_of(registry, "api.openai.com") == "mine"
    assert name_of(registry, "x.openai.azure.com") == "mine"


def test_a_credential_that_can_go_nowhere_is_a_warning():
    (warning,) = Registry({"azure": Settings(credential=object())}).warnings
    assert warning.startswith("providers.azure: the credential goes to exactly named hosts only")
    (warning,) = Registry({"openai": Settings(region="eu")}).warnings
    assert warning.startswith("providers.openai.region:")


@given(st.text(max_size=80), st.integers(0, 65535))
def test_any_host_gives_an_answer(host, port):
    registry = Registry({})
    registry.by_host(host, port)
    registry.pattern_of(host)


@pytest.mark.parametrize(
    ("entry", "parts"),
    [
        ("a.example", ("a.example", None)),
        ("a.example:8443", ("a.example", 8443)),
        ("[::1]:80", ("::1", 80)),
        ("::1", ("::1", None)),
        ("*.a.example:1", ("*.a.example", 1)),
    ],
)
def test_an_entry_is_a_host_and_perhaps_a_port(entry, parts):
    assert split_host_port(entry) == parts


def test_an_origin_has_its_schemes_default_port():
    assert parse_origin("http://[::1]") == ("http", "::1", 80)
    assert parse_origin("https://h") == ("https", "h", 443)


# Hosts of recorded traffic that no built-in provider claims, and why.
NOBODYS = {
    "127.0.0.1": "Ollama: self-hosted, exists by config",
    "localhost": "vLLM and others: self-hosted, exist by config",
    "api.cloud.llamaindex.ai": "LlamaParse, not an LLM provider",
    "api.dataplatform.cloud.ibm.com": "watsonx is not built in",
    "iam.cloud.ibm.com": "watsonx is not built in",
    "us-south.ml.cloud.ibm.com": "watsonx is not built in",
    "api.portkey.ai": "a gateway, not built in",
    "api.voyageai.com": "Voyage is not built in",
    "api.writer.com": "Writer is not built in",
    "runtime.sagemaker.us-east-1.amazonaws.com": "SageMaker is not built in",
    "streaming-api.svc.us.c.replicate.net": "a stream's own address, which needs no key",
    "a1cf74336522e87f135f-2f21ace9a6cf0052456644b80fa06d4f.ssl.cf2.rackcdn.com": "an image on the web",
}
# recorded kind -> the operations that it may be
KINDS = {
    "openai.chat": {"chat"},
    "openai.responses": {"responses"},
    "openai.completions": {"completions"},
    "openai.embeddings": {"embeddings"},
    "openai.images": {"images"},
    "openai.assistants": {"assistants"},
    "anthropic.messages": {"messages"},
    "gemini.generateContent": {"generate_content"},
    "gemini.streamGenerateContent": {"generate_content"},
    "bedrock.converse": {"converse"},
    "bedrock.converse-stream": {"converse"},
    "bedrock.invoke": {"invoke_model"},
    "bedrock.invoke-stream": {"invoke_model"},
    "cohere.chat": {"chat"},
    "embed": {"embeddings"},
    "generate": {"completions"},
    "rerank": {"rerank"},
    "models": {"models", "embed_content"},  # the recorder files Gemini's batchEmbedContents under models
    "ollama.chat": {"chat"},
    "ollama.generate": {"completions"},
    "replicate.predictions": {"predictions"},
    "other": {
        "agents", "cached_contents", "completions", "guardrail", "interactions", "predictions", "retrieve", "traces",
    },
}  # fmt: skip


def recorded_match(registry: Registry, row: dict[str, Any]):
    """(binding, match) of one recorded request; (None, None) if its host is nobody's."""
    scheme, _, rest = row["url"].partition("#")[0].partition("://")
    authority, slash, tail = rest.partition("/")
    host, port = split_host_port(authority)
    binding = registry.by_host(host, port or (443 if scheme == "https" else 80))
    if binding is None:
        return None, None
    path = (slash + tail).partition("?")[0] or "/"
    return binding, binding.provider.match(row["method"].encode(), path.encode())


def test_every_recorded_request_is_the_operation_that_it_was():
    registry = Registry({"ollama": Settings(hosts=("127.0.0.1:11434",)), "vllm": Settings(hosts=("localhost:8000",))})
    recorded = vectors.rows("exchanges")
    assert len(recorded) == 1164
    seen = 0
    for row in recorded:
        binding, match = recorded_match(registry, row)
        if binding is None:
            host, _ = split_host_port(row["url"].partition("://")[2].partition("/")[0])
            assert host in NOBODYS, row["url"]
            continue
        seen += 1
        assert match.known, (row["method"], row["url"])
        assert match.operation.name in KINDS[row["kind"]], (row["kind"], row["url"], match.operation.name)
    assert seen == 1103
