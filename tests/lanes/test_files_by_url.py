"""Files that an app names by URL, on the way to targets that take bytes: what is fetched, and who is asked then."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from outrider.mock import MockProvider
from support.running import client_of, post, running

PNG = b"\x89PNG\r\n\x1a\n" + bytes(100)
KEYS = {"openai": "sk-key-of-openai", "gemini": "key-of-gemini"}
GEMINIS = ["gemini/gemini-2.5-flash", "gemini/gemini-2.5-pro"]


class Ride:
    """ask(urls) -> (status, answer, the provider's journal entries); `asked`: paths at the server of files."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.port = 0
        self.sidecar: Any = None
        self.mock: Any = None

    async def file(self, request: web.BaseRequest) -> web.StreamResponse:
        self.asked.append(request.path)
        status = 404 if request.path.startswith("/missing") else 200
        return web.Response(body=PNG, status=status, content_type="image/png")

    async def ask(self, *paths: str) -> tuple[int, Any, list[Any]]:
        urls = [f"http://127.0.0.1:{self.port}{path}" for path in paths]
        parts = [{"type": "image_url", "image_url": {"url": url}} for url in urls]
        body = {"model": "ours", "messages": [{"role": "user", "content": [{"type": "text", "text": "see"}, *parts]}]}
        shown = b"content-type: application/json\r\nauthorization: Bearer " + self.sidecar.placeholder.value.encode()
        peer = await client_of(self.sidecar)
        await peer.send(post(self.sidecar, json.dumps(body).encode(), b"/v1/chat/completions", shown + b"\r\n"))
        head, answer = await peer.answer()
        peer.close()
        return int(head.split(b" ")[1]), json.loads(answer), list(self.mock.journal)


@asynccontextmanager
async def ride(folder: Path, targets: list[str]) -> AsyncIterator[Ride]:
    one = Ride()
    runner = web.ServerRunner(web.Server(one.file))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    one.port = runner.addresses[0][1]
    environ = {f"{name.upper()}_KEY": key for name, key in KEYS.items()}
    try:
        async with MockProvider(keys=KEYS, tls=False) as one.mock:
            providers = {
                name: {"connect_to": one.mock.http_url, "credential": {"env": f"{name.upper()}_KEY"}} for name in KEYS
            }
            more = {"models": {"ours": {"targets": targets}}, "egress": {"allow_private": ["127.0.0.1/32"]}}
            async with running(folder, providers, environ=environ, **more) as one.sidecar:
                yield one
    finally:
        await runner.cleanup()


async def test_a_file_is_fetched_once_however_often_it_is_named_and_however_many_targets_want_it(
    tmp_path: Path,
) -> None:
    async with ride(tmp_path, GEMINIS) as r:
        status, _, journal = await r.ask("/cat.png", "/cat.png")
        assert (status, r.asked) == (200, ["/cat.png"])
        parts = json.loads(journal[0].body)["contents"][0]["parts"]
        assert [("inlineData" in part) for part in parts] == [False, True, True]


async def test_files_are_counted_and_not_who_wants_them(tmp_path: Path) -> None:
    async with ride(tmp_path, GEMINIS) as r:
        paths = [f"/{number}.png" for number in range(16)]
        assert (await r.ask(*paths, *paths))[0] == 200
        assert sorted(r.asked) == sorted(paths)
        status, answer, _ = await r.ask(*paths, "/one-more.png")
        assert (status, len(r.asked)) == (400, 16)
        assert "17 files by URL" in answer["error"]["message"]


@pytest.mark.parametrize("targets", [["openai/gpt-4o", *GEMINIS], [*GEMINIS, "openai/gpt-4o"]])
async def test_a_file_that_is_not_to_be_had_leaves_the_call_to_a_target_that_takes_its_url(
    tmp_path: Path, targets: list[str]
) -> None:
    async with ride(tmp_path, targets) as r:
        status, _, journal = await r.ask("/missing.png", "/cat.png")
        assert (status, [entry.provider for entry in journal]) == (200, ["openai"])
        assert json.loads(journal[0].body)["model"] == "gpt-4o"
        assert r.asked == ["/missing.png"]


async def test_a_file_that_every_target_wants_and_nobody_can_fetch_ends_the_call(tmp_path: Path) -> None:
    async with ride(tmp_path, GEMINIS) as r:
        status, answer, journal = await r.ask("/missing.png")
        assert (status, journal, r.asked) == (400, [], ["/missing.png"])
        assert "answered 404" in answer["error"]["message"]
