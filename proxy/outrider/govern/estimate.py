"""Tokens that a call will take, guessed without a tokenizer, and corrected by what such calls took.

Rules
- A body's tokens are guessed from its bytes by class (outrider_ext.limits.estimate_tokens), then multiplied by what was
  seen for the model's family: the mean of actual / estimated, an error of each direction unlearned within fifty calls.
- An answer's tokens are the 90th percentile of what this caller's answers from this model held.
- What is remembered is bounded: so many families, and so many (caller, model) pairs, the least used forgotten first.
Does not know: limits, HTTP.
"""

import re
from collections import OrderedDict

from outrider_ext.limits import Family, Outputs

FAMILIES_MAX = 256
CALLERS_MAX = 10_000
_NAME = re.compile(r"[a-z]+(?:-[a-z]+)?-?v?\d*")
OTHER = "other"
# Bedrock's spellings: a region's profile, then the vendor.
_VENDORS = ("us.", "eu.", "apac.", "global.", "anthropic.", "amazon.", "meta.", "mistral.", "cohere.", "ai21.")


def family_of(model: str | None) -> str:
    """ "gpt-4" of "gpt-4o-mini-2024-07-18", "claude-sonnet-4" of "us.anthropic.claude-sonnet-4-5-20250929-v1:0"."""
    if not model:
        return ""
    name = model.lower().rpartition("/")[2]
    for vendor in _VENDORS:
        name = name.removeprefix(vendor)
    found = _NAME.match(name)
    return found[0][:40] if found else OTHER


class Estimates:
    """What was learned; it outlives a reload."""

    def __init__(self, families_max: int = FAMILIES_MAX, callers_max: int = CALLERS_MAX) -> None:
        self._families_max = families_max
        self._callers_max = callers_max
        self.families: dict[tuple[str, str], Family] = {}
        self._outputs: OrderedDict[tuple[str, str, str], Outputs] = OrderedDict()

    def family(self, provider: str, model: str | None) -> Family:
        name = family_of(model)
        key = (provider, name)
        found = self.families.get(key)
        if found is None:
            if len(self.families) >= self._families_max:  # the app chooses the name
                key = (provider, OTHER) if (provider, OTHER) in self.families else next(iter(self.families))
                return self.families[key]
            found = self.families[key] = Family(f"{provider}/{name}")
        return found

    def outputs(self, provider: str, principal: str, model: str | None) -> Outputs:
        key = (provider, principal, (model or "").lower()[:120])
        found = self._outputs.get(key)
        if found is None:
            while len(self._outputs) >= self._callers_max:
                self._outputs.popitem(last=False)
            found = self._outputs[key] = Outputs()
        self._outputs.move_to_end(key)
        return found
