"""The token of the admin port: who may change something there has to show it.

Rules: random, made once and kept beside the CA in a file that only this user reads; compared in constant time; read
anew for each change, so that a new file is in force at once. It is never logged.
Does not know: HTTP beyond the value of one field.
"""

import re
import secrets
from hmac import compare_digest
from pathlib import Path

from outrider.errors import StartError
from outrider.secrets.files import read_capped, readable_by_others, reason, write_private

FILE_NAME = "admin-token"
_LINE = re.compile(rb"[0-9a-f]{64}\n?")


class AdminToken:
    """One installation's. path: where it stands."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / FILE_NAME

    def ensure(self) -> None:
        """Make it where there is none; two that start at once end with the same. Raises: StartError."""
        try:
            if not self.path.exists():
                write_private(self.path, secrets.token_hex(32).encode("ascii") + b"\n", replace=False)
        except OSError as exc:
            raise StartError(f"the admin port's token {self.path} cannot be written: {reason(exc)}") from exc

    def is_shown_in(self, authorization: bytes | None) -> bool:
        """Whether the field's value is `Bearer` and the token. A file that others can read opens nothing."""
        scheme, _, shown = (authorization or b"").partition(b" ")
        if scheme.lower() != b"bearer":
            return False
        try:
            line = read_capped(self.path, 4096)
            if readable_by_others(self.path):
                return False
        except OSError:
            return False
        return _LINE.fullmatch(line) is not None and compare_digest(shown.strip(), line.strip())
