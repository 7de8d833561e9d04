"""A credential that is asked for over the network and good for a while: what AWS's chain and Google's have in common.

Rules: `current()` is immediate; refresh() may take its time, so it is called in a thread; one that has expired is never
handed out; the same trouble is said once.
Does not know: where it comes from (sources.AwsSource, google.GoogleSource).
"""

from collections.abc import Callable
from datetime import datetime

from outrider.errors import CredentialUnavailableError


class SlowSource[C]:
    """what: "AWS profile work", for people; kind: what that has, "credential" or "token"."""

    def __init__(self, what: str, kind: str, now: Callable[[], datetime]) -> None:
        self._what = what
        self._kind = kind
        self._now = now
        self._current: C | None = None
        self._expires_at: datetime | None = None
        self._problem = f"{what} has not been read yet; try again in a moment"
        self._warned = ""
        self.generation = 0

    def current(self) -> C:
        """Raises: CredentialUnavailableError before the first good refresh and after the credential's end."""
        if self._current is None:
            raise CredentialUnavailableError(self._problem)
        if self._expires_at is not None and self._now() >= self._expires_at:
            raise CredentialUnavailableError(f"the {self._kind} of {self._what} has expired; renew it")
        return self._current

    def _took(self, fresh: C, expires_at: datetime | None) -> None:
        self._expires_at = expires_at
        self._warned = ""
        if fresh != self._current:
            self._current = fresh
            self.generation += 1

    def _trouble(self, sentence: str) -> str | None:
        self._problem = sentence
        if sentence == self._warned:
            return None
        self._warned = sentence
        return sentence
