"""A secret is a type.

Rules: it shows itself as `Secret('****')` in every spelling (repr, str, format); it cannot be pickled or copied; it is
compared in constant time and cannot be hashed; `expose()` is the one method that reveals it, so a grep finds every
place where a secret leaves.
Does not know: where a secret comes from, which host it belongs to, or the wire.
"""

import hmac
import re
from typing import NoReturn, Self, final

MASK = "Secret('****')"

# Shapes of real keys, for warnings about literals in configuration and for messages that would quote a value.
_KEY_SHAPES = re.compile(
    r"(?<![A-Za-z0-9])(?:sk-[A-Za-z0-9_-]{12,}|sk_[A-Za-z0-9_-]{12,}|xai-[A-Za-z0-9]{12,}|gsk_[A-Za-z0-9]{12,}"
    r"|hf_[A-Za-z0-9]{12,}|r8_[A-Za-z0-9]{12,}|pplx-[A-Za-z0-9]{12,}|fw_[A-Za-z0-9]{12,}|AIza[A-Za-z0-9_-]{20,}"
    r"|A[KS]IA[A-Z0-9]{16}|ABSK[A-Za-z0-9+/=]{20,}|ya29\.[A-Za-z0-9_.-]{12,}|eyJ[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_.-]+)"
)
_LONG_RANDOM = re.compile(
    r"(?<![A-Za-z0-9_+/=-])(?=[A-Za-z_+/=-]*[0-9])(?=[^a-z]*[a-z])[A-Za-z0-9_+=-]{32,}(?![A-Za-z0-9_+/=-])"
)


@final
class Secret:
    """One secret value: `bytes` that are valid in an HTTP field value.

    Equality with another Secret takes time that depends on lengths only; with anything else it is False.
    """

    __slots__ = ("__value",)
    __hash__ = None  # type: ignore[assignment]  # a hash would be a fingerprint, and a dictionary of secrets a cache of them

    def __init__(self, value: bytes) -> None:
        self.__value = bytes(value)

    @classmethod
    def from_text(cls, raw: bytes) -> Self:
        """A secret as a file or a variable holds it: one trailing newline (LF or CRLF) is taken off.

        Raises: ValueError, whose sentence never holds the value, when it is empty or holds a byte that is not printable
        ASCII (RFC 9110 §5.5: CR, LF and NUL in a field value are the end of the header, not part of it) or starts or
        ends with a space, which no receiver would see.
        """
        value = raw[:-2] if raw.endswith(b"\r\n") else raw.removesuffix(b"\n")
        if not value:
            raise ValueError("is empty")
        if b"\n" in value or b"\r" in value:
            raise ValueError("has more than one line; a secret is one line")
        if any(byte < 0x20 or byte == 0x7F for byte in value):
            raise ValueError("has a control character; a secret is printable ASCII")
        if any(byte > 0x7F for byte in value):
            raise ValueError("has a character outside ASCII; a secret is printable ASCII")
        if value[0] == 0x20 or value[-1] == 0x20:
            raise ValueError("starts or ends with a space; take it off")
        return cls(value)

    def expose(self) -> bytes:
        """The value. Every caller is a place where a secret leaves; keep it out of names, logs and errors."""
        return self.__value

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(self.__value, other.__value)

    def __repr__(self) -> str:
        return MASK

    __str__ = __repr__

    def __format__(self, format_spec: str) -> str:
        return MASK

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a Secret cannot be pickled or copied")

    # copy, deepcopy and 3.11's default __getstate__ would each hand the slot out.
    __reduce__ = __getstate__ = __copy__ = lambda self: self.__reduce_ex__(None)

    def __deepcopy__(self, memo: object) -> NoReturn:
        raise TypeError("a Secret cannot be pickled or copied")

    def __init_subclass__(cls) -> NoReturn:
        raise TypeError("Secret is final")


def looks_like_secret(text: str) -> bool:
    """Whether `text` holds something of a key's shape: a provider's prefix, or 32 mixed letters and digits in a row."""
    return bool(_KEY_SHAPES.search(text) or _LONG_RANDOM.search(text))
