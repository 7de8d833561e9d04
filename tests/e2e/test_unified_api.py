"""The API over all providers and aliases, over the wire: what an app gets, and what each provider was asked.

One emulator stands for all providers and takes only each one's own key; a whole sidecar is before it.
"""

import asyncio
import gzip
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest

from e2e.test_sdk_matrix import ENVIRON, KEYS, TARGETS
from outrider.mock import MockProvider
from outrider.mock.journal import Journalled
from outrider.runtime import Sidecar
from support.running import client_of, get, running, total, until
from support.wire import Peer

HELLO = "hello big world"
USER = [{"role": "user", "content": HELLO}]
VERSION = b"anthropic-version: 2023-06-01\r\n"
JSON = b"content-type: application/json\r\n"
CHAT, MESSAGES, RESPONSES = b"/v1/chat/completions", b"/v1/messages", b"/v1/responses"
COMPLETIONS, EMBEDDINGS, RERANK, MODELS = b"/v1/completions", b"/v1/embeddings", b"/v1/rerank", b"/v1/models"
ASKED: dict[bytes, dict[str, Any]] = {
    CHAT: {"messages": USER},
    MESSAGES: {"messages": USER, "max_tokens": 50},
    RESPONSES: {"input": HELLO},
    COMPLETIONS: {"prompt": HELLO},
}


class Answer:
    def __init__(self, head: bytes, body: bytes) -> None:
        self.head, self.body = head, body

    @property
    def status(self) -> int:
        return int(self.head.split(b" ", 2)[1])

    def header(self, name: str) -> str | None:
        for line in self.head.decode("latin-1").split("\r\n")[1:]:
            field, _, value = line.partition(":")
            if field.lower() == name:
                return value.strip()
        return None

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def events(self) -> list[Any]:
        lines = self.body.replace(b"\r\n", b"\n").split(b"\n")
        return [json.loads(line[6:]) for line in lines if line.startswith(b"data: {")]

    @property
    def message(self) -> str:
        error = self.json.get("error", self.json)
        return str(error["message"])


class Api:
    def __init__(self, sidecar: Sidecar, mock: MockProvider) -> None:
        self.sidecar, self.mock = sidecar, mock
        self.shown = b"authorization: Bearer " + sidecar.placeholder.value.encode() + b"\r\n"

    async def ask(
        self,
        path: bytes,
        body: dict[str, Any] | bytes = b"",
        more: bytes = b"",
        *,
        method: bytes = b"POST",
        shows: bool = True,
        peer: Peer | None = None,
    ) -> Answer:
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        head = JSON + b"content-length: %d\r\n" % len(raw) + (self.shown if shows else b"") + more
        own = peer or await client_of(self.sidecar)
        await own.send(get(self.sidecar, path, head, method) + raw)
        try:
            return Answer(*((await own.head(), b"") if method == b"HEAD" else await own.answer()))
        finally:
            if peer is None:
                own.close()

    @property
    def url(self) -> str:
        return "http://{}:{}".format(*self.sidecar.proxy_addresses[0])

    def last(self) -> Journalled:
        return self.mock.journal[-1]

    def served(self) -> list[str]:
        """By whom, since the last time this was asked."""
        found = [entry.provider for entry in self.mock.journal]
        self.mock.journal.clear()
        return found


def aliases(**more: list[str]) -> dict[str, Any]:
    single = {f"to-{name}": [f"{name}/{model}"] for name, model in TARGETS.items()}
    return {name: {"targets": targets} for name, targets in (single | more).items()}


@asynccontextmanager
async def api(
    folder: Path, *, providers: dict[str, Any] | None = None, models: dict[str, Any] | None = None, **sections: Any
) -> AsyncIterator[Api]:
    """providers: laid over the six that have a credential; None there leaves one out."""
    async with MockProvider(keys=KEYS, tls=False) as mock:
        known: dict[str, Any] = {name: {"credential": {"env": f"{name.upper()}_KEY"}} for name in KEYS}
        known["bedrock"] = {"region": "us-east-1", "credential": {"env": "AWS_ACCESS_KEY_ID"}}
        for name, more in (providers or {}).items():
            known[name] = None if more is None else known.get(name, {}) | more
        reached = {name: {"connect_to": mock.http_url} | entry for name, entry in known.items() if entry is not None}
        settings = {"resilience": {"retry": {"attempts": 2, "base_ms": 1, "max_ms": 2}}} | sections
        async with running(folder, reached, environ=ENVIRON, models=models or aliases(), **settings) as sidecar:
            yield Api(sidecar, mock)


def text_of(path: bytes, body: Any) -> str:
    """What was said, of a whole answer."""
    if path == CHAT:
        return str(body["choices"][0]["message"]["content"])
    if path == MESSAGES:
        return "".join(block["text"] for block in body["content"])
    if path == COMPLETIONS:
        return str(body["choices"][0]["text"])
    return "".join(part["text"] for item in body["output"] for part in item["content"])


def streamed_text_of(path: bytes, events: list[Any]) -> str:
    if path == CHAT:
        return "".join(choice["delta"].get("content") or "" for event in events for choice in event["choices"])
    if path == COMPLETIONS:
        return "".join(choice["text"] for event in events for choice in event["choices"])
    if path == MESSAGES:
        deltas = [event["delta"] for event in events if event["type"] == "content_block_delta"]
        return "".join(delta["text"] for delta in deltas)
    return "".join(event["delta"] for event in events if event["type"] == "response.output_text.delta")


# -- endpoints and names


async def test_every_endpoint_is_served_by_every_provider_whole_and_streamed(tmp_path: Path) -> None:
    async with api(tmp_path) as ride:
        peer = await client_of(ride.sidecar)
        for path, fields in ASKED.items():
            for provider, model in TARGETS.items():
                if path == COMPLETIONS and provider == "openai":
                    continue  # the emulator's models are chat models, as the provider's are
                for name in (f"{provider}/{model}", f"to-{provider}"):
                    where = (path, name)
                    whole = await ride.ask(path, {"model": name, **fields}, VERSION, peer=peer)
                    assert whole.status == 200, (where, whole.body)
                    assert text_of(path, whole.json) == f"Echo: {HELLO}", where
                    assert whole.header("content-type") == "application/json" or provider in ("openai", "anthropic")
                    parts = await ride.ask(path, {"model": name, "stream": True, **fields}, VERSION, peer=peer)
                    assert parts.status == 200, (where, parts.body)
                    assert (parts.header("content-type") or "").startswith("text/event-stream"), where
                    assert streamed_text_of(path, parts.events) == f"Echo: {HELLO}", where
                    assert ride.served() == [provider, provider], where
        peer.close()


@pytest.mark.parametrize(
    ("model", "provider"),
    [("gpt-4o", "openai"), ("claude-sonnet-4-6", "anthropic"), ("gemini-2.5-flash", "gemini"),
     ("command-a-03-2025", "cohere"), ("anthropic.claude-3-haiku-20240307-v1:0", "bedrock")],
)  # fmt: skip
async def test_a_bare_model_goes_to_its_maker(tmp_path: Path, model: str, provider: str) -> None:
    async with api(tmp_path) as ride:
        answer = await ride.ask(CHAT, {"model": model, "messages": USER})
        assert text_of(CHAT, answer.json) == f"Echo: {HELLO}"
        assert total(ride.sidecar, "outrider_requests_total", provider=provider, model=model, status="200") == 1
        assert ride.served() == [provider]


async def test_what_the_app_wrote_goes_on_as_it_was_where_the_dialect_is_the_same(tmp_path: Path) -> None:
    async with api(tmp_path) as ride:
        body = b'{ "temperature": 0.50,\n"model" : "openai/gpt-4o",  "messages":[{"role":"user","content":"\\u0068i"}]}'
        answer = await ride.ask(CHAT, body)
        assert answer.status == 200
        assert ride.last().body == body.replace(b"openai/gpt-4o", b"gpt-4o")
        assert answer.header("x-outrider-translated") is None


UNCLEAR = {
    "unknown": (b'{"model":"foo-bar","messages":[]}', 404, "no provider here is known to serve 'foo-bar'"),
    "no such provider": (b'{"model":"nobody/x","messages":[]}', 404, "'nobody/x'"),
    "a provider and no model": (b'{"model":"openai/","messages":[]}', 404, "'openai/'"),
    "missing": (b'{"messages":[]}', 400, "has to name a model"),
    "empty": (b'{"model":"","messages":[]}', 400, "has to name a model"),
    "a number": (b'{"model":3,"messages":[]}', 400, "has to name a model"),
    "twice": (b'{"model":"gpt-4o","messages":[],"model":"claude-sonnet-4-6"}', 400, "'model' twice"),
    "twice in other letters": (b'{"model":"gpt-4o","messages":[],"mod\\u0065l":"claude-sonnet-4-6"}', 400, "twice"),
    "no JSON": (b"{nope", 400, "cannot be read"),
    "no object": (b'["gpt-4o"]', 400, "not a JSON object"),
    "nothing": (b"", 400, "cannot be read"),
}


@pytest.mark.parametrize("dialect", ["openai", "anthropic"])
async def test_a_model_that_is_not_clear_is_said_in_the_apps_own_shape_and_nothing_is_sent(
    tmp_path: Path, dialect: str
) -> None:
    async with api(tmp_path) as ride:
        for body, status, says in UNCLEAR.values():
            answer = await ride.ask(CHAT if dialect == "openai" else MESSAGES, body, VERSION)
            assert answer.status == status, body
            assert says in answer.message, answer.message
            assert (answer.json.get("type") == "error") == (dialect == "anthropic")
            assert answer.header("x-should-retry") in (None, "false")
        assert ride.served() == []


async def test_a_model_that_two_accounts_could_serve_is_ambiguous_until_it_names_one(tmp_path: Path) -> None:
    second = {"kind": "openai", "hosts": ["second.internal"], "credential": {"env": "OPENAI_KEY"}}
    async with api(tmp_path, providers={"second": second}) as ride:
        answer = await ride.ask(CHAT, {"model": "gpt-4o", "messages": USER})
        assert (answer.status, answer.header("x-outrider-error")) == (404, "model_not_found")
        assert "openai and second" in answer.message
        assert (await ride.ask(CHAT, {"model": "second/gpt-4o", "messages": USER})).status == 200
        assert ride.last().header("host") == "second.internal"


async def test_a_compressed_body_is_read_and_one_that_cannot_be_is_refused(tmp_path: Path) -> None:
    async with api(tmp_path) as ride:
        for model, provider in (("openai/gpt-4o", "openai"), ("to-anthropic", "anthropic"), ("gpt-4o", "openai")):
            packed = gzip.compress(json.dumps({"model": model, "messages": USER}).encode())
            answer = await ride.ask(CHAT, packed, b"content-encoding: gzip\r\n")
            assert text_of(CHAT, answer.json) == f"Echo: {HELLO}"
            entry = ride.last()
            if entry.header("content-encoding") is None:
                assert json.loads(entry.body)["model"] == TARGETS[provider]
            else:  # what named its model in the provider's own words is passed on as it came
                assert (model, entry.body) == ("gpt-4o", packed)
        ride.served()
        for coding, data in ((b"br", b"xx"), (b"gzip", b"no gzip"), (b"gzip", packed[:-3])):
            answer = await ride.ask(CHAT, data, b"content-encoding: %b\r\n" % coding)
            assert answer.status == 400
        assert ride.served() == []


async def test_a_body_beyond_the_cap_is_refused_in_one_piece_in_many_and_unpacked(tmp_path: Path) -> None:
    async with api(tmp_path, caps={"held_body_bytes": 65536}) as ride:
        large = json.dumps({"model": "to-anthropic", "messages": [{"role": "user", "content": "x" * 70_000}]}).encode()
        packed = await ride.ask(CHAT, gzip.compress(large), b"content-encoding: gzip\r\n")
        pieces = [large[at : at + 9000] for at in range(0, len(large), 9000)]
        length = b"content-length: %d\r\n" % len(large)
        chunked = [b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces] + [b"0\r\n\r\n"]
        answers = [packed]
        for framing, parts in ((length, pieces), (b"transfer-encoding: chunked\r\n", chunked)):
            peer = await client_of(ride.sidecar)
            await peer.send(get(ride.sidecar, CHAT, JSON + ride.shown + framing, b"POST"))
            await until(lambda: ride.sidecar.hub.exchanges == 1, "the head was read before its body came")
            for part in parts:
                await peer.send(part)
            answers.append(Answer(*await peer.answer()))
            peer.close()
        for answer in answers:
            assert (answer.status, answer.header("x-outrider-error")) == (413, "body_too_large")
            assert "caps.held_body_bytes" in answer.message
        assert ride.served() == []


async def test_a_body_that_comes_after_its_head_in_pieces_is_the_same_call(tmp_path: Path) -> None:
    async with api(tmp_path) as ride:
        body = json.dumps({"model": "to-gemini", "messages": USER}).encode()
        peer = await client_of(ride.sidecar)
        await peer.send(get(ride.sidecar, CHAT, JSON + ride.shown + b"content-length: %d\r\n" % len(body), b"POST"))
        for at in range(0, len(body), 7):
            await peer.send(body[at : at + 7])
            await asyncio.sleep(0)
        assert text_of(CHAT, Answer(*await peer.answer()).json) == f"Echo: {HELLO}"
        await peer.send(get(ride.sidecar, CHAT, JSON + ride.shown + b"transfer-encoding: chunked\r\n", b"POST"))
        await peer.send(b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body))
        assert text_of(CHAT, Answer(*await peer.answer()).json) == f"Echo: {HELLO}"
        peer.close()
        assert ride.served() == ["gemini", "gemini"]


async def test_calls_on_one_connection_are_each_for_whom_they_name(tmp_path: Path) -> None:
    async with api(tmp_path) as ride:
        peer = await client_of(ride.sidecar)
        named = ["to-openai", "nobody/x", "gemini/gemini-2.5-flash", "to-anthropic", "gpt-4o"]
        statuses = [(await ride.ask(CHAT, {"model": name, "messages": USER}, peer=peer)).status for name in named]
        peer.close()
        assert statuses == [200, 404, 200, 200, 200]
        assert ride.served() == ["openai", "gemini", "anthropic", "openai"]


async def test_other_methods_and_paths_are_refused(tmp_path: Path) -> None:
    async with api(tmp_path) as ride:
        for path in (*ASKED, EMBEDDINGS, RERANK):
            for method in (b"GET", b"PUT", b"DELETE"):
                answer = await ride.ask(path, b"", method=method)
                assert answer.status == 400, (path, method)
                assert "takes POST" in answer.message
        assert (await ride.ask(CHAT, b"", method=b"HEAD")).status == 400
        assert (await ride.ask(b"/v1/nothing", b"")).status == 404
        for method in (b"POST", b"DELETE"):
            assert (await ride.ask(MODELS, b"", method=method)).status == 400
        assert ride.served() == []


# -- the listing


async def test_models_are_listed_in_both_shapes_with_what_is_known_of_them(tmp_path: Path) -> None:
    async with api(tmp_path) as ride:
        listed = (await ride.ask(MODELS, method=b"GET")).json
        by_id = {row["id"]: row for row in listed["data"]}
        assert listed["object"] == "list"
        assert by_id["to-openai"]["targets"] == ["openai/gpt-4o"]
        assert by_id["openai/gpt-4o"]["context_length"] == 128_000
        assert by_id["openai/gpt-4o"]["pricing"]["input"] == "2.5"
        assert {name.partition("/")[0] for name in by_id if "/" in name} >= {"openai", "anthropic", "gemini", "cohere"}
        assert not any(name.startswith("xai/") for name in by_id)  # of whom there is no credential here
        shaped = (await ride.ask(MODELS, b"", VERSION, method=b"GET")).json
        assert [row["type"] for row in shaped["data"]] == ["model"] * len(by_id)
        assert shaped["first_id"] in by_id
        one = await ride.ask(MODELS + b"/anthropic%2Fclaude-sonnet-4-6", b"", VERSION, method=b"GET")
        assert (one.json["id"], one.json["type"]) == ("anthropic/claude-sonnet-4-6", "model")
        assert (await ride.ask(MODELS + b"/to-openai", method=b"GET")).json["object"] == "model"
        missing = await ride.ask(MODELS + b"/nope", method=b"GET")
        assert (missing.status, missing.header("x-outrider-error")) == (404, "model_not_found")
        head = await ride.ask(MODELS, method=b"HEAD")
        assert head.status == 200
        assert int(head.header("content-length") or 0) > 1000
        assert ride.served() == []


async def test_the_sdks_read_the_listing(tmp_path: Path) -> None:
    async with api(tmp_path) as ride:

        def read() -> tuple[set[str], set[str], str]:
            shown = ride.sidecar.placeholder.value
            with openai.OpenAI(base_url=f"{ride.url}/v1", api_key=shown) as one:
                ours = {model.id for model in one.models.list()}
                single = one.models.retrieve("openai/gpt-4o").id
            with anthropic.Anthropic(base_url=ride.url, api_key=shown) as two:
                theirs = {model.id for model in two.models.list()}
            return ours, theirs, single

        ours, theirs, single = await asyncio.to_thread(read)
        assert ours == theirs
        assert {"to-cohere", "openai/gpt-4o"} <= ours
        assert single == "openai/gpt-4o"


# -- embeddings and rerank

EMBEDDERS = {
    "openai": "text-embedding-3-small",
    "gemini": "gemini-embedding-001",
    "cohere": "embed-v4.0",
    "ollama": "nomic-embed-text",
    "titan": "amazon.titan-embed-text-v2:0",
    "bedrock": "cohere.embed-english-v3",
}


def embedder(name: str) -> str:
    return f"{'bedrock' if name == 'titan' else name}/{EMBEDDERS[name]}"


@pytest.mark.parametrize("name", EMBEDDERS)
async def test_embeddings_are_made_by_every_provider(tmp_path: Path, name: str) -> None:
    texts = ["hello", "big world"]
    async with api(tmp_path, models={"embedder": {"targets": [embedder(name)]}}) as ride:
        for model in ("embedder", embedder(name)):
            answer = await ride.ask(EMBEDDINGS, {"model": model, "input": texts})
            assert answer.status == 200, answer.body
            made = answer.json
            assert [row["index"] for row in made["data"]] == list(range(len(texts)))
            assert all(sum(row["embedding"]) == 1.0 for row in made["data"])
            assert made["data"][0]["embedding"] != made["data"][-1]["embedding"] or len(texts) == 1
        assert set(ride.served()) == {"bedrock" if name == "titan" else name}


async def test_documents_are_ranked_by_every_name_of_the_model(tmp_path: Path) -> None:
    asked = {"query": "big world", "documents": ["small", "a big world", "big"], "top_n": 2}
    async with api(tmp_path, models={"ranker": {"targets": ["cohere/rerank-v3.5"]}}) as ride:
        for model in ("cohere/rerank-v3.5", "ranker", "rerank-v3.5"):
            answer = await ride.ask(RERANK, {"model": model, **asked})
            assert [row["index"] for row in answer.json["results"]] == [1, 2]
            assert ride.last().target == "/v2/rerank"
        refused = await ride.ask(RERANK, {"model": "openai/gpt-4o", **asked})
        assert refused.status in (400, 403)
        assert "openai does not speak cohere.rerank" in refused.json["message"]


async def test_a_field_left_out_cannot_split_the_head(tmp_path: Path) -> None:
    async with api(tmp_path, models={"embedder": {"targets": [embedder("cohere")]}}) as ride:
        name = "x\r\nset-cookie: a=b; y"
        answer = await ride.ask(EMBEDDINGS, {"model": "embedder", "input": "hello", name: 1})
        assert (answer.status, answer.header("set-cookie")) == (200, None)
        assert "x??set-cookie: a=b? y left out" in (answer.header("x-outrider-translated") or "")


@pytest.mark.parametrize("model", ["cohere.rerank-v3-5:0", "amazon.rerank-v1:0"])
async def test_documents_are_ranked_at_bedrock(tmp_path: Path, model: str) -> None:
    asked = {"query": "big world", "documents": ["small", {"text": "a big world"}, "big"], "top_n": 2}
    async with api(tmp_path, models={"ranker": {"targets": [f"bedrock/{model}"]}}) as ride:
        for name in ("ranker", f"bedrock/{model}"):
            answer = await ride.ask(RERANK, {"model": name, **asked})
            assert [(row["index"], row["relevance_score"]) for row in answer.json["results"]] == [(1, 1.0), (2, 0.5)]
            assert answer.header("x-outrider-translated") == "documents ranked by their text alone"
            assert ride.last().target == f"/model/{model.replace(':', '%3A')}/invoke"
            sent = {"query": "big world", "documents": ["small", "a big world", "big"], "top_n": 2}
            version = {"api_version": 2} if model.startswith("cohere") else {}
            assert json.loads(ride.last().body) == sent | version
        assert total(ride.sidecar, "outrider_events_total", event="usage_estimated") == 2
        failed = await ride.ask(RERANK, {"model": "ranker", "query": "", "documents": ["x"]})
        assert (failed.status, failed.json["message"][:9]) == (400, "Malformed")


# -- governance: by the provider's own name for the model, whatever the app called it


async def test_an_allowlist_of_models_holds_on_every_name(tmp_path: Path) -> None:
    """The names under `models:` are the configuration's own and not on it; their targets are judged."""
    policies = [{"pack": "model-allowlist", "with": {"models": ["claude-*", "gpt-4o"]}}]
    models = aliases(mixed=["gemini/gemini-2.5-flash", "anthropic/claude-sonnet-4-6"], none=["gemini/gemini-2.5-flash"])
    async with api(tmp_path, models=models, policies=policies) as ride:
        for model, provider in (
            ("anthropic/claude-sonnet-4-6", "anthropic"), ("gpt-4o", "openai"), ("to-anthropic", "anthropic"),
            ("mixed", "anthropic"),
        ):  # fmt: skip
            for path in (CHAT, MESSAGES, RESPONSES):
                answer = await ride.ask(path, {"model": model, **ASKED[path]}, VERSION)
                assert answer.status == 200, (model, path, answer.body)
                assert ride.served() == [provider]
        for model in ("gemini/gemini-2.5-flash", "gemini-2.5-flash", "none", "cohere/command-a-03-2025", "to-ollama"):
            for path in (CHAT, MESSAGES, RESPONSES):
                answer = await ride.ask(path, {"model": model, **ASKED[path]}, VERSION)
                assert answer.status == 403, (model, path, answer.body)
                assert answer.header("x-outrider-decision") == "model-allowlist/listed"
                assert "not on the list of models" in answer.message
        assert ride.served() == []


async def test_requests_stay_in_the_union_though_one_target_of_the_alias_is_outside(tmp_path: Path) -> None:
    models = aliases(mixed=["anthropic/claude-sonnet-4-6", "bedrock/eu.anthropic.claude-3-haiku-20240307-v1:0"])
    bedrock = {"region": "eu-central-1"}
    async with api(tmp_path, providers={"bedrock": bedrock}, models=models, policies=["eu-residency"]) as ride:
        answer = await ride.ask(CHAT, {"model": "mixed", "messages": USER})
        assert text_of(CHAT, answer.json) == f"Echo: {HELLO}"
        assert ride.last().header("host") == "bedrock-runtime.eu-central-1.amazonaws.com"
        assert ride.served() == ["bedrock"]
        for model in ("to-anthropic", "openai/gpt-4o"):
            refused = await ride.ask(CHAT, {"model": model, "messages": USER})
            assert refused.status == 451, model
        assert (await ride.ask(MODELS, method=b"GET")).status == 200  # which asks nobody outside
        assert ride.served() == []


async def test_an_answer_is_remembered_whether_or_not_rules_tell_targets_apart(tmp_path: Path) -> None:
    models = aliases(mixed=["openai/gpt-4o", "anthropic/claude-sonnet-4-6"])
    asked = {"model": "mixed", "messages": USER, "temperature": 0}
    apart = [{"pack": "eu-residency", "with": {"hosts": ["api.openai.com"]}}]
    for policies in ([], ["pii"], apart):
        folder = tmp_path / str(len(str(policies)))
        folder.mkdir()
        async with api(folder, models=models, policies=policies, cache={"mode": "exact"}) as ride:
            for _ in range(2):
                answer = await ride.ask(CHAT, asked)
                assert text_of(CHAT, answer.json) == f"Echo: {HELLO}"
            assert ride.served() == ["openai"]


async def test_limits_and_budgets_count_the_model_that_serves(tmp_path: Path) -> None:
    limits = [
        {"name": "each", "key": ["provider", "model"], "requests": "2/h"},
        {"name": "tokens", "key": ["provider"], "tokens": "9/h", "providers": ["cohere"]},
    ]
    budgets = [{"name": "day", "key": ["model"], "usd": "0.001/day", "models": ["claude-*"], "unpriced": "allow"}]
    async with api(tmp_path, limits=limits, budgets=budgets) as ride:
        names = ["openai/gpt-4o", "to-openai", "gpt-4o", "openai/gpt-4o-mini"]
        answers = [await ride.ask(CHAT, {"model": name, "messages": USER}) for name in names]
        assert [answer.status for answer in answers] == [200, 200, 429, 200]
        assert answers[2].header("retry-after") is not None
        assert total(ride.sidecar, "outrider_requests_total", provider="openai", model="gpt-4o") == 3
        assert total(ride.sidecar, "outrider_tokens_total", provider="openai", model="gpt-4o", type="input") == 8
        first = await ride.ask(CHAT, {"model": "to-cohere", "messages": USER, "max_tokens": 4})
        second = await ride.ask(MESSAGES, {"model": "cohere/command-a-03-2025", "messages": USER, "max_tokens": 4})
        assert (first.status, second.status) == (200, 429)
        assert second.json["type"] == "error"
        for model in ("to-anthropic", "anthropic/claude-sonnet-4-6"):
            assert (await ride.ask(CHAT, {"model": model, "messages": USER, "max_tokens": 9})).status == 200
        dear = await ride.ask(CHAT, {"model": "claude-sonnet-4-5", "messages": USER, "max_tokens": 9000})
        assert (dear.status, dear.header("x-outrider-error")) == (429, "budget_exceeded")
        assert total(ride.sidecar, "outrider_cost_usd_total", provider="anthropic") > 0


MAIL = "ada.planted@example.com"
TOLD = f"write to {MAIL} about it"


@pytest.mark.parametrize("action", ["mask", "pseudonymise"])
async def test_redaction_holds_in_both_directions_whoever_serves(tmp_path: Path, action: str) -> None:
    always = [{"detectors": ["pii"], "action": action}]
    async with api(tmp_path, redact={"always": always}) as ride:
        peer = await client_of(ride.sidecar)
        for path in (CHAT, MESSAGES, RESPONSES):
            fields = json.loads(json.dumps(ASKED[path]).replace(HELLO, TOLD))
            for provider in TARGETS:
                for model in (f"to-{provider}", f"{provider}/{TARGETS[provider]}"):
                    for stream in (False, True):
                        where = (path, model, stream)
                        asked = {"model": model, "stream": stream, **fields}
                        answer = await ride.ask(path, asked, VERSION, peer=peer)
                        assert answer.status == 200, (where, answer.body)
                        said = streamed_text_of(path, answer.events) if stream else text_of(path, answer.json)
                        assert MAIL.encode() not in ride.last().body, where
                        if action == "mask":
                            assert said.startswith("Echo: write to ["), (where, said)
                        else:
                            assert said == f"Echo: {TOLD}", where
        peer.close()
        assert not any(MAIL.encode() in entry.body for entry in ride.mock.journal)


async def test_what_a_provider_says_is_redacted_in_the_apps_dialect(tmp_path: Path) -> None:
    always = [{"detectors": ["pii"], "action": "mask", "where": ["answer"]}]
    async with api(tmp_path, redact={"always": always}) as ride:
        for path in (CHAT, MESSAGES, RESPONSES):
            fields = json.loads(json.dumps(ASKED[path]).replace(HELLO, TOLD))
            for provider in TARGETS:
                for stream in (False, True):
                    answer = await ride.ask(path, {"model": f"to-{provider}", "stream": stream, **fields}, VERSION)
                    assert answer.status == 200, answer.body
                    assert MAIL.encode() in ride.last().body
                    assert MAIL.encode() not in answer.body
                    said = streamed_text_of(path, answer.events) if stream else text_of(path, answer.json)
                    assert MAIL not in said
                    assert said.startswith("Echo: write to ["), (path, provider, stream, said)


async def test_the_audit_log_has_who_served_and_what_was_asked_for(tmp_path: Path) -> None:
    log = tmp_path / "log" / "audit.jsonl"
    async with api(tmp_path, telemetry={"log": "off", "audit": {"path": str(log)}}) as ride:
        for model in ("to-anthropic", "gemini/gemini-2.5-flash"):
            await ride.ask(CHAT, {"model": model, "messages": USER})
        await ride.ask(CHAT, {"model": "nobody/x", "messages": USER})
        await ride.ask(MODELS, method=b"GET")
    files = sorted(log.parent.glob("audit-0*.jsonl"))
    lines = [json.loads(line) for path in files for line in path.read_text().splitlines()]
    exchanges = [line for line in lines if line["event"] == "exchange"]
    told = [(line["provider"], line["model"], line["status"]) for line in exchanges]
    assert told[:2] == [("anthropic", "claude-sonnet-4-6", 200), ("gemini", "gemini-2.5-flash", 200)]
    assert exchanges[0]["asked"] == "to-anthropic"
    assert [line["status"] for line in exchanges[2:]] == [404, 200]
    assert (exchanges[0]["tokens"]["input"], exchanges[0]["targets"]) == (4, ["anthropic/claude-sonnet-4-6"])
    text = json.dumps(lines)
    assert not any(secret in text for secret in (*ENVIRON.values(), HELLO))


# -- keys and headers


APPS_OWN = (
    b"anthropic-version: 2023-06-01\r\nanthropic-beta: x-1\r\nanthropic-dangerous-direct-browser-access: true\r\n"
    b"openai-organization: org-app\r\nopenai-project: p-app\r\nopenai-beta: assistants=v2\r\n"
    b"x-goog-user-project: g-app\r\nx-goog-api-client: gl-python\r\nx-amz-date: 20260101T000000Z\r\n"
    b"x-amz-security-token: t-app\r\namz-sdk-invocation-id: i-app\r\namz-sdk-request: attempt=1\r\n"
    b"x-stainless-lang: python\r\nx-stainless-retry-count: 0\r\ncookie: session=app\r\nreferer: http://app\r\n"
    b"x-api-key: app-own-key\r\nx-goog-api-key: app-own-key\r\napi-key: app-own-key\r\n"
)
# field -> whose it is; nobody's means that no provider is to see it
OWNERS = {
    "anthropic-version": "anthropic", "anthropic-beta": "anthropic", "openai-organization": "openai",
    "openai-project": "openai", "openai-beta": "openai", "x-goog-user-project": "gemini",
    "x-goog-api-client": "gemini", "amz-sdk-invocation-id": "bedrock", "amz-sdk-request": "bedrock",
    "anthropic-dangerous-direct-browser-access": "anthropic", "cookie": "",
}  # fmt: skip
CREDENTIALS = {
    "openai": ("authorization", "Bearer sk-real-openai"),
    "anthropic": ("x-api-key", "sk-ant-real"),
    "gemini": ("x-goog-api-key", "gemini-real"),
    "cohere": ("authorization", "Bearer cohere-real"),
    "ollama": ("authorization", "Bearer ollama-real"),
    "replicate": ("authorization", "Bearer r8-real"),
}


@pytest.mark.parametrize("path", [CHAT, MESSAGES, RESPONSES])
async def test_each_provider_gets_its_own_credential_and_nothing_of_another_providers_sdk(
    tmp_path: Path, path: bytes
) -> None:
    async with api(tmp_path) as ride:
        placeholder = ride.sidecar.placeholder
        for provider in TARGETS:
            answer = await ride.ask(path, {"model": f"to-{provider}", **ASKED[path]}, APPS_OWN)
            assert answer.status == 200, answer.body
            sent = ride.last()
            head = b"\n".join(name + b": " + value for name, value in sent.headers)
            for shape in (placeholder.value, placeholder.aws_access_key_id, "app-own-key", "t-app", "session=app"):
                assert shape.encode() not in head, (provider, shape)
            others = [secret for name, secret in KEYS.items() if name != provider]
            assert not any(part.encode() in head for secret in others for part in secret.split(":"))
            if provider == "bedrock":
                assert (sent.header("authorization") or "").startswith("AWS4-HMAC-SHA256 Credential=AKIAREAL")
            else:
                name, value = CREDENTIALS[provider]
                assert sent.all(name) == [value]
            leaked = {name for name, owner in OWNERS.items() if owner != provider and sent.header(name) is not None}
            assert not leaked, (provider, leaked)
            assert answer.header("x-outrider-request-id")


async def test_without_the_placeholder_nothing_is_sent(tmp_path: Path) -> None:
    async with api(tmp_path) as ride:
        for path, model in ((CHAT, "to-anthropic"), (MESSAGES, "openai/gpt-4o"), (RESPONSES, "gemini-2.5-flash")):
            for more in (b"", b"authorization: Bearer sk-app-own\r\n", b"x-api-key: sk-app-own\r\n"):
                answer = await ride.ask(path, {"model": model, **ASKED[path]}, more, shows=False)
                assert (answer.status, answer.header("x-outrider-error")) == (401, "placeholder_required")
        assert ride.served() == []


async def test_the_placeholder_is_taken_from_the_slot_of_any_sdk(tmp_path: Path) -> None:
    async with api(tmp_path) as ride:
        shown = ride.sidecar.placeholder.value.encode()
        for path, more in ((MESSAGES, b"x-api-key: %b\r\n"), (CHAT, b"authorization: Bearer %b\r\n")):
            for provider in TARGETS:
                asked = {"model": f"to-{provider}", **ASKED[path]}
                answer = await ride.ask(path, asked, VERSION + more % shown, shows=False)
                assert answer.status == 200, (path, provider, answer.body)
                assert shown not in b"".join(value for _, value in ride.last().headers)


async def test_an_apps_own_key_goes_to_the_provider_that_has_none_here_and_to_no_other(tmp_path: Path) -> None:
    """The app shows a key of its own, of one provider; config has none of that provider."""
    providers = {"openai": {"credential": None}}
    models = aliases(both=["openai/gpt-4o", "anthropic/claude-sonnet-4-6"])
    async with api(tmp_path, providers=providers, models=models) as ride:
        own = b"authorization: Bearer sk-real-openai\r\n"  # of whom the app is a customer itself
        answer = await ride.ask(CHAT, {"model": "openai/gpt-4o", "messages": USER}, own, shows=False)
        assert answer.status == 200, answer.body
        assert ride.last().all("authorization") == ["Bearer sk-real-openai"]
        assert ride.served() == ["openai"]
        ride.mock.fail(500)
        failed = await ride.ask(CHAT, {"model": "both", "messages": USER}, own, shows=False)
        assert set(ride.served()) == {"openai"}, failed.body
        shown = await ride.ask(CHAT, {"model": "openai/gpt-4o", "messages": USER})
        assert (shown.status, shown.header("x-outrider-error")) == (401, "placeholder_required")
        assert ride.served() == []
