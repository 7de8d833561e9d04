"""Forgetting answers over the admin port: for who shows the token, and for nobody else."""

import json
import os
from pathlib import Path

import pytest

from outrider.admin.token import FILE_NAME, AdminToken
from outrider.runtime import Sidecar
from support.remembering import WHOLE, World, answer, question, remembering
from support.wire import connect

LISTEN = {"proxy": "127.0.0.1:0", "admin": "127.0.0.1:0"}
PATH = b"/api/v1/cache/invalidate"


async def post(
    sidecar: Sidecar, body: object, token: bytes | None, *, method: bytes = b"POST", lines: bytes = b""
) -> tuple[int, bytes]:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    if token is not None:
        lines += b"authorization: Bearer " + token + b"\r\n"
    peer = await connect(sidecar.admin_addresses[0])
    try:
        head = b"%b %b HTTP/1.1\r\nhost: 127.0.0.1:%d\r\ncontent-length: %d\r\n%b\r\n"
        await peer.send(head % (method, PATH, sidecar.admin_addresses[0][1], len(data), lines) + data)
        told, said = await peer.answer()
        return int(told[9:12]), said
    finally:
        peer.close()


def token_of(world: World) -> bytes:
    return (world.sidecar.config.ca.dir / FILE_NAME).read_bytes().strip()


async def test_nothing_is_changed_without_the_token(tmp_path: Path) -> None:
    async with remembering(tmp_path, listen=LISTEN) as world:
        app = await world.app()
        await world.first(app, question())
        token = token_of(world)
        for shown in (None, b"", b"0" * 64, token[:-1], token + b"0", token.upper() + b"!"):
            status, said = await post(world.sidecar, {"all": True}, shown)
            assert (status, token not in said) == (401, True)
        assert (await post(world.sidecar, {"all": True}, token, method=b"GET"))[0] == 405
        assert (await post(world.sidecar, {"all": True}, token, lines=b"origin: https://evil.example\r\n"))[0] == 403
        (world.sidecar.config.ca.dir / FILE_NAME).chmod(0o644)  # whoever reads it could have it
        assert (await post(world.sidecar, {"all": True}, token))[0] == 401
        await app.ask(question())
        assert app.said == "hit"


async def test_answers_are_forgotten_by_key_model_principal_or_all(tmp_path: Path) -> None:
    async with remembering(tmp_path, listen=LISTEN) as world:
        app = await world.app()
        token = token_of(world)

        async def fill() -> None:
            for model in ("m1", "m2"):
                for text in ("a", "b"):
                    await world.first(app, question(text, model=model), answer(WHOLE))

        async def forget(**asked: object) -> int:
            status, said = await post(world.sidecar, asked, token)
            assert status == 200, said
            return int(json.loads(said)["forgotten"])

        await fill()
        key = next(key for key, _ in world.state.memory.items()).hex()
        assert [await forget(key=key), await forget(key=key)] == [1, 0]
        assert await forget(model="m1", principal="somebody") == 0
        assert [await forget(model="m2"), await forget(model="m2")] in ([2, 0], [1, 0])
        assert await forget(principal="anonymous") in (1, 2)
        await fill()
        assert [await forget(all=True), len(world.state.memory)] == [4, 0]
        await world.first(app, question("a", model="m1"))
        assert app.said == "miss"


@pytest.mark.parametrize(
    "body",
    [b"", b"no json", [], {}, {"all": False}, {"all": True, "model": "m"}, {"what": "m"}, {"model": 1}, {"key": "zz"},
     {"key": "0" * 64, "model": "m"}],
    ids=str,
)  # fmt: skip
async def test_what_is_not_understood_forgets_nothing(tmp_path: Path, body: object) -> None:
    async with remembering(tmp_path, listen=LISTEN) as world:
        app = await world.app()
        await world.first(app, question())
        assert (await post(world.sidecar, body, token_of(world)))[0] == 400
        assert len(world.state.memory) == 1


async def test_a_body_that_is_too_large_is_refused(tmp_path: Path) -> None:
    async with remembering(tmp_path, listen=LISTEN) as world:
        assert (await post(world.sidecar, {"model": "m" * 70_000}, token_of(world)))[0] == 413


async def test_a_call_in_flight_is_not_joined_any_more_and_what_it_brings_is_not_kept(tmp_path: Path) -> None:
    async with remembering(tmp_path, listen=LISTEN) as world:
        app, later = await world.app(), await world.app()
        await app.send(question())
        old = await world.called()
        await post(world.sidecar, {"all": True}, token_of(world))
        await world.first(later, question(), answer({**WHOLE, "id": "new"}))
        await old.send(answer())
        await app.answer()
        assert json.loads(app.body)["id"] == "c1"
        await later.ask(question())
        assert (later.said, json.loads(later.body)["id"]) == ("hit", "new")


def test_the_token_is_its_users_own_and_made_once(tmp_path: Path) -> None:
    token = AdminToken(tmp_path / "ca")
    token.ensure()
    first = token.path.read_bytes()
    AdminToken(tmp_path / "ca").ensure()
    assert token.path.read_bytes() == first
    assert os.stat(token.path).st_mode & 0o777 == 0o600
    assert token.is_shown_in(b"Bearer " + first.strip())
    assert not token.is_shown_in(first.strip())
    token.path.write_bytes(b"short\n")
    assert not token.is_shown_in(b"Bearer short")
