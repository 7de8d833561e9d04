"""The rule table of `strategy: smart`: conditions in CEL over what a call needs and who makes it.

Rules: the first row whose condition is true names the target; a condition that errs is false; nothing but the names
below can be read. The library is imported with the first table.
Names: request.model, .tokens (estimated), .max_tokens (0: not said), .messages, .stream, .has_images, .has_tools,
.has_json, .has_reasoning; principal.id, .team, .project, .environment.
Does not know: targets.
"""

from collections.abc import Sequence
from typing import Any

from outrider.govern.principal import ANONYMOUS
from outrider.stack.call import Call
from outrider.upstream.needs import Needs


class SmartRulesError(ValueError):
    """index: of the row. The message is the end of a sentence."""

    def __init__(self, index: int, message: str) -> None:
        super().__init__(message)
        self.index = index


class SmartRules:
    """rows: (condition, target's name). Raises: SmartRulesError."""

    def __init__(self, rows: Sequence[tuple[str, str]]) -> None:
        import cel

        self._rows: list[tuple[Any, str]] = []
        sample = _values(Needs(), None, "m", stream=False)
        for index, (condition, target) in enumerate(rows):
            try:
                program = cel.compile(condition)
                found = program.execute(sample)
            except Exception as exc:
                lines = str(exc).strip().splitlines()
                raise SmartRulesError(index, f"cannot be evaluated: {lines[0][-200:] if lines else 'no CEL'}") from exc
            if not isinstance(found, bool):
                raise SmartRulesError(index, "is no condition: it has to be true or false")
            self._rows.append((program, target))

    def choose(self, needs: Needs, call: Call) -> str | None:
        values = _values(needs, call.principal or ANONYMOUS, call.model or "", stream=call.stream)
        for program, target in self._rows:
            try:
                if program.execute(values) is True:
                    return target
            except Exception:  # noqa: S112  (a condition that errs is false)
                continue
        return None


def _values(needs: Needs, principal: Any, model: str, *, stream: bool) -> dict[str, Any]:
    return {
        "request": {
            "model": model,
            "tokens": needs.tokens,
            "max_tokens": max(needs.max_tokens, 0),
            "messages": needs.messages,
            "stream": stream,
            "has_images": "vision" in needs.has,
            "has_tools": "tools" in needs.has,
            "has_json": "json" in needs.has,
            "has_reasoning": "reasoning" in needs.has,
        },
        "principal": {name: getattr(principal, name, "") for name in ("id", "team", "project", "environment")},
    }
