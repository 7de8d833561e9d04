"""What rules said about one request."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from outrider.errors import SidecarError
from outrider.govern.heads import combined
from outrider.govern.lifts import Lifting
from outrider.govern.redaction import Redaction
from outrider.govern.rules import Rewrite, Route
from outrider_ext.layers import HeadEdits


class PolicyDeniedError(SidecarError):
    """A rule refused it. `rule` is its whole id; the status is what the rule says."""

    code, status, should_retry = "policy_denied", 403, False

    def __init__(self, message: str, rule: str, status: int = 403) -> None:
        super().__init__(message)
        self.rule = rule
        self.status = status

    def again(self) -> "PolicyDeniedError":
        """One to raise: an exception that is raised twice keeps the frames of both, and a decision is remembered."""
        return PolicyDeniedError(str(self), self.rule, self.status)


@dataclass(slots=True)
class Outcome:
    """rules: ids of enforcing rules that applied, in order. shadow: ids of shadow rules that would have. errors: ids of
    rules that could not be evaluated. edits: changes to the body, in order. heads: to the head. lifts: newer versions,
    in order. refusal: the first that
    refuses it. allowed: packs of which an allow rule applied.
    """

    rules: list[str] = field(default_factory=list)
    shadow: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    tags: list[str] = field(default_factory=list)
    redactions: list[Redaction] = field(default_factory=list)
    edits: list[tuple[str, str, Rewrite | Route | Lifting]] = field(default_factory=list)  # (rule, on_error, action)
    heads: list[tuple[str, Mapping[str, str | None]]] = field(default_factory=list)  # (rule, name -> value or None)
    lifts: list[tuple[str, str, Lifting]] = field(default_factory=list)  # (rule, on_error, what it says there)
    allowed: set[str] = field(default_factory=set)
    routed: bool = False
    refusal: PolicyDeniedError | None = None

    def copy(self) -> "Outcome":
        return Outcome(
            list(self.rules), list(self.shadow), list(self.errors), list(self.tags), list(self.redactions),
            list(self.edits), list(self.heads), list(self.lifts), set(self.allowed), self.routed, self.refusal,
        )  # fmt: skip

    def head_edits(self) -> HeadEdits | None:
        return combined(change for _, change in self.heads) if self.heads else None

    def refuse(self, rule: str, sentence: str, status: int = 403) -> None:
        self.rules.append(rule)
        if self.refusal is None:
            self.refusal = PolicyDeniedError(sentence, rule, status)
