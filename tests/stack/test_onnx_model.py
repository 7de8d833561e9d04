"""Vectors of a model in this process: real inference of tiny models."""

import asyncio
import math
import os
import struct
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from onnx import TensorProto

from outrider.cli import check
from outrider.config import Config, ConfigError, load
from outrider.stack.onnx_model import OnnxModel, opened
from outrider.stack.semantic import UnaskedError
from stack.test_semantic import CREDENTIAL, at, fill
from support.callers import with_keys
from support.onnx_models import BROKEN, model, tokenizer
from support.remembering import WHOLE, App, World, answer, question, remembering
from support.running import ENVIRON, settings, total


def files(folder: Path, **how: Any) -> dict[str, Any]:
    return {"model": str(model(folder / "model.onnx", **how)), "tokenizer": str(tokenizer(folder / "tokenizer.json"))}


def semantic(onnx: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"onnx": onnx, "timeout_ms": 20_000, **more}


def configured(folder: Path, onnx: dict[str, Any]) -> Config:
    return load(settings(folder, {}, cache={"mode": "exact", "semantic": semantic(onnx)}), ENVIRON)


def loaded(folder: Path, onnx: dict[str, Any]) -> OnnxModel:
    found = opened(configured(folder, onnx))
    assert found is not None
    return found


async def vector(made: OnnxModel, text: str) -> tuple[float, float] | None:
    exchange: Any = None
    found = await made.vector(exchange, exchange, text)
    return None if found is None else struct.unpack("2f", found)


def angle(found: tuple[float, float] | None) -> float:
    assert found is not None
    return math.degrees(math.atan2(found[1], found[0]))


@asynccontextmanager
async def finding(folder: Path, onnx: dict[str, Any], more: Any = None, **sections: Any) -> AsyncIterator[World]:
    cache = {"semantic": semantic(onnx, **(more or {}))}
    async with remembering(folder, cache, **sections) as world:
        yield world


def counted(world: World, event: str) -> float:
    return total(world.sidecar, "outrider_events_total", event=event, provider="onnx")


async def misses(world: World, app: App, body: bytes, lines: bytes = b"") -> bool:
    await world.first(app, body, answer({**WHOLE, "id": "other"}), lines)
    return app.status == 200 and app.said == "miss"


# -- what it makes of a text


@pytest.mark.parametrize("kind", [TensorProto.INT64, TensorProto.INT32])
@pytest.mark.parametrize("types", [(), ("token_type_ids",)])
async def test_the_mean_of_the_words_is_the_text(tmp_path: Path, types: tuple[str, ...], kind: int) -> None:
    made = loaded(tmp_path, files(tmp_path, inputs=("input_ids", "attention_mask", *types), kind=kind))
    assert angle(await vector(made, "sort ORDER")) == pytest.approx(2.5, abs=1e-3)
    assert angle(await vector(made, "lose")) == pytest.approx(90, abs=1e-3)
    assert math.hypot(*(await vector(made, "sort lose")) or ()) == pytest.approx(1)
    made.close()


async def test_the_first_token_is_the_text_where_config_says_so(tmp_path: Path) -> None:
    onnx = {**files(tmp_path), "pooling": "cls", "tokenizer": str(tokenizer(tmp_path / "cls.json", cls=True))}
    made = loaded(tmp_path, onnx)
    assert angle(await vector(made, "sort order")) == pytest.approx(20, abs=1e-3)
    made.close()


async def test_a_model_may_pool_by_itself_and_take_its_tokens_alone(tmp_path: Path) -> None:
    made = loaded(tmp_path, files(tmp_path, pools=True, inputs=("input_ids",)))
    assert angle(await vector(made, "sort order")) == pytest.approx(2.5, abs=1e-3)
    made.close()


async def test_what_is_beyond_max_tokens_is_not_read(tmp_path: Path) -> None:
    made = loaded(tmp_path, {**files(tmp_path), "max_tokens": 2})
    assert angle(await vector(made, "sort sort lose lose lose")) == pytest.approx(0, abs=1e-3)
    made.close()


async def test_a_text_without_a_token_has_no_vector_and_is_no_failure(tmp_path: Path) -> None:
    made = loaded(tmp_path, files(tmp_path))
    with pytest.raises(UnaskedError):
        await vector(made, " ")
    made.close()


# -- which models are the same


def test_another_model_tokenizer_or_pooling_is_another_place(tmp_path: Path) -> None:
    same = files(tmp_path)
    other = str(model(tmp_path / "other.onnx", turns=90))
    renamed = str(model(tmp_path / "renamed.onnx"))
    first = loaded(tmp_path, same)
    assert loaded(tmp_path, {**same, "model": renamed, "threads": 2}).place == first.place
    cls = str(tokenizer(tmp_path / "cls.json", cls=True))
    for change in ({"model": other}, {"tokenizer": cls}, {"pooling": "cls"}, {"max_tokens": 8}):
        assert loaded(tmp_path, {**same, **change}).place != first.place


def test_a_model_that_did_not_change_is_not_loaded_again(tmp_path: Path) -> None:
    onnx = files(tmp_path)
    config = configured(tmp_path, onnx)
    first = opened(config)
    assert opened(config, first) is first
    assert opened(configured(tmp_path, {**onnx, "pooling": "cls"}), first) is not first
    model(tmp_path / "model.onnx", turns=90)
    again = opened(config, first)
    assert again is not first
    assert again is not None
    assert first is not None
    assert again.place != first.place


# -- what is wrong with it


def test_what_cannot_be_used_is_said_in_a_sentence(tmp_path: Path) -> None:
    good = files(tmp_path)
    text = tmp_path / "text"
    text.write_text("not a model")
    tall = str(tokenizer(tmp_path / "tall.json", first=100))
    image = str(model(tmp_path / "image.onnx", inputs=("input_ids", "pixels")))
    wrong = {
        "model": [
            (str(tmp_path / "missing"), "cannot be read: no such file or directory; name a file"),
            (str(tmp_path), "cannot be read: is a directory; name a file"),
            (str(text), "is no ONNX model that can be run"),
            (image, "takes input_ids, pixels, and what can be given are whole numbers as input_ids, attention_mask"),
        ],
        "tokenizer": [
            (str(tmp_path / "missing"), "cannot be read: no such file or directory; name a file"),
            (str(text), "is no tokenizer.json"),
        ],
    }
    for key, rows in wrong.items():
        for value, sentence in rows:
            with pytest.raises(ConfigError) as raised:
                opened(configured(tmp_path, {**good, key: value}))
            (problem,) = raised.value.problems
            assert problem.key == f"cache.semantic.onnx.{key}"
            assert problem.where.startswith(f"{tmp_path}/outrider.yaml:")
            assert sentence in problem.sentence
            assert "\n" not in problem.sentence
    with pytest.raises(ConfigError, match=r"cannot be run on 256 tokens .*; check that the tokenizer belongs to it"):
        opened(configured(tmp_path, {**good, "tokenizer": tall}))


def test_check_says_what_is_wrong_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    onnx = {**files(tmp_path), "model": "missing.onnx"}
    path = settings(tmp_path, {}, cache={"mode": "exact", "semantic": semantic(onnx)})
    with pytest.raises(ConfigError, match=f"{tmp_path}/missing.onnx cannot be read"):
        check.checked(path, ENVIRON)


@pytest.mark.parametrize("name", ["onnxruntime", "tokenizers", "numpy"])
def test_without_the_extra_the_sentence_says_what_to_install(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    onnx = files(tmp_path)
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ConfigError, match=r"cache.semantic.onnx: needs onnxruntime.*; install outrider\[onnx\]"):
        opened(configured(tmp_path, onnx))


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"threshold": 0.9}, "cache.semantic.provider: is missing; say who makes vectors"),
    ({"provider": "near"}, "cache.semantic.model: is missing"),
    (
        {"onnx": {"model": "m", "tokenizer": "t"}, "provider": "near"},
        "cache.semantic.provider: is of a provider's model",
    ),
    (
        {"onnx": {"model": "m", "tokenizer": "t"}, "dimensions": 8},
        "cache.semantic.dimensions: is of a provider's model",
    ),
    ({"onnx": {"model": "m"}}, "cache.semantic.onnx.tokenizer: "),
]


@pytest.mark.parametrize(("given", "sentence"), WRONG, ids=range(len(WRONG)))
def test_who_makes_vectors_is_said_once(tmp_path: Path, given: dict[str, Any], sentence: str) -> None:
    path = settings(
        tmp_path, {"near": {"kind": "openai", "hosts": ["a.b"]}}, cache={"mode": "exact", "semantic": given}
    )
    with pytest.raises(ConfigError) as raised:
        load(path, ENVIRON)
    assert sentence in str(raised.value)


# -- answers


async def test_what_was_asked_in_other_words_is_found_and_nothing_leaves_the_sidecar(tmp_path: Path) -> None:
    async with finding(tmp_path, files(tmp_path)) as world:
        app = await world.app()
        first = await world.first(app, question("How sort a list"))
        assert app.said == "miss"
        await app.ask(question("how order an array"))
        assert (app.said, app.body, world.calls) == ("semantic", first, 1)
        assert float(app.field("x-outrider-similarity")) > 0.99
        assert await misses(world, app, question("how lose a list"))
        assert world.calls == 2
        system = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "how order an array"}]
        assert await misses(world, app, question(messages=system))
        assert (counted(world, "semantic_failed"), counted(world, "semantic_skipped")) == (0, 0)


async def test_another_tenant_never_gets_the_answer(tmp_path: Path) -> None:
    named, shown = with_keys(tmp_path, {"a": "a", "b": "b"})
    async with finding(tmp_path, files(tmp_path), providers={"local": CREDENTIAL}, **named) as world:
        app = await world.app()
        one, other = shown.values()
        await world.first(app, question("sort a list"), lines=one)
        assert await misses(world, app, question("order a list"), other)
        await app.ask(question("order an array"), one)
        assert app.said == "semantic"


async def test_what_the_model_fails_at_is_a_plain_miss(tmp_path: Path) -> None:
    async with finding(tmp_path, files(tmp_path)) as world:
        app = await world.app()
        await world.first(app, question("sort a list"))
        assert await misses(world, app, question(f"sort a {BROKEN} list"))
        assert await misses(world, app, question("order a list"))  # nobody is asked for a second
        assert (counted(world, "semantic_failed"), counted(world, "semantic_skipped")) == (1, 1)


async def test_a_vector_that_is_late_is_not_waited_for(tmp_path: Path) -> None:
    async with finding(tmp_path, files(tmp_path, slow=12), {"timeout_ms": 1}) as world:
        app = await world.app()
        assert await misses(world, app, question("sort a list"))
        assert counted(world, "semantic_failed") == 1
        assert len(world.state.vectors) == 0


async def test_where_enough_texts_wait_one_more_is_not_looked_for(tmp_path: Path) -> None:
    async with finding(tmp_path, {**files(tmp_path, slow=12), "max_waiting": 1}) as world:
        first, second = await world.app(), await world.app()
        await first.send(question("sort a list"))
        await world.turns()
        assert await misses(world, second, question("lose a list"))
        assert counted(world, "semantic_skipped") == 1
        peer = await world.called()
        await peer.send(answer())
        peer.close()
        await first.answer()
        assert len(world.state.vectors) == 1


async def test_an_app_that_leaves_takes_its_place_in_the_queue_with_it(tmp_path: Path) -> None:
    made = loaded(tmp_path, {**files(tmp_path, slow=4), "max_waiting": 2})
    first, second = (asyncio.ensure_future(vector(made, text)) for text in ("sort", "lose"))
    await asyncio.sleep(0)
    with pytest.raises(UnaskedError):
        await vector(made, "list")
    second.cancel()
    await asyncio.wait((second,))
    assert angle(await vector(made, "list")) == pytest.approx(2, abs=1e-3)
    assert angle(await first) == pytest.approx(0, abs=1e-3)
    made.close()


async def test_no_thread_runs_before_a_question_and_none_after_the_end(tmp_path: Path) -> None:
    def threads() -> set[str]:
        return {one.name for one in threading.enumerate() if one.name.startswith("onnx")}

    async with finding(tmp_path, files(tmp_path)) as world:
        assert threads() == set()
        app = await world.app()
        await world.first(app, question("sort a list"))
        (name,) = threads()
        await app.ask(question("order a list"))
        assert threads() == {name}
    await asyncio.to_thread(lambda: [one.join() for one in threading.enumerate() if one.name == name])
    assert threads() == set()


async def test_vectors_of_two_models_are_never_compared(tmp_path: Path) -> None:
    """Before and after reloads of one sidecar, where each model would make the same of the question."""
    near = {"provider": "near", "model": "m", "timeout_ms": 20_000}
    async with remembering(tmp_path, {"semantic": near}, providers={"local": {}, "near": CREDENTIAL}) as world:
        app = await world.app()
        await fill(world, app, question("sort"), at(0))
        onnx = files(tmp_path)
        for change in ({}, {"pooling": "cls"}):
            path = tmp_path / "outrider.yaml"
            document = yaml.safe_load(path.read_text())
            document["cache"] = {"mode": "exact", "semantic": semantic({**onnx, **change})}
            path.write_text(yaml.safe_dump(document))
            world.sidecar.reload(load(path, ENVIRON))
            assert await misses(world, app, question("order" if change else "list"))
            await app.ask(question("a" if change else "an"))
            assert app.said == "semantic"


TELLS = """
import sys
from pathlib import Path
import numpy
threads = lambda: len(list(Path("/proc/self/task").iterdir()))
before = threads()
from outrider.config import load
from outrider.stack.onnx_model import opened
model = opened(load(Path(sys.argv[1]), {}))
print(threads() - before, [*Path.home().rglob("*")])
"""


def test_the_runtime_tells_its_maker_nothing(tmp_path: Path) -> None:
    """It would begin a thread, and a file in the user's folder."""
    (home := tmp_path / "home").mkdir()
    path = settings(tmp_path, {}, cache={"mode": "exact", "semantic": semantic(files(tmp_path))})
    environ = {name: value for name, value in os.environ.items() if name not in ("CI", "ORT_DISABLE_TELEMETRY")}
    done = subprocess.run(
        [sys.executable, "-c", TELLS, str(path)],
        env={**environ, "HOME": str(home), "XDG_CACHE_HOME": str(home)},
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert (done.stdout, done.stderr) == ("0 []\n", "")
