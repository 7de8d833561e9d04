"""What it costs to find a request's route, by how it came in: python -m bench.bench_routing

Whole exchanges with everything on, as in `bench_stack`; only the way to the route differs, so the difference to the
first row is its cost. A route is remembered, so its cost may depend on neither providers nor rules.
"""

import itertools
from collections.abc import Iterator

from bench import samples
from bench.bench_stack import EVERYTHING, LOCAL, OURS, PLAIN, case, went
from bench.cases import Case, run_alone
from bench.rig import FORWARD, Stack
from outrider.door.contract import Origin

CHAT_PATH = b"/v1/chat/completions"
INTERCEPTED = Origin("proxy", "connect", "llm.bench", 443, True, ("127.0.0.1", 50000))
REDIRECTED = Origin("transparent", "transparent", "llm.bench", 443, True, ("127.0.0.1", 50000), "192.0.2.1")


def via(
    name: str,
    target: bytes = b"/local" + CHAT_PATH,
    *,
    host: bytes = b"llm.bench",
    origin: Origin = FORWARD,
    providers: int = 1,
) -> Case:
    def setup() -> Stack:
        others = {f"more-{n}": {**LOCAL, "hosts": [f"more-{n}.bench"]} for n in range(1, providers)}
        sections = {**EVERYTHING, "providers": {**others, "local": LOCAL}}
        return Stack(sections, (samples.request(samples.CHAT, target, host=host),), PLAIN, origin=origin)

    return case(name, setup, went(OURS, samples.ANSWER, samples.CHAT))


class Unseen:
    """A stack whose every request has a path of its own."""

    def __init__(self) -> None:
        self.stack = Stack(EVERYTHING, (self._request(0),), PLAIN)
        self._requests: Iterator[bytes] = map(self._request, itertools.count(1))

    @staticmethod
    def _request(number: int) -> bytes:
        return samples.request(samples.CHAT, b"/local/v1/vector_stores/%d" % number)

    def run(self) -> None:
        self.stack.say((next(self._requests),))

    def close(self) -> None:
        self.stack.close()


CASES = (
    via("base_url", host=samples.OWN_HOST),
    via("base_url, Host in other letters", host=b"LOCALHOST:8484"),
    via("base_url, one of 1,000 providers", host=samples.OWN_HOST, providers=1000),
    via("forward proxy, absolute-form", b"http://llm.bench" + CHAT_PATH),
    via("intercepted CONNECT", CHAT_PATH, origin=INTERCEPTED),
    via("redirected, by SNI", CHAT_PATH, origin=REDIRECTED),
    Case(
        "base_url, a path never seen",
        Unseen,
        Unseen.run,
        lambda unseen, result: unseen.stack.is_kept and OURS in unseen.stack.to_provider,
        close=Unseen.close,
    ),
)

if __name__ == "__main__":
    raise SystemExit(run_alone(__file__))
