"""`outrider cache invalidate`: a running sidecar forgets remembered answers.

Rules: it asks the admin port that the configuration names, and shows that sidecar's token from beside its CA; the token
goes to a loopback address or a socket's file only, and is never printed. It changes nothing else.
Does not know: what is remembered.
"""

import argparse
import http.client
import json
import os
import socket
from ipaddress import ip_address
from typing import Any

from outrider.admin.token import FILE_NAME
from outrider.cli.arguments import actions_of, add_config
from outrider.config import Config, load
from outrider.config.values import UNIX
from outrider.errors import StartError
from outrider.secrets.files import read_capped, reason

HELP = (
    "invalidate: a running sidecar forgets remembered answers, those of one model, of one caller, of one key, or all. "
    "Of a fleet that shares its answers all sidecars do."
)
EXAMPLE = "outrider cache invalidate --model gpt-4o"
PATH = "/api/v1/cache/invalidate"
TIMEOUT_S = 10.0
_ANSWER_BYTES = 65_536


def add_arguments(parser: argparse.ArgumentParser) -> None:
    example = "outrider cache invalidate --model gpt-4o --principal checkout"
    one = actions_of(parser, "invalidate")("invalidate", _invalidate, "forget answers", example)
    one.add_argument("--all", action="store_true", help="all that is remembered")
    one.add_argument("--key", metavar="HEX", help="the answer under this key, 64 hex digits")
    one.add_argument("--model", metavar="NAME", help="answers of this model, as apps ask for it")
    one.add_argument("--principal", metavar="ID", help="answers that this caller asked for first")
    add_config(one)


def _invalidate(args: argparse.Namespace) -> int:
    asked = _asked(args)
    config = load(args.config, os.environ)
    status, said = ask(config, asked)
    if status != 200:
        exit_code = 2 if status == 400 else 1
        raise StartError(f"the sidecar forgot nothing ({status}): {_sentence(said)}", exit_code=exit_code)
    count = json.loads(said)["forgotten"]
    print(f"forgot {count} answer{'' if count == 1 else 's'}")
    return 0


def _asked(args: argparse.Namespace) -> dict[str, Any]:
    """What is sent. Raises: StartError."""
    named = {name: value for name in ("key", "model", "principal") if (value := getattr(args, name)) is not None}
    if args.all and named:
        raise StartError(f"--all is everything; leave --{next(iter(named))} or --all out", exit_code=2)
    if args.all:
        return {"all": True}
    if not named:
        raise StartError("name what is to be forgotten: --model, --principal, --key, or --all", exit_code=2)
    return named


def ask(config: Config, asked: dict[str, Any]) -> tuple[int, bytes]:
    """(status, body) of the admin port. Raises: StartError where it is not there, or may not be shown the token."""
    where = config.where("listen", "admin")
    if not config.listen.admin:
        raise StartError(f"{where}: listen.admin is off, so no sidecar can be told; set it, and restart", exit_code=2)
    place = config.listen.admin[0]
    token = _token(config)
    connection = _connection(where, place)
    try:
        headers = {"authorization": f"Bearer {token}", "content-type": "application/json"}
        connection.request("POST", PATH, json.dumps(asked).encode(), headers)
        answer = connection.getresponse()
        return answer.status, answer.read(_ANSWER_BYTES)
    except (OSError, http.client.HTTPException) as exc:
        why = reason(exc) if isinstance(exc, OSError) else "the answer is no HTTP"
        raise StartError(f"no sidecar answers at {place} ({why}); start it, or name its configuration") from exc
    finally:
        connection.close()


def _token(config: Config) -> str:
    path = config.ca.dir / FILE_NAME
    try:
        return read_capped(path, 4096).decode("ascii").strip()
    except (OSError, UnicodeDecodeError) as exc:
        why = reason(exc) if isinstance(exc, OSError) else "it is no token"
        raise StartError(
            f"the admin port's token {path} cannot be read: {why}; run this as the sidecar's user, with its config"
        ) from exc


class _Unix(http.client.HTTPConnection):
    """To a socket's file."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=TIMEOUT_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(TIMEOUT_S)
        self.sock.connect(self._path)


def _connection(where: str, place: str) -> http.client.HTTPConnection:
    """Raises: StartError where the token would leave this machine."""
    if place.startswith(UNIX):
        return _Unix(place.removeprefix(UNIX))
    host, _, port = place.replace("localhost:", "127.0.0.1:").rpartition(":")
    address = ip_address(host.strip("[]"))
    if address.is_unspecified:
        host, address = ("127.0.0.1", ip_address("127.0.0.1")) if address.version == 4 else ("[::1]", ip_address("::1"))
    if not address.is_loopback:
        raise StartError(
            f"{where}: the token is not sent in the clear to {place}; run this where listen.admin is a loopback one",
            exit_code=2,
        )
    return http.client.HTTPConnection(host.strip("[]"), int(port), timeout=TIMEOUT_S)


def _sentence(said: bytes) -> str:
    return said.decode("utf-8", "replace").strip()[:300] or "it did not say why"
