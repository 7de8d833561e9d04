"""`outrider cache invalidate` against a running sidecar."""

import asyncio
from pathlib import Path

import pytest
import yaml

from outrider.admin.token import FILE_NAME
from outrider.cli.main import main
from support.remembering import World, answer, question, remembering

KEY_HEX = "0" * 64


def configured(folder: Path, world: World, admin: object = None) -> str:
    """A file that names the running sidecar's admin port."""
    path = folder / "beside.yaml"
    listen = {"admin": admin or f"127.0.0.1:{world.sidecar.admin_addresses[0][1]}"}
    path.write_text(yaml.safe_dump({"version": 1, "listen": listen, "ca": {"dir": str(folder / "ca")}}))
    return str(path)


async def invalidate(config: str, *words: str) -> int:
    return await asyncio.to_thread(main, ["cache", "invalidate", "--config", config, *words])


async def test_a_running_sidecar_forgets_what_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with remembering(tmp_path, listen={"proxy": "127.0.0.1:0", "admin": "127.0.0.1:0"}) as world:
        app = await world.app()
        config = configured(tmp_path, world)
        for model in ("m1", "m2"):
            for text in "ab":
                await world.first(app, question(text, model=model), answer())
        assert await invalidate(config, "--key", KEY_HEX) == 0
        assert await invalidate(config, "--model", "m1", "--principal", "somebody") == 0
        assert await invalidate(config, "--model", "m1", "--principal", "anonymous") == 0
        (key,) = [key.hex() for key, _ in list(world.state.memory.items())[:1]]
        assert await invalidate(config, "--key", key) == 0
        assert await invalidate(config, "--all") == 0
        told = capsys.readouterr()
        assert told.out.splitlines() == [f"forgot {n} answer{'' if n == 1 else 's'}" for n in (0, 0, 2, 1, 1)]
        assert await invalidate(config, "--key", "zz") == 2
        other = tmp_path / "other"
        (other / "ca").mkdir(parents=True)
        (other / "ca" / FILE_NAME).write_bytes(b"0" * 64)
        assert await invalidate(configured(other, world), "--all") == 1
        said = capsys.readouterr().err
        assert "a key stands alone, and is 64 hex digits" in said
        assert "(401)" in said
        assert "0" * 64 not in said


async def test_the_admin_port_may_be_a_socket_s_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = f"unix:{tmp_path}/admin.sock"
    async with remembering(tmp_path, listen={"proxy": "127.0.0.1:0", "admin": place}) as world:
        assert await invalidate(configured(tmp_path, world, place), "--all") == 0
        assert capsys.readouterr().out == "forgot 0 answers\n"


@pytest.mark.parametrize(
    ("admin", "words", "sentence"),
    [
        ("127.0.0.1:1", [], "name what is to be forgotten"),
        ("127.0.0.1:1", ["--all", "--model", "m"], "--all is everything"),
        ("127.0.0.1:1", ["--all"], "admin-token cannot be read"),
        ("off", ["--all"], "listen.admin is off"),
    ],
    ids=str,
)
def test_what_cannot_be_done_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], admin: str, words: list[str], sentence: str
) -> None:
    path = tmp_path / "outrider.yaml"
    value = None if admin == "off" else admin
    path.write_text(yaml.safe_dump({"version": 1, "listen": {"admin": value}, "ca": {"dir": str(tmp_path / "ca")}}))
    assert main(["cache", "invalidate", "--config", str(path), *words]) in (1, 2)
    assert sentence in capsys.readouterr().err


@pytest.mark.parametrize(
    ("admin", "sentence"), [("127.0.0.1:1", "no sidecar answers at"), ("192.0.2.1:8485", "the token is not sent")]
)
def test_the_token_goes_nowhere_but_to_this_machine(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], admin: str, sentence: str
) -> None:
    path, ca = tmp_path / "outrider.yaml", tmp_path / "ca"
    ca.mkdir()
    (ca / FILE_NAME).write_bytes(b"1" * 64)
    path.write_text(yaml.safe_dump({"version": 1, "listen": {"admin": admin}, "ca": {"dir": str(ca)}}))
    assert main(["cache", "invalidate", "--config", str(path), "--all"]) in (1, 2)
    said = capsys.readouterr().err
    assert sentence in said
    assert "1" * 64 not in said
