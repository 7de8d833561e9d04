"""Remembered answers of calls that a name of `models:`, or a rule, leads to other targets: rules judge those first."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.callers import with_keys
from support.remembering import CHAT, WHOLE, App, World, answer, question, remembering

CREDENTIAL = {"credential": {"env": "OPENAI_API_KEY"}}
PROVIDERS: dict[str, Any] = {"local": CREDENTIAL, "one": CREDENTIAL, "two": CREDENTIAL, "near": CREDENTIAL}
FRONT = b"/v1/chat/completions"
NOT_FOR_BOB = {"match": {"provider": "one", "principal": {"id": "bob"}}, "then": "deny"}


class Callers:
    """Two of one team, who share answers."""

    def __init__(self, world: World, shown: dict[str, bytes]) -> None:
        self.world, self.shown = world, shown

    async def asks(self, name: str, app: App, body: bytes, path: bytes = CHAT, host: bytes = b"") -> tuple[int, str]:
        """(status, what the cache said); host: of the provider that is asked, b"" where none is."""
        await app.send(body, self.shown[name], path)
        if host:
            peer = await self.world.called()
            assert b"host: " + host in self.world.asked_head.lower()
            await peer.send(answer({**WHOLE, "id": host.decode()}))
            peer.close()
        await app.answer()
        return app.status, app.said


@asynccontextmanager
async def calling(folder: Path, *rules: dict[str, Any], **sections: Any) -> AsyncIterator[tuple[Callers, App]]:
    known, shown = with_keys(folder, {"ann": "t", "bob": "t"})
    named = [{"id": f"r{at}", "description": f"Rule {at}", **rule} for at, rule in enumerate(rules)]
    (folder / "mine.yaml").write_text(yaml.safe_dump({"rules": named}))
    given = {
        "models": {"smart": {"targets": ["one/m1"]}, "wide": {"targets": ["one/m1", "two/m2"]}},
        **known,
        "policies": [str(folder / "mine.yaml")],
        **sections,
    }
    cache = given.pop("cache", None)
    async with remembering(folder, cache, providers=PROVIDERS, **given) as world:
        yield Callers(world, shown), await world.app()


@pytest.mark.parametrize("path", [CHAT, FRONT])
async def test_who_may_not_use_the_target_is_not_given_its_remembered_answer(tmp_path: Path, path: bytes) -> None:
    async with calling(tmp_path, NOT_FOR_BOB) as (callers, app):
        body = question(model="smart")
        assert await callers.asks("ann", app, body, path, b"one.internal") == (200, "miss")
        assert await callers.asks("ann", app, body, path) == (200, "hit")
        assert (await callers.asks("bob", app, body, path))[0] == 403
        assert b"x-outrider-decision: mine/r0" in app.head


@pytest.mark.parametrize("path", [CHAT, FRONT])
async def test_who_may_use_other_targets_shares_answers_with_those_who_may_use_the_same(
    tmp_path: Path, path: bytes
) -> None:
    async with calling(tmp_path, NOT_FOR_BOB) as (callers, app):
        body = question(model="wide")
        assert await callers.asks("ann", app, body, path, b"one.internal") == (200, "miss")
        assert await callers.asks("bob", app, body, path, b"two.internal") == (200, "miss")
        assert await callers.asks("bob", app, body, path) == (200, "hit")
        assert json.loads(app.body)["id"] == "two.internal"
        assert await callers.asks("ann", app, body, path) == (200, "hit")
        assert json.loads(app.body)["id"] == "one.internal"


async def test_where_a_rule_sends_it_is_judged_before_memory_too(tmp_path: Path) -> None:
    sends = {"match": {"model": "gpt-*"}, "then": {"route": {"provider": "one", "model": "m1"}}}
    async with calling(tmp_path, sends, NOT_FOR_BOB) as (callers, app):
        body = question(model="gpt-9")
        assert await callers.asks("ann", app, body, CHAT, b"one.internal") == (200, "miss")
        assert await callers.asks("ann", app, body) == (200, "hit")
        assert (await callers.asks("bob", app, body))[0] == 403


async def test_what_rules_say_of_the_words_holds_for_an_answer_to_other_words(tmp_path: Path) -> None:
    reads = {"match": {"provider": "one"}, "when": "request.text.contains('Ada')", "then": "deny"}
    semantic = {"provider": "near", "model": "embed-1", "timeout_ms": 20_000}
    async with calling(tmp_path, reads, cache={"semantic": semantic}) as (callers, app):

        async def asks(text: str, host: bytes) -> tuple[int, str]:
            await app.send(question(text, model="wide"), callers.shown["ann"])
            peer = await callers.world.called()
            await peer.send(answer({"data": [{"index": 0, "embedding": [1, 0]}]}))
            peer.close()
            if host:
                peer = await callers.world.called()
                assert b"host: " + host in callers.world.asked_head.lower()
                await peer.send(answer())
                peer.close()
            await app.answer()
            return app.status, app.said

        assert await asks("Who wrote it?", b"one.internal") == (200, "miss")
        assert await asks("Who had written it?", b"") == (200, "semantic")
        assert await asks("Who is Ada?", b"two.internal") == (200, "miss")


@pytest.mark.parametrize("path", [CHAT, FRONT])
async def test_an_alias_need_not_be_allowed_and_its_targets_have_to_be(tmp_path: Path, path: bytes) -> None:
    """Also where the alias is called as a model is, and from memory."""
    models = {"smart": {"targets": ["two/m2", "one/m1"]}, "m2": {"targets": ["two/m2"]}, "m1": {"targets": ["two/m2"]}}
    listed = {"match": {"model": "?*"}, "except": {"model": "m1"}, "then": "deny"}
    async with calling(tmp_path, listed, models=models) as (callers, app):
        body = question(model="smart")
        assert await callers.asks("ann", app, body, path, b"one.internal") == (200, "miss")
        assert await callers.asks("bob", app, body, path) == (200, "hit")
        for name in ("m2", "m1"):
            assert (await callers.asks("ann", app, question(model=name), path))[0] == 403
            assert b"x-outrider-decision: mine/r0" in app.head


async def test_a_rule_may_refuse_an_alias_by_its_name(tmp_path: Path) -> None:
    async with calling(tmp_path, {"match": {"model": "smart"}, "then": "deny"}) as (callers, app):
        assert (await callers.asks("ann", app, question(model="smart")))[0] == 403
        assert await callers.asks("ann", app, question(model="wide"), CHAT, b"one.internal") == (200, "miss")
