"""Keys planted in every source are found nowhere: not in reprs, logs, pickles, tracebacks or a process's output."""

import copy
import gc
import logging
import pickle
import traceback
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from outrider.config import load
from outrider.secrets.injection import Injector
from outrider.secrets.placeholder import Placeholder
from outrider.secrets.secret import Secret
from outrider.secrets.sigv4 import Signer
from outrider.secrets.sources import AwsCredentials, AwsSource, EnvSource, FileSource

PLANTED = "PLANTED0123456789"


def holders(tmp_path: Path) -> list[Any]:
    """One of everything that holds a planted key."""
    (tmp_path / "key").write_text(PLANTED)
    frozen = SimpleNamespace(access_key=PLANTED, secret_key=PLANTED, token=PLANTED)
    chain = SimpleNamespace(get_frozen_credentials=lambda: frozen)
    aws = AwsSource("p", session=lambda profile: SimpleNamespace(get_credentials=lambda: chain))
    aws.refresh()
    injector = Injector("authorization", "Bearer ")
    injector.header_lines(Secret(PLANTED.encode()))
    config = load(None, {"HOME": "/h", "OUTRIDER__UPSTREAM__PROXY": f"http://u:{PLANTED}@h:1"}, tmp_path)
    return [
        Secret(PLANTED.encode()),
        EnvSource("K", {"K": PLANTED}),
        FileSource(tmp_path / "key"),
        aws,
        aws.current(),
        injector,
        Signer("r", "bedrock"),
        Placeholder("sk-outrider-" + PLANTED),
        AwsCredentials("id", Secret(PLANTED.encode()), Secret(PLANTED.encode())),
        config.upstream,
        config,
    ]


def test_planted_keys_are_in_no_repr_log_or_traceback(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def fails(held: Any) -> None:
        raise RuntimeError(held, [held], {"held": held})

    shown = []
    for held in holders(tmp_path):
        logging.getLogger("planted").error("%s %r", held, [held])
        shown += [repr(held), str(held), f"{held}", f"{held!s:>80}"]
        try:
            fails(held)
        except RuntimeError as exc:
            shown.append("".join(traceback.TracebackException.from_exception(exc, capture_locals=True).format()))
    gc.collect()
    text = "\n".join([*shown, caplog.text])
    assert "PLANTED" not in text
    assert "Secret('****')" in text


def test_planted_keys_are_in_no_pickle_or_deep_copy(tmp_path: Path) -> None:
    for held in holders(tmp_path):
        if isinstance(held, (Injector, Placeholder, Signer)):
            continue  # holds the line that goes out; never leaves its owner
        for take in (pickle.dumps, copy.deepcopy):
            with pytest.raises((TypeError, AttributeError, pickle.PicklingError)) as failed:
                take(held)
            assert "PLANTED" not in str(failed.value)
