"""What a process that serves does around its sidecar, be it alone or one of several: memory, secrets, signals.

Rules: the first SIGTERM or SIGINT drains, a second ends at once, SIGHUP reloads; a credential that was read from the
environment is in no child's and in no dump.
Does not know: what is served.
"""

import asyncio
import contextlib
import gc
import signal
from collections.abc import Callable, Coroutine
from typing import Any, Protocol

from outrider.config import Config
from outrider.secrets.hygiene import forget_variables
from outrider.secrets.sources import variables_of
from outrider_ext import process, readbuffers


class Server(Protocol):
    """A Sidecar, or the Supervisor of several; started."""

    def reload_from_file(self) -> None: ...
    def drain(self) -> Coroutine[Any, Any, None]: ...


def prepare_memory() -> None:
    """Before the first connection; without it memory grows further, and that is all."""
    readbuffers.install()


def settle_memory() -> None:
    """What start-up made stays for good: the collector need not look at it again, and less often at what is young.

    What start-up alone ran does not.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)
    process.trim_code()


def forget_credentials(config: Config) -> None:
    """What config read from the environment is taken out of ours."""
    for provider in config.providers.values():
        if provider.credential is not None:
            forget_variables(variables_of(provider.credential))


async def until_told(server: Server, announce: Callable[[], None]) -> None:
    """`announce` once signals are heard; returns when the server has drained, or was told twice to end."""
    loop = asyncio.get_running_loop()
    told, now = asyncio.Event(), asyncio.Event()

    def on_signal() -> None:
        (now if told.is_set() else told).set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
    loop.add_signal_handler(signal.SIGHUP, server.reload_from_file)
    announce()
    await told.wait()
    drain = loop.create_task(server.drain(), name="drain")
    hurry = loop.create_task(now.wait(), name="second signal")
    await asyncio.wait((drain, hurry), return_when=asyncio.FIRST_COMPLETED)
    hurry.cancel()
    if not drain.done():
        drain.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await drain
