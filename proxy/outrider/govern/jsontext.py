"""JSON texts that others wrote: read whatever the parser of their receiver would read, written as they spelled them.

Rules: half a surrogate pair and an integer beyond 64 bits are read and written; a number that was not changed
keeps its spelling.
Does not know: what stands in them.
"""

from typing import Any

import orjson

from outrider_ext.jsonsplice import SpliceError, has_own_spelling, splice


def dump(value: Any) -> bytes:
    try:
        return orjson.dumps(value)
    except TypeError:  # half a surrogate pair, or an integer beyond 64 bits
        import json

        return json.dumps(value, separators=(",", ":")).encode()


def written(text: bytes, value: Any) -> bytes:
    """The JSON text of `value`, which was loaded from `text` and then changed: what is the same keeps its spelling.

    Where every number is spelled as we spell it, as nearly everywhere, all of it is written anew: that costs a tenth.
    """
    if not has_own_spelling(text, load, dump):
        return dump(value)
    try:
        return splice(text, value, load, dump)
    except SpliceError:  # a text that is not in UTF-8, or nested deeper than is looked at
        return dump(value)


def load(data: bytes) -> Any:
    """Raises: ValueError."""
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        import json

        return json.loads(data)  # the same, but for half a surrogate pair; RecursionError is for the caller
