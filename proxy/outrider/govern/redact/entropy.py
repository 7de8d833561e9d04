"""How much a text looks as if it had been drawn at random.

Does not know: words, patterns.
"""

import math


def bits_per_char(value: bytes) -> float:
    """Shannon entropy of the bytes' frequencies; at most log2 of the length."""
    if not value:
        return 0.0
    size = len(value)
    return -sum(n / size * math.log2(n / size) for n in (value.count(byte) for byte in set(value)))
