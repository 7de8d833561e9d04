"""Seven SDKs ask the emulator the same six questions, each in its own dialect, and hear the same."""

import json
from collections.abc import Iterator

import pytest

from outrider.mock import MockProvider
from support.sdks import PIXEL, SDKS, finish_of, opened

KEY = "AKIATESTTESTTESTTEST:a-secret-of-aws"


@pytest.fixture(scope="module")
def mock() -> Iterator[MockProvider]:
    with MockProvider(keys={"bedrock": KEY}, tls=False) as provider:
        yield provider


@pytest.mark.parametrize("name", SDKS)
def test_every_sdk_hears_the_same_from_its_own_provider(name: str, mock: MockProvider) -> None:
    model = SDKS[name].model
    with opened(name, mock.http_url, KEY) as client:
        for kind in ("plain", "stream"):
            said = getattr(client, kind)(model, "hello big world")
            assert (said.text, finish_of(said), said.output_tokens) == ("Echo: hello big world", "stop", 4), kind
            assert said.input_tokens == 4
            assert said.events == (4 if kind == "stream" else 0)
        called = client.tools(model, "get_weather and get_time in Paris?")
        assert [name for name, _ in called.tools] == ["get_weather", "get_time"]
        assert [arguments for _, arguments in called.tools] == [{"city": "Paris"}] * 2
        assert finish_of(called) == "tool_calls"
        seen = client.image(model, "look here")
        assert seen.text == "Echo: look here"
        assert PIXEL.encode() in mock.journal[-1].body
        made = client.structured(model, "I am Ada")
        assert json.loads(made.text) == {"name": "Ada", "age": 1}
        mock.fail(429)
        with pytest.raises(SDKS[name].raises) as failed:
            client.plain(model, "hello")
        assert SDKS[name].status_of(failed.value) == 429
