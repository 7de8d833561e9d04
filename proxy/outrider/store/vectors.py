"""Vectors of questions that were answered, so that the nearest of those that may be compared is found.

Rules: at most `max_entries` in all, the one longest unused goes first; a bucket holds vectors of which any may stand
for any other, and nothing is ever compared across buckets. Linear in the entries of a bucket.
Does not know: what a bucket stands for, where the answers are.
"""

from collections import OrderedDict
from dataclasses import dataclass, field

from outrider_ext.nearest import nearest


@dataclass(slots=True)
class _Bucket:
    """The same place in both is one entry."""

    keys: list[bytes] = field(default_factory=list)
    rows: list[bytes] = field(default_factory=list)


class Vectors:
    """key -> (bucket, vector). Vectors are packed and of unit length (outrider_ext.nearest.unit).

    Memory: `max_entries` vectors and their keys.
    """

    def __init__(self, max_entries: int) -> None:
        self.max_entries = max_entries
        self._buckets: dict[bytes, _Bucket] = {}
        self._bucket_of: OrderedDict[bytes, bytes] = OrderedDict()  # the one used last at the end

    def __len__(self) -> int:
        return len(self._bucket_of)

    def put(self, bucket: bytes, key: bytes, vector: bytes) -> None:
        self.drop(key)
        held = self._buckets.setdefault(bucket, _Bucket())
        held.keys.append(key)
        held.rows.append(vector)
        self._bucket_of[key] = bucket
        while len(self._bucket_of) > self.max_entries:
            self.drop(next(iter(self._bucket_of)))

    def get(self, key: bytes) -> tuple[bytes, bytes] | None:
        """(bucket, vector)"""
        bucket = self._bucket_of.get(key)
        if bucket is None:
            return None
        held = self._buckets[bucket]
        return bucket, held.rows[held.keys.index(key)]

    def nearest(self, bucket: bytes, vector: bytes) -> tuple[bytes, float] | None:
        """(key, similarity) of the nearest in the bucket, however far it is."""
        held = self._buckets.get(bucket)
        if held is None:
            return None
        at, similarity = nearest(vector, held.rows)
        if at < 0:
            return None
        key = held.keys[at]
        self._bucket_of.move_to_end(key)
        return key, similarity

    def drop(self, key: bytes) -> None:
        bucket = self._bucket_of.pop(key, None)
        if bucket is None:
            return
        held = self._buckets[bucket]
        at = held.keys.index(key)
        held.keys[at], held.rows[at] = held.keys[-1], held.rows[-1]
        held.keys.pop()
        held.rows.pop()
        if not held.keys:
            del self._buckets[bucket]


__all__ = ["Vectors"]
