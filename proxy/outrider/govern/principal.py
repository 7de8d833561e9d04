"""Who is calling, as everything below the door knows them.

Rules: a principal comes from configuration; a client can claim to be one, never make one. Objects are compared by
identity, so that tables keyed by them cost one hash of a pointer: one object per principal and configuration.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

FIELDS = ("id", "team", "project", "environment")  # what limits, budgets and rules may name as `principal.FIELD`


@dataclass(frozen=True, slots=True, eq=False)
class Principal:
    """`team`, `project` and `environment` are "" where nobody said."""

    id: str
    team: str = ""
    project: str = ""
    environment: str = ""
    roles: frozenset[str] = frozenset()
    labels: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def is_anonymous(self) -> bool:
        return self is ANONYMOUS


ANONYMOUS = Principal("anonymous")
