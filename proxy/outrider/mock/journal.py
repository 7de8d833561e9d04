"""What arrived, as it arrived: the mock provider's journal.

Rules: header names keep their case and order; the target is the request line's own bytes, never decoded; the body is
what the transfer coding carried (chunk borders are not kept, a `content-encoding` is not undone). An entry is in the
journal as soon as its head arrived, so that a body which never ends is seen too.
Reading is safe from any thread. Does not know: HTTP, providers.
"""

import base64
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class Journalled:
    """One request. `at_s` is wall-clock seconds since the epoch; `peer_port` the client's TCP port.

    `connection_id` counts the mock's connections from 1, so that equal ids mean one kept connection.
    `completed`: the whole answer was handed to the socket. `disconnected`: the client left before that.
    `status` is the answer's status, 0 until there is one; `sent_bytes` counts body bytes before framing.
    """

    method: str
    target: str
    version: str
    headers: list[tuple[bytes, bytes]]
    at_s: float
    peer_port: int
    tls_sni: str | None
    connection_id: int
    provider: str = ""
    body: bytes = b""
    body_complete: bool = False
    status: int = 0
    sent_bytes: int = 0
    sent_events: int = 0
    completed: bool = False
    disconnected: bool = False
    messages: list[str] = field(default_factory=list)  # text that came over a WebSocket

    def header(self, name: str) -> str | None:
        """The first value of a header, whatever its case; None when it did not come."""
        wanted = name.lower().encode()
        return next((value.decode("latin-1") for key, value in self.headers if key.lower() == wanted), None)

    def all(self, name: str) -> list[str]:
        """Every value of a header, in the order in which they came."""
        wanted = name.lower().encode()
        return [value.decode("latin-1") for key, value in self.headers if key.lower() == wanted]

    def to_json(self) -> dict[str, Any]:
        """The entry for `GET /__mock__/journal`: header bytes as latin-1, the body as base64 beside its text."""
        row = {name: getattr(self, name) for name in self.__slots__}
        row["headers"] = [[key.decode("latin-1"), value.decode("latin-1")] for key, value in self.headers]
        row["body"] = self.body.decode("utf-8", "replace")
        row["body_base64"] = base64.b64encode(self.body).decode()
        return row


class Journal:
    """A thread-safe list of `Journalled`, oldest first; at most `max_entries` are kept, the oldest go first."""

    def __init__(self, max_entries: int = 100_000) -> None:
        self._entries: list[Journalled] = []
        self._lock = threading.Lock()
        self._max_entries = max_entries

    def add(self, entry: Journalled) -> None:
        with self._lock:
            self._entries.append(entry)
            if len(self._entries) > self._max_entries:
                del self._entries[: self._max_entries // 10 or 1]

    def clear(self) -> None:
        with self._lock:
            self._entries.clear()

    def snapshot(self) -> list[Journalled]:
        with self._lock:
            return list(self._entries)

    def __len__(self) -> int:
        with self._lock:
            return len(self._entries)

    def __getitem__(self, index: int) -> Journalled:
        with self._lock:
            return self._entries[index]

    def __iter__(self) -> Iterator[Journalled]:
        return iter(self.snapshot())
