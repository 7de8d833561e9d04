"""Where a call goes that was not addressed to its provider, judged by the provider's own table."""

from types import SimpleNamespace
from typing import Any

import pytest

from outrider.providers import BUILT_IN
from outrider.providers.places import PREFERRED, dialects_of, place_of
from outrider.providers.registry import Binding, Registry


def settings(**more: Any) -> Any:
    names = {"kind": None, "hosts": (), "connect_to": None, "region": None, "credential": None, "intercept": True}
    return SimpleNamespace(**{**names, "project": None, "api_version": None, **more})


def binding(name: str, **more: Any) -> Binding:
    found = Registry({name: settings(**more)}).by_name(name)
    assert found is not None
    return found


CONFIGURED = {
    "vertex": {"region": "us-east5", "project": "my-project"},
    "bedrock": {"region": "us-east-1"},
    "azure": {"hosts": ("r.openai.azure.com",)},
}
MODELS = ("m-1", "claude-x", "anthropic.claude-3-5-sonnet-20240620-v1:0")


@pytest.mark.parametrize("name", BUILT_IN)
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("stream", [False, True])
def test_every_place_is_what_the_providers_own_table_says_it_is(name: str, model: str, stream: bool) -> None:
    one = binding(name, **CONFIGURED.get(name, {}))
    for dialect in dialects_of(one, model):
        place = place_of(one, dialect, model, stream=stream)
        if place is None:
            assert stream, "what is served is served whole at least"
            continue
        found = one.provider.match(b"POST", place.path.partition("?")[0].encode())
        assert found.known, place.path
        assert found.operation == place.operation
        assert found.operation.dialect == dialect
        assert found.model in (None, model)
        if stream and dialect != "replicate.predictions":  # whose answers come whole
            assert found.operation.stream, place.path


@pytest.mark.parametrize(
    ("name", "more", "dialect", "model", "stream", "path"),
    [
        ("openai", {}, "openai.chat", "gpt-5", True, "/v1/chat/completions"),
        ("groq", {}, "openai.chat", "llama", False, "/openai/v1/chat/completions"),
        ("gemini", {}, "gemini.generate", "models/gemini-2.5-pro", True,
         "/v1beta/models/gemini-2.5-pro:streamGenerateContent?alt=sse"),
        ("gemini", {}, "gemini.generate", "tunedModels/ours-1", False,
         "/v1beta/tunedModels/ours-1:generateContent"),
        ("azure", {"hosts": ("r.openai.azure.com",), "api_version": "2024-10-21"}, "openai.chat", "models/d", False,
         "/openai/deployments/models%2Fd/chat/completions?api-version=2024-10-21"),
        ("bedrock", {"region": "us-east-1"}, "bedrock.converse",
         "arn:aws:bedrock:us-east-1:1:inference-profile/x", True,
         "/model/arn%3Aaws%3Abedrock%3Aus-east-1%3A1%3Ainference-profile%2Fx/converse-stream"),
        ("vertex", {"region": "us-east5", "project": "p-1"}, "anthropic.messages", "claude-sonnet-4@1", True,
         "/v1/projects/p-1/locations/us-east5/publishers/anthropic/models/claude-sonnet-4%401:streamRawPredict"),
        ("vertex", {"region": "us-east5", "project": "p-1"}, "gemini.generate", "gemini-2.5-pro", False,
         "/v1/projects/p-1/locations/us-east5/publishers/google/models/gemini-2.5-pro:generateContent"),
        ("vertex", {"region": "us-east5", "project": "p-1"}, "anthropic.count_tokens", "claude-x", False,
         "/v1/projects/p-1/locations/us-east5/publishers/anthropic/models/count-tokens:rawPredict"),
        ("openai", {}, "openai.input_tokens", "gpt-5", False, "/v1/responses/input_tokens"),
        ("azure", {"hosts": ("r.openai.azure.com",)}, "openai.chat", "d", False, "/openai/v1/chat/completions"),
        ("azure", {"hosts": ("r.openai.azure.com",), "api_version": "2024-10-21"}, "openai.chat", "d/../e", False,
         "/openai/deployments/d%2F..%2Fe/chat/completions?api-version=2024-10-21"),
        ("azure", {"hosts": ("r.openai.azure.com",), "api_version": "preview"}, "openai.responses", "d", True,
         "/openai/responses?api-version=preview"),
        ("cohere", {}, "cohere.chat", "command-a", True, "/v2/chat"),
        ("cohere", {}, "cohere.embed", "embed-v4.0", False, "/v2/embed"),
        ("cohere", {}, "cohere.rerank", "rerank-v3.5", False, "/v2/rerank"),
    ],
)  # fmt: skip
def test_a_place_has_its_providers_path(
    name: str, more: dict[str, Any], dialect: str, model: str, stream: bool, path: str
) -> None:
    place = place_of(binding(name, **more), dialect, model, stream=stream)
    assert place is not None
    assert place.path == path


def test_vertex_without_a_project_and_a_dialect_that_is_not_served_have_no_place() -> None:
    assert place_of(binding("vertex", region="us-east5"), "gemini.generate", "m", stream=False) is None
    assert place_of(binding("anthropic"), "openai.chat", "m", stream=False) is None


def test_anthropic_on_vertex_wants_its_version_in_the_body_and_the_model_in_the_path_alone() -> None:
    place = place_of(binding("vertex", region="eu", project="p-1"), "anthropic.messages", "claude-x", stream=False)
    assert place is not None
    assert (dict(place.body), place.drop) == ({"anthropic_version": "vertex-2023-10-16"}, ("model",))


def test_claude_at_bedrock_takes_anthropics_own_body_from_those_who_speak_it() -> None:
    one = binding("bedrock", region="us-east-1")
    for model in ("us.anthropic.claude-x", "arn:aws:bedrock:us-east-1:1:inference-profile/eu.anthropic.claude-x"):
        assert dialects_of(one, model, "anthropic.messages") == ("bedrock.invoke", "bedrock.converse")
        assert dialects_of(one, model, "openai.chat") == ("bedrock.converse", "bedrock.invoke")
    for model in ("amazon.nova-pro-v1:0", "anthropic.claude-v2:1", "anthropic.claude-instant-v1"):
        assert dialects_of(one, model, "anthropic.messages") == ("bedrock.converse", "bedrock.invoke")


def test_an_imitation_is_never_preferred_to_the_real_thing() -> None:
    for name, dialects in PREFERRED.items():
        one = binding(name, **CONFIGURED.get(name, {}))
        assert dialects_of(one, "m") == dialects


def test_a_base_path_stands_before_every_path_and_nothing_beside_it_is_known() -> None:
    one = binding("pod", kind="openai", hosts=("api.runpod.ai",), base_path="/v2/abc/openai")
    place = place_of(one, "openai.chat", "m", stream=False)
    assert place is not None
    assert place.path == "/v2/abc/openai/v1/chat/completions"
    assert one.match(b"POST", b"/v2/abc/openai/v1/chat/completions").operation.dialect == "openai.chat"
    for elsewhere in (b"/v1/chat/completions", b"/v2/abc/openaiv1/chat/completions", b"/v2/other/openai/v1/models"):
        assert not one.match(b"POST", elsewhere).known


@pytest.mark.parametrize(
    ("name", "path", "model", "other"),
    [
        ("gemini", "/v1beta/models/ours:generateContent", "g-2", "/v1beta/models/g-2:generateContent"),
        ("gemini", "/v1/models/ours:generateContent", "models/g-2", "/v1/models/g-2:generateContent"),
        ("gemini", "/v1beta/models/ours:countTokens", "tunedModels/t", "/v1beta/tunedModels/t:countTokens"),
        ("gemini", "/v1beta/tunedModels/ours:countTokens", "models/g-2", "/v1beta/models/g-2:countTokens"),
        ("gemini", "/v1beta/tunedModels/ours:countTokens", "t", "/v1beta/tunedModels/t:countTokens"),
        ("gemini", "/v1beta/models/ours:countTokens", "a/../b?c", "/v1beta/models/a%2F..%2Fb%3Fc:countTokens"),
        ("vertex", "/v1/projects/p-1/locations/eu/publishers/google/models/ours:generateContent", "models/g-2",
         "/v1/projects/p-1/locations/eu/publishers/google/models/g-2:generateContent"),
        ("bedrock", "/model/ours/converse", "arn:a/b", "/model/arn%3Aa%2Fb/converse"),
        ("huggingface", "/hf-inference/models/o/urs/v1/chat/completions", "models/a",
         "/hf-inference/models/models/a/v1/chat/completions"),
        ("azure", "/openai/deployments/ours/embeddings", "models/d", "/openai/deployments/models%2Fd/embeddings"),
        ("openai", "/v1/chat/completions", "m", None),
        ("gemini", "/v1beta/models//ours:generateContent", "g-2", None),
    ],
)  # fmt: skip
@pytest.mark.parametrize("base", [None, "/gateway/x"])
def test_the_path_of_a_call_takes_the_name_of_another_model(
    name: str, path: str, model: str, other: str | None, base: str | None
) -> None:
    one = binding("pod", kind=name, hosts=("pod.example",), base_path=base)
    asked, expected = (base or "") + path, None if other is None else (base or "") + other
    assert one.with_model(b"POST", asked.encode(), model) == (None if expected is None else expected.encode())
    if base is not None:
        assert one.with_model(b"POST", path.encode(), model) is None, "it is not below the base path"
