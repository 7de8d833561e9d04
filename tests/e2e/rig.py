"""A ride: a mock provider and a whole sidecar, each on a thread of its own, and what an app beside them would be given.

Rules: the mock takes the real keys and no others, so that an answer proves that the sidecar put the right one in; what
arrived is judged by the mock's journal and by every byte that it received. Nothing here waits for time to pass: it
waits for a state, with a deadline.
Knows: the configuration's form, the placeholder. Does not know: any client.
"""

import asyncio
import contextlib
import io
import json
import os
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvloop
import yaml
from prometheus_client.parser import text_string_to_metric_families

from outrider.cli.main import main
from outrider.config import load
from outrider.mock import MockProvider
from outrider.mock.journal import Journalled
from outrider.runtime import Sidecar
from outrider.runtimes import VARIABLES

ROOT = Path(__file__).resolve().parents[2]

# The keys that only the provider may ever see. The shapes are the providers' own.
REAL = {
    "openai": "sk-proj-REALopenai9f2c77aa10",
    "anthropic": "sk-ant-api03-REALanthropic51bd",
    "gemini": "AIzaREALgemini8810c2",
    "bedrock": "ABSKREALbedrock6617e0",
}
AWS_KEY_ID, AWS_SECRET = "AKIAREALREALREALREAL", "REALawssecret/0123456789+abcdefghijklmnop"
VARIABLE_OF = {
    "openai": "OPENAI_API_KEY",
    "anthropic": "ANTHROPIC_API_KEY",
    "gemini": "GEMINI_API_KEY",
    "bedrock": "AWS_BEARER_TOKEN_BEDROCK",
}
ENVIRON = {VARIABLE_OF[name]: key for name, key in REAL.items()}
# What could send this machine's own traffic elsewhere, or lend an app a key that the test did not give it.
FOREIGN = {row.name for row in VARIABLES} | {"ALL_PROXY", "all_proxy", "SSL_CERT_DIR", "GOOGLE_API_KEY", *ENVIRON}


class Background:
    """A sidecar on a loop of its own, for callers that block. Raises on entry what start() raises."""

    def __init__(self, config: Any, environ: Mapping[str, str]) -> None:
        self.sidecar = Sidecar(config, environ)
        self._runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
        self._ready = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._serve, name="sidecar")

    def __enter__(self) -> "Background":
        self._thread.start()
        self._ready.wait()
        if self._failure is not None:
            self._thread.join()
            raise self._failure
        return self

    def __exit__(self, *exc: object) -> None:
        self._loop.call_soon_threadsafe(self._told.set)
        self._thread.join()

    def run[T](self, coro: Coroutine[Any, Any, T]) -> T:
        """Run on the sidecar's loop, from another thread."""
        return asyncio.run_coroutine_threadsafe(coro, self._loop).result(120)

    def _serve(self) -> None:
        with self._runner:
            self._runner.run(self._main())

    async def _main(self) -> None:
        self._loop, self._told = asyncio.get_running_loop(), asyncio.Event()
        try:
            await self.sidecar.start()
        except BaseException as exc:  # handed to the thread that waits
            self._failure = exc
            return
        finally:
            self._ready.set()
        await self._told.wait()
        await self.sidecar.stop()


@dataclass
class Ride:
    """mock and sidecar, running. config_path: what `outrider` commands beside it may read."""

    mock: MockProvider
    background: Background
    config_path: Path

    @property
    def sidecar(self) -> Sidecar:
        return self.background.sidecar

    @property
    def proxy_url(self) -> str:
        return "http://{}:{}".format(*self.sidecar.proxy_addresses[0])

    @property
    def admin_url(self) -> str:
        return "http://{}:{}".format(*self.sidecar.admin_addresses[0])

    @property
    def port(self) -> int:
        return self.sidecar.proxy_addresses[0][1]

    @property
    def placeholder(self) -> str:
        return self.sidecar.placeholder.value

    def base(self, provider: str) -> str:
        return f"{self.proxy_url}/{provider}"

    # -- what an app is given

    def app_env(self, *flags: str) -> dict[str, str]:
        """A whole environment: what `outrider env` prints over this process's, and the placeholder as every key."""
        said, trouble = io.StringIO(), io.StringIO()
        words = ["env", "--format", "json", "--proxy", self.proxy_url, "--config", str(self.config_path), *flags]
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(trouble):
            assert main(words) == 0
        assert trouble.getvalue() == ""
        printed: dict[str, str] = json.loads(said.getvalue())
        return {**os.environ, **printed, **self.placeholders()}

    def placeholders(self) -> dict[str, str]:
        shown = self.sidecar.placeholder
        aws = {"AWS_ACCESS_KEY_ID": shown.aws_access_key_id, "AWS_SECRET_ACCESS_KEY": shown.aws_secret_access_key}
        return dict.fromkeys(ENVIRON, shown.value) | aws | {"AWS_EC2_METADATA_DISABLED": "true"}

    # -- what arrived

    @property
    def entry(self) -> Journalled:
        """The last request at the provider."""
        return self.mock.journal[-1]

    @property
    def wire(self) -> bytes:
        """Everything that the provider received, heads and bodies of all connections."""
        assert self.mock.captured is not None
        return b"".join(bytes(data) for data in self.mock.captured.values())

    def assert_hidden(self) -> None:
        """The placeholder reached the provider in no form."""
        placeholder = self.sidecar.placeholder
        for shape in (placeholder.value, placeholder.aws_access_key_id, placeholder.aws_secret_access_key):
            assert shape.encode() not in self.wire

    # -- what was recorded

    def settled(self) -> Sidecar:
        """The sidecar when no exchange is under way: its records are complete."""
        until(lambda: self.sidecar.hub.exchanges == 0)
        return self.sidecar

    def tokens(self) -> dict[tuple[str, str, str], int]:
        """(provider, model, type) -> tokens."""
        self.settled()
        return {(at["provider"], at["model"], at["type"]): n for at, n in self.metric("outrider_tokens_total")}

    def requests(self) -> list[tuple[str, str, str, str, str]]:
        """(provider, operation, model, status, decision), one for each exchange."""
        self.settled()
        names = ("provider", "operation", "model", "status", "decision")
        rows = [[tuple(at[name] for name in names)] * n for at, n in self.metric("outrider_requests_total")]
        return sorted(row for repeated in rows for row in repeated)  # type: ignore[misc]

    def events(self) -> dict[str, int]:
        """Event -> times, over all providers."""
        totals: Counter[str] = Counter()
        for at, n in self.metric("outrider_events_total"):
            totals[at["event"]] += n
        return dict(totals)

    def metric(self, name: str) -> list[tuple[dict[str, str], int]]:
        """(labels, value) of one counter or gauge, as /metrics shows it."""
        return metric(self.admin_url, name)


def metric(admin_url: str, name: str) -> list[tuple[dict[str, str], int]]:
    families = text_string_to_metric_families(fetch(f"{admin_url}/metrics").decode())
    samples = [sample for family in families for sample in family.samples]
    return [(sample.labels, int(sample.value)) for sample in samples if sample.name == name]


def fetch(url: str) -> bytes:
    """A GET by no proxy, whatever the environment says. Raises: urllib.error.HTTPError."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(url, timeout=120) as answer:
        body: bytes = answer.read()
    return body


def until(condition: Callable[[], bool], timeout_s: float = 90.0) -> None:
    """Wait for a state that another thread or process brings about. Raises: AssertionError."""
    deadline = time.monotonic() + timeout_s
    pause = threading.Event()
    while not condition():
        assert time.monotonic() < deadline, f"not true within {timeout_s} s"
        pause.wait(0.002)


def settings(mock: MockProvider, ca_dir: Path, sections: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration: the named providers lead to the mock, each with its key; `sections` are laid over it.

    "MOCK_HTTP" and "MOCK_HTTPS" in `sections` stand for the mock's URLs.
    """
    providers = {}
    for name in REAL:
        reach = {"connect_to": mock.https_url, "upstream_ca": str(mock.ca_file)}
        providers[name] = reach | {"credential": {"env": VARIABLE_OF[name]}}
    providers["bedrock"]["region"] = "us-east-1"
    whole: dict[str, Any] = {
        "version": 1,
        "listen": {"proxy": "127.0.0.1:0", "admin": "127.0.0.1:0"},
        "ca": {"dir": str(ca_dir)},
        "providers": providers,
        "telemetry": {"log": "off"},
    }
    text = json.dumps(_over(whole, sections), default=str)
    told: dict[str, Any] = json.loads(text.replace("MOCK_HTTPS", mock.https_url).replace("MOCK_HTTP", mock.http_url))
    return told


def _over(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """A section is merged with the one below it, except a credential, which stands for itself."""
    merged = dict(below)
    for name, value in above.items():
        known = merged.get(name)
        deeper = isinstance(value, Mapping) and isinstance(known, Mapping) and name != "credential"
        merged[name] = _over(known, value) if deeper else value
    return merged


@contextlib.contextmanager
def riding(
    folder: Path, shared: Path, sections: Mapping[str, Any], environ: Mapping[str, str] = ENVIRON, **mock_options: Any
) -> Iterator[Ride]:
    """folder: this ride's own files. shared: certificates, kept from ride to ride since making them takes time."""
    keys = {**REAL, "bedrock": [REAL["bedrock"], f"{AWS_KEY_ID}:{AWS_SECRET}"], "azure": "azure-none"}
    options = {"keys": keys, "tls_dir": shared / "mock", "capture": True} | mock_options
    with MockProvider(**options) as mock:
        path = folder / "outrider.yaml"
        path.write_text(yaml.safe_dump(settings(mock, shared / "ca", sections)))
        with Background(load(path, dict(environ)), dict(environ)) as background:
            yield Ride(mock, background, path)
