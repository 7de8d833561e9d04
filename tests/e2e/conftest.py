"""Fixtures of the tests that ride: an app, the whole sidecar, a provider that keeps a journal."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from e2e.rig import FOREIGN, Ride, riding

type Start = Callable[..., Ride]


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The mock's and the sidecar's CA, made once."""
    return tmp_path_factory.mktemp("certificates")


@pytest.fixture
def start(tmp_path: Path, certificates: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    """start(section={...}) -> Ride; the sections are laid over a configuration where every provider has its key."""
    for name in FOREIGN:
        monkeypatch.delenv(name, raising=False)
    with ExitStack() as stack:

        def begin(*, mock: dict[str, Any] | None = None, **sections: Any) -> Ride:
            return stack.enter_context(riding(tmp_path, certificates, sections, **(mock or {})))

        yield begin


@pytest.fixture
def ride(start: Start) -> Ride:
    """With every provider's key, and nothing else set."""
    return start()
