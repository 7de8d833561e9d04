"""What every test gets: uvloop, a leak check, hypothesis profiles, the shared vectors.

Rules: a test that leaves a task, a socket or a file behind fails, and the message names what it left.
Warnings are errors (pyproject.toml), so a transport or a file closed only by the garbage collector fails too.
"""

import asyncio
import gc
import inspect
import os
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from multiprocessing import resource_tracker
from pathlib import Path

import hypothesis
import pytest
import uvloop

from outrider.runtime import Sidecar
from support.running import client_of, local, running
from support.wire import Peer, Provider

ROOT = Path(__file__).resolve().parents[1]
# A server in another thread closes its end of a connection a moment after the test has closed the other.
SERVER_NOTICES_S = 2.0
# Last, so that the metadata of what is installed is found before that of a build in this folder.
sys.path.append(str(ROOT))

# Where bytecode files are forbidden, each of the hundreds of commands that tests start would compile all of it anew.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

hypothesis.settings.register_profile("ci", derandomize=True, deadline=None, print_blob=True)
hypothesis.settings.register_profile("dev", deadline=None)
hypothesis.settings.register_profile("long", deadline=None, max_examples=5000)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))

# libuv opens some descriptors once per process and keeps them; no test may be blamed for those.
uvloop.new_event_loop().close()


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"uvloop": uvloop.new_event_loop}


def open_files() -> Counter[str]:
    """What each descriptor of this process points at; `socket:[inode]` for sockets."""
    # pytest's capture moves the standard three about; the resource tracker's is one per process, kept on purpose.
    ignored = {"0", "1", "2", str(getattr(resource_tracker._resource_tracker, "_fd", None))}
    names: Counter[str] = Counter()
    for fd in os.listdir("/proc/self/fd"):
        if fd in ignored:
            continue
        try:
            names[os.readlink(f"/proc/self/fd/{fd}")] += 1
        except FileNotFoundError:  # the descriptor that listed them
            continue
    return names


def describe_files(names: Counter[str]) -> str:
    """Names for people: a socket's inode is looked up in the kernel's tables."""
    sockets = {}
    for table in ("tcp", "tcp6", "udp", "udp6", "unix"):
        for line in Path(f"/proc/self/net/{table}").read_text(encoding="ascii", errors="replace").splitlines()[1:]:
            words = line.split()
            inode, detail = (words[6], " ".join(words[7:])) if table == "unix" else (words[9], f"{words[1]}>{words[2]}")
            sockets[f"socket:[{inode}]"] = f"{table} {detail}"
    return ", ".join(f"{name} ({sockets[name]})" if name in sockets else name for name in names.elements())


def pytest_collection_finish() -> None:
    """Thousands of tests stand in memory till the end: a collector that looks at them each time takes a second."""
    gc.collect()
    gc.freeze()


@pytest.fixture
async def no_leaked_tasks() -> AsyncIterator[None]:
    """Set up before and torn down after every other fixture of the test that needs the loop."""
    yield
    own = asyncio.current_task()
    for _ in range(5):  # what was cancelled or closed in tear-down may take a few turns of the loop to end
        await asyncio.sleep(0)
    left = [task for task in asyncio.all_tasks() if task is not own and not task.done()]
    assert not left, "tasks left running: " + ", ".join(f"{task.get_name()} {task.get_coro()!r}" for task in left)


@pytest.fixture(autouse=True)
def no_leaks(request: pytest.FixtureRequest) -> Iterator[None]:
    before = open_files()
    if inspect.iscoroutinefunction(getattr(request.node, "obj", None)):
        request.getfixturevalue("no_leaked_tasks")
    yield
    request.node.files_before = before


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Iterator[None]:
    """After every fixture of the test, the event loop included, the descriptors are those of before."""
    result = yield
    before = getattr(item, "files_before", None)
    if before is None or not open_files() - before:
        return result
    gc.collect()  # a reference cycle is not a leak
    deadline = time.monotonic() + SERVER_NOTICES_S
    while (left := open_files() - before) and time.monotonic() < deadline:
        time.sleep(0.005)
    assert not left, f"files left open: {describe_files(left)}"
    return result


@pytest.fixture(scope="session")
def vectors() -> Path:
    """The folder of test vectors; the test is skipped when it is not there."""
    folder = Path(os.environ.get("OUTRIDER_VECTORS") or ROOT.parent / "shared" / "vectors")
    if not folder.is_dir():
        pytest.skip(f"No test vectors at {folder}; set OUTRIDER_VECTORS to their folder.")
    return folder


# -- a sidecar in this loop, before a provider that says what a test tells it to


@pytest.fixture
async def provider(no_leaked_tasks: None) -> AsyncIterator[Provider]:
    async with Provider() as one:
        yield one


@pytest.fixture
async def sidecar(tmp_path: Path, provider: Provider) -> AsyncIterator[Sidecar]:
    async with running(tmp_path, local(provider.url)) as one:
        yield one


@pytest.fixture
async def app(sidecar: Sidecar) -> AsyncIterator[Peer]:
    peer = await client_of(sidecar)
    yield peer
    peer.close()
