"""The placeholder: what an app holds instead of a key.

Rules: random per installation and kept beside the CA, so that a restart refuses no running app; shaped like a key,
since SDKs look at the prefix; compared in constant time. The AWS pair is derived from it, since an AWS SDK needs two.
It is no credential of any provider, but it opens this sidecar: it is shown to the apps it serves and to no one else.
"""

import base64
import hashlib
import hmac
import re
import secrets
import string
from pathlib import Path

from outrider.errors import StartError
from outrider.secrets.files import read_capped, reason, write_private

FILE_NAME = "placeholder"
PREFIX = "sk-outrider-"
RANDOM_CHARS = 40

_ALPHABET = string.ascii_letters + string.digits
_SHAPE = re.compile(re.escape(PREFIX.encode()) + rb"[A-Za-z0-9]{%d}\n?" % RANDOM_CHARS)
_SCHEMES = (b"bearer ", b"token ", b"key ", b"api-key ")


class Placeholder:
    """One installation's placeholder.

    value: str, `sk-outrider-` and 40 letters and digits (238 bits).
    aws_access_key_id, aws_secret_access_key: str of the lengths that AWS SDKs expect (20 and 40).
    """

    __slots__ = ("_access_key", "_bytes", "aws_access_key_id", "aws_secret_access_key", "value")

    def __init__(self, value: str) -> None:
        self.value = value
        self._bytes = value.encode("ascii")
        digest = hashlib.sha256(b"outrider aws access key id\0" + self._bytes).digest()
        self.aws_access_key_id = "AKIA" + base64.b32encode(digest)[:16].decode("ascii")
        self._access_key = self.aws_access_key_id.encode("ascii")
        digest = hashlib.sha256(b"outrider aws secret access key\0" + self._bytes).digest()
        self.aws_secret_access_key = base64.b64encode(digest)[:40].decode("ascii")

    @classmethod
    def open(cls, directory: Path) -> "Placeholder":
        """Read the folder's placeholder, or make one (file mode 0600); two that start at once end with the same.

        Raises: StartError (exit 1) with one sentence when the file cannot be read or written, or is not one of ours.
        """
        path = directory / FILE_NAME
        try:
            if not path.exists():
                fresh = PREFIX + "".join(secrets.choice(_ALPHABET) for _ in range(RANDOM_CHARS))
                write_private(path, fresh.encode("ascii") + b"\n", replace=False)
            raw = read_capped(path, 4096)
        except OSError as exc:
            raise StartError(
                f"the placeholder {path} cannot be read or written: {reason(exc)}; "
                "give this user the folder or set ca.dir"
            ) from exc
        if not _SHAPE.fullmatch(raw):
            raise StartError(f"{path} does not hold a placeholder of this program; remove the file and start again")
        return cls(raw.decode("ascii").rstrip("\n"))

    def is_in(self, value: bytes) -> bool:
        """Whether an auth slot's value is the placeholder, bare or after `Bearer` or another scheme's word."""
        bare = value.strip(b" \t")
        for scheme in _SCHEMES:
            if bare[: len(scheme)].lower() == scheme:
                bare = bare[len(scheme) :].lstrip(b" \t")
                break
        return hmac.compare_digest(bare, self._bytes)

    def is_access_key(self, access_key_id: bytes) -> bool:
        """Whether a SigV4 `Credential` names the AWS form of the placeholder."""
        return hmac.compare_digest(access_key_id, self._access_key)

    @property
    def canaries(self) -> tuple[bytes, ...]:
        """What may not stand in anything that leaves."""
        return self._bytes, self._access_key

    def occurs_in(self, value: bytes) -> bool:
        """Whether the placeholder, or its AWS key id, stands anywhere in `value`: a canary on its way elsewhere."""
        return self._bytes in value or self._access_key in value

    def __repr__(self) -> str:
        return "Placeholder('****')"

    __str__ = __repr__
