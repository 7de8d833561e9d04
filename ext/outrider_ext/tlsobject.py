# cython: annotation_typing=False
"""What a TLS connection costs beside its cipher, taken off: `context.sslobject_class = DirectObject`.

Rules: nothing of the protocol changes; every call reaches the same `_ssl` object as ssl.SSLObject's own methods do.
- `read`, `write` and `pending`, which the event loop calls for every record, go there without a Python frame between.
- A read asks for one record's worth (RFC 8446 section 5.1: 2**14 bytes) and not, as the loop does, for 256 KiB: an
  object of that size is mapped, cut and unmapped again by the allocator, three system calls for each read.

Does not know: contexts, certificates, sockets.
"""

import ssl
from typing import Any, Self

__all__ = ["DirectObject", "RecordReader"]

RECORD_BYTES = 1 << 14


class RecordReader:
    """read(size) -> bytes; read(size, buffer) -> int. At most one record at a time."""

    def __init__(self, read: Any) -> None:
        self._read = read

    def __call__(self, size: int, buffer: Any = None) -> Any:
        if buffer is not None:
            return self._read(size, buffer)
        return self._read(size if size < RECORD_BYTES else RECORD_BYTES)


class DirectObject(ssl.SSLObject):
    @classmethod
    def _create(cls, *args: Any, **kwargs: Any) -> Self:
        self: Any = super()._create(*args, **kwargs)  # type: ignore[misc]
        inner = self._sslobj
        self.read, self.write, self.pending = RecordReader(inner.read), inner.write, inner.pending
        return self  # type: ignore[no-any-return]
