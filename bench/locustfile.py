"""Users of the load test, for locust: half of them speak through HTTPS_PROXY, half through base_url.

Rules: each user keeps one connection as an SDK does, thinks for a time of a log-normal distribution, and calls on that
schedule (an answer that is late does not make it ask less). Every byte of every answer is compared; a wrong one is a
failure. The sidecar's CA is trusted, and nothing else. A stream is two lines of the statistics: POST until its first
event, END until its last.
Settings come as JSON from the file that $BENCH_LOAD names (bench.loadtest writes it, docs/load-testing.md has it);
at the end the sums go as JSON to $BENCH_LOAD_RESULT, if that is set.
Does not know: how sidecar and upstream were started, what is good enough.
"""

import json
import math
import os
import random
import ssl
import time
from collections import Counter
from functools import cache
from itertools import accumulate
from pathlib import Path
from typing import Any

import gevent.ssl
from locust import FastHttpUser, events, task
from locust.env import Environment
from locust.runners import WorkerRunner
from locust.stats import calculate_response_time_percentile

from bench.shapes import PATH, Call, prepare, read_mix

SETTINGS = json.loads(Path(os.environ["BENCH_LOAD"]).read_text(encoding="utf-8"))
ANSWERS = [answer.encode() for answer in SETTINGS["answers"]]
CALLS = prepare(*read_mix(), pace_us=SETTINGS["pace_us"])
SUMS = list(accumulate(call.weight for call in CALLS))
SPREAD = 1.0  # sigma of the log-normal think time: its median is 0.6 of its mean, one in a hundred is 6 times the mean


@cache
def trusting() -> ssl.SSLContext:
    """One for all users: each would read the CA's file again."""
    return gevent.ssl.create_default_context(cafile=SETTINGS["ca"])


class Speaker(FastHttpUser):
    abstract = True
    insecure = False
    way = ""
    prefix = ""

    def on_start(self) -> None:
        self._due_s = time.monotonic()

    def wait_time(self) -> float:
        mean_s = SETTINGS["think_s"]
        self._due_s += random.lognormvariate(math.log(mean_s) - SPREAD**2 / 2, SPREAD)
        return max(0.0, self._due_s - time.monotonic())

    @task
    def speak(self) -> None:
        call = random.choices(CALLS, cum_weights=SUMS)[0]
        headers = call.headers | {"authorization": f"Bearer {SETTINGS['key']}", "accept-encoding": "identity"}
        name = f"{self.way}, {'stream: first event' if call.stream else 'plain'}"
        with self.client.post(
            f"{self.prefix}{PATH}",
            data=call.body,
            headers=headers,
            name=name,
            stream=call.stream,
            catch_response=True,
        ) as answer:
            if answer.status_code != 200:
                answer.failure(f"status {answer.status_code}: {getattr(answer, 'error', '')}")
            elif call.stream:
                self._follow(call, answer)
            elif wrong := difference(answer.content or b"", ANSWERS[call.shape]):
                answer.failure(wrong)

    def _follow(self, call: Call, answer: Any) -> None:
        """Reads a stream event by event. Its start is in the answer's own line, its end in a second one."""
        began_s = time.perf_counter() - answer.request_meta["response_time"] / 1000
        got = bytearray()
        wrong = ""
        try:
            while event := answer._response.readline(b"\n\n"):
                if not got:
                    answer.request_meta["response_time"] = (time.perf_counter() - began_s) * 1000
                got += event
            got += answer._response.read()
        except Exception as exc:  # locust counts it; any other end of the user would hide it
            wrong = f"stream broke after {len(got)} bytes: {exc!r}"
        wrong = wrong or difference(bytes(got), ANSWERS[call.shape])
        if wrong:
            answer.failure(wrong)
        self.environment.events.request.fire(
            request_type="END",
            name=f"{self.way}, stream: last event",
            response_time=(time.perf_counter() - began_s) * 1000,
            response_length=len(got),
            exception=None,
            context={},
        )


class ByBaseUrl(Speaker):
    way = "base_url"
    host = SETTINGS["base_url"]
    prefix = SETTINGS["base_path"]


class ByProxy(Speaker):
    """HTTPS_PROXY: a CONNECT, then TLS to the provider's name, which the sidecar ends."""

    way = "HTTPS_PROXY"
    host = SETTINGS["provider"]
    proxy_host = SETTINGS["proxy_host"]
    proxy_port = SETTINGS["proxy_port"]

    @staticmethod
    def ssl_context_factory(**_: object) -> ssl.SSLContext:
        return trusting()  # whatever roots the client library brings, the sidecar's CA is the only one


def difference(got: bytes, wanted: bytes) -> str:
    """Where an answer begins to be wrong; empty when every byte is right."""
    if got == wanted:
        return ""
    same = next((at for at, (a, b) in enumerate(zip(got, wanted, strict=False)) if a != b), min(len(got), len(wanted)))
    return f"body differs at byte {same} ({len(got)} bytes instead of {len(wanted)})"


@events.quitting.add_listener
def tell(environment: Environment, **_: object) -> None:
    path = os.environ.get("BENCH_LOAD_RESULT")
    if not path or isinstance(environment.runner, WorkerRunner):
        return
    entries, times, counts = [], Counter[int](), Counter[str]()
    for entry in environment.stats.entries.values():
        percentiles = {f"p{p:g}": entry.get_response_time_percentile(p / 100) for p in (50, 99, 99.9)}
        entries.append(
            {"name": entry.name, "method": entry.method, "requests": entry.num_requests, "failures": entry.num_failures}
            | percentiles
        )
        if entry.method == "POST":
            times.update(entry.response_times)
            counts.update(requests=entry.num_requests, failures=entry.num_failures)
    errors = Counter[str]()
    for error in environment.stats.errors.values():
        errors[f"{error.name}: {error.error}"] += error.occurrences
    total = sum(times.values())
    result = {
        "entries": entries,
        "requests": counts["requests"],
        "failures": counts["failures"],
        "errors": dict(errors.most_common(10)),
        "p50_ms": calculate_response_time_percentile(times, total, 0.5) if total else None,
        "p99_ms": calculate_response_time_percentile(times, total, 0.99) if total else None,
    }
    Path(path).write_text(json.dumps(result), encoding="utf-8")
