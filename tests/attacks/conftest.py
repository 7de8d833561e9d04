"""Attacked is a sidecar that holds a key: `local` here is the rig's."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from attacks.attack_rig import local
from outrider.runtime import Sidecar
from support.running import running
from support.wire import Provider


@pytest.fixture
async def sidecar(tmp_path: Path, provider: Provider) -> AsyncIterator[Sidecar]:
    async with running(tmp_path, local(provider.url)) as one:
        yield one
