"""Answers to what was asked in other words: when they are given, and when never."""

import asyncio
import json
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from outrider.mock import MockProvider
from outrider.stack.semantic import vector_of
from support.callers import with_keys
from support.remembering import LAST, STREAM, STREAM_HEAD, WHOLE, App, World, answer, chunk, question, remembering
from support.running import ENVIRON, KEY, client_of, running, settings, total, until

SETTINGS = {"provider": "near", "model": "embed-1", "timeout_ms": 20_000}
CREDENTIAL = {"credential": {"env": "OPENAI_API_KEY"}}
PROVIDERS: dict[str, Any] = {"local": {}, "near": CREDENTIAL}


def at(degrees: float) -> list[float]:
    """A vector; two are as similar as the cosine of what lies between them."""
    return [math.cos(math.radians(degrees)) * 3, math.sin(math.radians(degrees)) * 3]


def embedding(vector: object) -> bytes:
    data = [{"object": "embedding", "index": 0, "embedding": vector}]
    return answer(
        {"object": "list", "data": data, "model": "embed-1", "usage": {"prompt_tokens": 5, "total_tokens": 5}}
    )


@asynccontextmanager
async def finding(
    folder: Path, cache: dict[str, Any] | None = None, providers: dict[str, Any] = PROVIDERS, **sections: Any
) -> AsyncIterator[World]:
    wanted = {**(cache or {}), "semantic": {**SETTINGS, **(cache or {}).get("semantic", {})}}
    async with remembering(folder, wanted, providers=providers, **sections) as world:
        yield world


async def embed(world: World, vector: object) -> None:
    """The next call is for a vector."""
    peer = await world.called()
    assert world.asked_head.startswith(b"POST /v1/embeddings HTTP/1.1\r\n")
    await peer.send(embedding(vector) if not isinstance(vector, bytes) else vector)
    peer.close()


async def reply(world: World, wire: bytes | None = None) -> None:
    """The next call is for the answer."""
    peer = await world.called()
    assert b"/chat/completions" in world.asked_head.split(b"\r\n")[0]
    await peer.send(answer() if wire is None else wire)
    peer.close()


async def fill(world: World, app: App, body: bytes, vector: object, wire: bytes | None = None, **how: Any) -> bytes:
    await app.send(body, **how)
    await embed(world, vector)
    await reply(world, wire)
    got = await app.answer()
    assert app.said == "miss"
    return got


async def ask(world: World, app: App, body: bytes, vector: object) -> str:
    """What the cache says of it; where it is a miss, another answer is given."""
    await app.send(body)
    await embed(world, vector)
    called, answered = asyncio.ensure_future(world.called()), asyncio.ensure_future(app.answer())
    await asyncio.wait((called, answered), return_when=asyncio.FIRST_COMPLETED)
    if called.done():
        peer = await called
        await peer.send(answer({**WHOLE, "id": "other"}))
        peer.close()
    else:
        called.cancel()
        await asyncio.wait((called,))
    await answered
    return app.said


async def test_what_was_asked_in_other_words_gets_the_answer_of_the_words_before(tmp_path: Path) -> None:
    async with finding(tmp_path) as world:
        app = await world.app()
        first = await fill(world, app, question("How do I sort a list?"), at(0))
        assert await ask(world, app, question("How is a list sorted?"), at(10)) == "semantic"
        assert app.body == first
        assert (app.field("x-outrider-similarity"), app.field("age"), app.status) == ("0.9848", "0", 200)
        # Its vector is remembered: the same words are not embedded twice. An exact question asks for no vector.
        calls = world.calls
        await app.ask(question("How is a list sorted?"))
        assert (app.said, app.body) == ("semantic", first)
        await app.ask(question("How do I sort a list?"))
        assert (app.said, world.calls) == ("hit", calls)
        assert (world.counted("semantic"), world.counted("hit"), world.counted("stored")) == (2, 1, 1)
        assert total(world.sidecar, "outrider_cache_saved_tokens_total") == 3 * 42
        # What embedding took is counted, with the model that did it.
        assert total(world.sidecar, "outrider_tokens_total", provider="near") == 10
        assert total(world.sidecar, "outrider_tokens_total", provider="local") == 42


async def test_what_lies_too_far_is_asked_of_the_provider(tmp_path: Path) -> None:
    async with finding(tmp_path, {"semantic": {"threshold": 0.9}}) as world:
        app = await world.app()
        await fill(world, app, question("How do I sort a list?"), at(0))
        assert await ask(world, app, question("How do I lose a list?"), at(26)) == "miss"  # 0.899
        assert await ask(world, app, question("How can I lose a list?"), at(24)) == "semantic"
        assert json.loads(app.body)["id"] == "other"  # the nearer of the two


async def test_the_call_for_a_vector_has_our_credential_and_nothing_of_the_app(tmp_path: Path) -> None:
    async with finding(tmp_path, {"semantic": {"dimensions": 256}}) as world:
        app = await world.app()
        lines = b"authorization: Bearer sk-of-the-app\r\nx-own: secret\r\ncookie: a=b\r\nuser-agent: app\r\n"
        await app.send(question("Is it?"), lines)
        await embed(world, at(0))
        head = world.asked_head.lower()
        assert b"authorization: bearer " + KEY.encode() in head
        assert not any(word in head for word in (b"sk-of-the-app", b"x-own", b"cookie", b"user-agent"))
        assert json.loads(world.asked_body) == {"model": "embed-1", "input": "Is it?", "dimensions": 256}
        await reply(world)
        await app.answer()


DIFFERENT: list[dict[str, Any]] = [
    {"model": "m2"},
    {"seed": 1},
    {"max_tokens": 5},
    {"stream": True},
    {"tools": [{"type": "function", "function": {"name": "f"}}]},
    {"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Why so?"}]},
    {"messages": [{"role": "user", "content": [{"type": "text", "text": "Why so?"}]}]},
    {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"},
                  {"role": "user", "content": "Why so?"}]},
]  # fmt: skip


async def test_what_differs_in_more_than_the_last_words_is_not_compared(tmp_path: Path) -> None:
    async with finding(tmp_path) as world:
        app = await world.app()
        await fill(world, app, question("Why is that?"), at(0))
        for fields in DIFFERENT:
            assert await ask(world, app, question("Why so?", **fields), at(0)) == "miss", fields
        # A field of the head that may change the answer; and numbers, whose vectors lie near each other.
        await app.send(question("Why so?"), b"x-mode: deep\r\n")
        await embed(world, at(0))
        await reply(world)
        await app.answer()
        assert app.said == "miss"
        await fill(world, app, question("What is 17 times 3?"), at(50))
        assert await ask(world, app, question("What is 17 times 4?"), at(50)) == "miss"
        assert await ask(world, app, question("How much is 17 times 4?"), at(50)) == "semantic"
        assert await ask(world, app, question("What for?"), at(0)) == "semantic"


async def test_another_tenant_never_gets_the_answer(tmp_path: Path) -> None:
    named, shown = with_keys(tmp_path, {"a": "a", "b": "b"})
    async with finding(tmp_path, providers={**PROVIDERS, "local": CREDENTIAL}, **named) as world:
        app = await world.app()
        lines = list(shown.values())
        await fill(world, app, question("Who is it?"), at(0), lines=lines[0])
        await fill(world, app, question("Who was it?"), at(0), lines=lines[1])
        await app.send(question("Who may it be?"), lines[1])
        await embed(world, at(1))
        await app.answer()
        assert app.said == "semantic"


NEVER: list[dict[str, Any]] = [
    {"temperature": 0.5},
    {"messages": [{"role": "user", "content": [
        {"type": "text", "text": "What is it?"}, {"type": "image_url", "image_url": {"url": "data:,"}}]}]},
    {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,"}}]},
                  {"role": "assistant", "content": "A cat."}, {"role": "user", "content": "What is it?"}]},
    {"messages": [{"role": "user", "content": "f"},
                  {"role": "assistant", "tool_calls": [{"id": "1", "type": "function", "function": {"name": "f"}}]},
                  {"role": "tool", "tool_call_id": "1", "content": "4"}]},
    {"messages": [{"role": "user", "content": "x" * 5000}]},
    {"messages": [{"role": "user", "content": " "}]},
]  # fmt: skip


@pytest.mark.parametrize("fields", NEVER, ids=range(len(NEVER)))
async def test_what_is_more_than_words_is_not_embedded(tmp_path: Path, fields: dict[str, Any]) -> None:
    async with finding(tmp_path, {"serve": "all"}) as world:
        app = await world.app()
        await world.first(app, question(**fields))
        assert (app.said, world.calls) == ("miss", 1)
        await app.ask(question(**fields))
        assert app.said == "hit"


async def test_a_rule_lets_a_warmer_question_be_answered_so(tmp_path: Path) -> None:
    rules = tmp_path / "rules.yaml"
    rules.write_text(
        "rules:\n  - {id: remember, description: On., when: 'request.model == \"m\"', then: {cache: 'on'}}\n"
        "  - {id: forget, description: Off., when: 'request.model == \"n\"', then: {cache: 'off'}}\n"
    )
    async with finding(tmp_path, policies=[str(rules)]) as world:
        app = await world.app()
        await fill(world, app, question("Why?", temperature=1), at(0))
        assert await ask(world, app, question("What for?", temperature=1), at(3)) == "semantic"
        await world.first(app, question("Why?", model="n"))
        assert app.said == "bypass"


BROKEN = [
    answer({"error": {"message": "no"}}, 500),
    answer({"error": {"message": "no"}}, 401),
    answer(b"no json"),
    answer({"data": []}),
    answer({"data": [{"embedding": [1.0]}, {"embedding": [1.0]}]}),
    embedding([]),
    embedding([0.0, 0.0]),
    embedding(["a"]),
    embedding([True]),
    embedding("AAAA"),
    b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nshort",
    b"nonsense\r\n\r\n",
]


@pytest.mark.parametrize("wire", BROKEN, ids=range(len(BROKEN)))
async def test_an_embedding_that_fails_is_a_plain_miss_and_for_a_second_none_is_asked(
    tmp_path: Path, wire: bytes
) -> None:
    async with finding(tmp_path) as world:
        app = await world.app()
        await fill(world, app, question("Why?"), wire)
        assert world.calls == 2
        await world.first(app, question("What for?"))  # the call for a vector would come first
        assert (app.said, world.calls) == ("miss", 3)
        for event in ("semantic_failed", "semantic_skipped"):
            assert total(world.sidecar, "outrider_events_total", event=event, provider="near") == 1
        assert len(world.state.vectors) == 0


async def test_a_vector_that_is_late_is_not_waited_for(tmp_path: Path) -> None:
    async with finding(tmp_path, {"semantic": {"timeout_ms": 30}}) as world:
        app = await world.app()
        await app.send(question("Why?"))
        silent = await world.called()
        await reply(world)
        await app.answer()
        assert app.said == "miss"
        assert await silent.rest() == b""


async def test_an_app_that_leaves_while_it_waits_takes_the_call_for_its_vector_with_it(tmp_path: Path) -> None:
    async with finding(tmp_path) as world:
        app = await world.app()
        await app.send(question("Why?"))
        silent = await world.called()
        app.peer.close()
        assert await silent.rest() == b""
        await until(lambda: world.sidecar.hub.exchanges == 0, "both were over")
        assert not world.state.flights


async def test_identical_questions_in_flight_share_the_vector_and_the_answer(tmp_path: Path) -> None:
    async with finding(tmp_path) as world:
        apps = [await world.app() for _ in range(4)]
        first = await fill(world, apps[0], question("Why?"), at(0))
        for app in apps:
            await app.send(question("What for?"))
        await embed(world, at(5))
        assert [await app.answer() for app in apps] == [first] * 4
        assert {app.said for app in apps} == {"semantic"}
        assert (world.calls, world.counted("semantic")) == (3, 4)


async def test_what_is_forgotten_is_not_found_by_other_words_either(tmp_path: Path) -> None:
    async with finding(tmp_path) as world:
        app = await world.app()
        await fill(world, app, question("Why?"), at(0))
        assert len(world.state.vectors) == 1
        world.state.invalidate(model="m")
        assert len(world.state.vectors) == 0
        assert await ask(world, app, question("What for?"), at(0)) == "miss"


async def test_an_answer_that_is_too_old_for_other_words_is_renewed(tmp_path: Path) -> None:
    async with finding(tmp_path, {"semantic": {"ttl_s": 60}}) as world:
        app = await world.app()
        await fill(world, app, question("Why?"), at(0))
        (entry,) = [entry for _, entry in world.state.memory.items()]
        entry.at_ns -= 61 * 10**9
        assert await ask(world, app, question("What for?"), at(1)) == "miss"
        await app.ask(question("Why?"))
        assert app.said == "hit"


async def test_a_stream_is_found_by_other_words_and_given_as_it_came(tmp_path: Path) -> None:
    async with finding(tmp_path) as world:
        app = await world.app()
        wire = STREAM_HEAD + b"".join(map(chunk, STREAM)) + LAST
        options = {"stream": True, "stream_options": {"include_usage": True}}
        await fill(world, app, question("Why?", **options), at(0), wire)
        await app.send(question("What for?", **options))
        await embed(world, at(1))
        assert await app.answer() == b"".join(STREAM)
        assert app.said == "semantic"


async def test_questions_are_compared_only_up_to_their_number(tmp_path: Path) -> None:
    async with finding(tmp_path, {"semantic": {"max_entries": 2}}) as world:
        app = await world.app()
        for place, text in enumerate(("a", "b", "c")):
            await fill(world, app, question(text), at(60 * place))
        assert (len(world.state.vectors), len(world.state.memory)) == (2, 3)
        assert await ask(world, app, question("like a"), at(0)) == "miss"


async def test_against_the_mock_the_log_tells_of_the_call_for_the_vector(tmp_path: Path) -> None:
    """Its embeddings are unit vectors that the letters of a text decide, whatever their order."""
    async with MockProvider(tls=False) as mock:
        provider = {"kind": "openai", "hosts": ["llm.internal"], "connect_to": mock.http_url}
        near = {"kind": "openai", "hosts": ["near.internal"], "connect_to": mock.http_url, **CREDENTIAL}
        semantic = {"provider": "near", "model": "text-embedding-3-small", "timeout_ms": 20_000}
        audit = {"audit": {"path": str(tmp_path / "audit.jsonl")}, "log": "off"}
        cache = {"mode": "exact", "semantic": semantic}
        async with running(tmp_path, {"local": provider, "near": near}, cache=cache, telemetry=audit) as sidecar:
            app = App(sidecar, await client_of(sidecar))
            for text in ("now or never", "never or now"):
                await app.ask(question(text, model="gpt-4o"), b"authorization: Bearer sk-own\r\n")
                assert app.status == 200, app.body
            assert app.said == "semantic"
            app.peer.close()
        entries = [json.loads(line) for line in (tmp_path / "audit-0.jsonl").read_text().splitlines()]
        told = [(one["operation"], one.get("cache"), one.get("tags")) for one in entries if one["event"] == "exchange"]
        assert told == [
            ("embeddings", None, ["cache:semantic"]), ("chat", "miss", None),
            ("embeddings", None, ["cache:semantic"]), ("chat", "semantic", None),
        ]  # fmt: skip


async def test_an_answer_that_is_renewed_is_still_found_by_other_words(tmp_path: Path) -> None:
    async with finding(tmp_path, {"ttl_s": 60, "stale_while_revalidate_s": 600}) as world:
        app = await world.app()
        await fill(world, app, question("Why?"), at(0))
        (entry,) = [entry for _, entry in world.state.memory.items()]
        entry.at_ns -= 61 * 10**9
        await app.ask(question("Why?"))
        assert app.said == "stale"
        await reply(world, answer({**WHOLE, "id": "new"}))
        await until(lambda: world.counted("stored") == 2, "it was renewed")
        assert await ask(world, app, question("What for?"), at(1)) == "semantic"
        assert json.loads(app.body)["id"] == "new"


async def test_vectors_go_when_configuration_wants_them_no_more(tmp_path: Path) -> None:
    async with finding(tmp_path) as world:
        app = await world.app()
        await fill(world, app, question("Why?"), at(0))
        state = world.state
        state.find_by_vectors(1)
        assert len(state.vectors) == 1
        state.find_by_vectors(None)
        assert state.vectors is None
        assert state.invalidate() == 1


def test_where_it_asks_has_to_be_configured_and_to_have_embeddings(tmp_path: Path) -> None:
    from outrider.config import ConfigError, load
    from outrider.errors import StartError
    from outrider.providers.registry import Registry
    from outrider.snapshot import embedding_place

    def config(provider: str) -> Any:
        cache = {"mode": "exact", "semantic": {"provider": provider, "model": "m"}}
        return load(settings(tmp_path, {"openai": CREDENTIAL, "anthropic": CREDENTIAL}, cache=cache), ENVIRON)

    with pytest.raises(ConfigError, match="names a provider that is not configured"):
        config("mistral")
    wanted = config("openai")
    binding, place = embedding_place(wanted, Registry(wanted.providers))
    assert (binding.name, place.path) == ("openai", "/v1/embeddings")
    wanted = config("anthropic")
    with pytest.raises(StartError, match="has no embeddings in OpenAI's shape"):
        embedding_place(wanted, Registry(wanted.providers))


def test_only_one_vector_of_finite_numbers_is_one() -> None:
    assert vector_of(b'{"data":[{"embedding":[3,4]}]}') is not None
    for body in (b"", b"[]", b"{}", b'{"data":null}', b'{"data":[1]}', b'{"data":[{"embedding":[1e999]}]}',
                 b'{"data":[{"embedding":[null]}]}', b'{"data":[{"embedding":[1e308,1e308]}]}'):  # fmt: skip
        assert vector_of(body) is None
