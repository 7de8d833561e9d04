# cython: annotation_typing=False, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""Whether a JSON text names one thing twice, so that two readers could take it for two different requests.

Rules: within each object every key stands once, compared decoded; at the top level, where some servers compare keys
without case, they are compared so. The text is known to be JSON: a parser has accepted it. Linear in the text.
Does not know: which keys matter.
"""

from json import loads

import cython  # type: ignore[import-untyped,unused-ignore]

__all__ = ["has_repeated_key"]

if not cython.compiled:
    import re

    _SPECIAL = re.compile(rb'["\\\x00-\x1f]')

    def plain_run(data: bytes, pos: int, end: int) -> int:
        found = _SPECIAL.search(data, pos, end)
        return end if found is None else found.start()


def has_repeated_key(body: bytes) -> bool:
    """body: one valid JSON text in UTF-8."""
    end = len(body)
    pos = 0
    wants_key = False
    open_objects: list[set[bytes] | None] = []  # None stands for an array
    keys: set[bytes] | None = None
    while pos < end:
        byte = body[pos]
        if byte == 34:
            start = pos + 1
            pos = start
            escaped = False
            while True:
                pos = plain_run(body, pos, end)
                if pos >= end:
                    return False
                if body[pos] == 34:
                    break
                escaped = True
                pos += 2
            if wants_key and keys is not None:
                wants_key = False
                key = body[start:pos]
                if escaped:
                    key = loads(b'"%b"' % key).encode("utf-8", "surrogatepass")
                if len(open_objects) == 1:
                    key = key.lower()
                if key in keys:
                    return True
                keys.add(key)
        elif byte == 123:
            keys = set()
            open_objects.append(keys)
            wants_key = True
        elif byte == 91:
            keys = None
            open_objects.append(None)
            wants_key = False
        elif byte == 125 or byte == 93:  # noqa: PLR1714  (compiled: plain compares)
            if open_objects:
                open_objects.pop()
            keys = open_objects[len(open_objects) - 1] if open_objects else None
            wants_key = False
        elif byte == 44:
            wants_key = keys is not None
        pos += 1
    return False
