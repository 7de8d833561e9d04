"""Configurations of Outrider, a row each: `default`, `all-on`, and either with something added or taken away.

Rules: a variant is data; its configuration is the committed file of its base with the changes made in it.
Does not know: ports, folders and certificates, which come as the values of the file's @NAMES@.
"""

import dataclasses
import itertools
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).resolve().parent
BASES = {"default": HERE / "peers" / "outrider.yaml", "all-on": HERE / "all-on.yaml"}
NEVER_REACHED = {"requests": "1000000/s", "burst": 1_000_000}
RULES_FILE = "rules.yaml"
ELSEWHERE: tuple[dict[str, Any], ...] = (
    {"model": "another-*"},
    {"principal": {"team": "another"}},
    {"provider": "anthropic"},
    {"operation": "embeddings"},
    {"host": "*.elsewhere.bench"},
    {"path": "/v1/files/*"},
)


@dataclass(frozen=True, slots=True)
class Variant:
    name: str = ""  # what stands after "outrider" in its row
    base: str = "default"
    providers: int = 0  # how many there are in all; 0: as the base has them
    limits: int = 0  # in all, those that are added for another provider; 0: as the base has them
    applying: int = 0  # limits of the called provider; 0: as the base has them
    rules: int = 0  # of a file of their own, none of which applies
    principals: int = 0  # the last of them is who calls, by its user
    changes: tuple[tuple[str, Any], ...] = ()  # dotted key, value
    slow: bool = False  # a second provider, `slow`, at the same address
    without_credential: bool = False  # the client sends the provider's key itself
    keys: int = 0  # different keys that clients send; 0: as the scenario says
    translated: bool = False  # the client speaks Anthropic's API to the sidecar, and the provider OpenAI's

    @property
    def row(self) -> str:
        return f"outrider {self.name}".strip()

    def on(self, base: str) -> "Variant":
        """The same on another base, which its name then says."""
        if base == self.base or self.base != "default":
            return self
        return dataclasses.replace(self, base=base, name=f"{base} {self.name}".strip())


DEFAULT = Variant()
ALL_ON = Variant("all-on", base="all-on")


def fill(text: str, values: Mapping[str, object]) -> str:
    """Every @NAME@ replaced."""
    for name, value in values.items():
        text = text.replace(f"@{name}@", str(value))
    return text


def rules(count: int) -> dict[str, Any]:
    """A rule file: each reads a field that is known before the body, by turns, and finds another value there."""
    return {
        "rules": [
            {"id": f"r{n}", "description": "Another's.", "match": match, "then": "deny"}
            for n, match in enumerate(itertools.islice(itertools.cycle(ELSEWHERE), count))
        ]
    }


def configuration(variant: Variant, values: Mapping[str, object]) -> dict[str, Any]:
    """The whole document, ready to be written; `local` is the provider that is called."""
    document: dict[str, Any] = yaml.safe_load(fill(BASES[variant.base].read_text(encoding="utf-8"), values))
    providers, limits = document["providers"], document["limits"]
    local = providers["local"]
    for number in range(len(providers), max(variant.providers, 2 if variant.limits else 0)):
        providers[f"more-{number:04}"] = local | {"hosts": [f"more-{number:04}.bench"]}
    if variant.slow:
        providers["slow"] = local | {"hosts": ["slow.bench"]}
    elsewhere = next((name for name in providers if name != "local"), "")
    for number in range(len(limits), variant.limits):
        limits.append({"name": f"elsewhere-{number}", "key": ["provider"], "providers": [elsewhere], **NEVER_REACHED})
    for number in range(len(limits), variant.applying):
        limits.append({"name": f"applying-{number}", "key": ["provider"], **NEVER_REACHED})
    if variant.rules:
        document["policies"] = [*document.get("policies", ()), f"{values['FOLDER']}/{RULES_FILE}"]
    if variant.principals:
        others = [{"id": f"n-{n}", "from": {"users": [1_000_000 + n]}} for n in range(1, variant.principals)]
        document["principals"] = [*others, {"id": "caller", "from": {"users": [os.getuid()]}}]
    for key, value in variant.changes:
        *sections, last = key.split(".")
        place = document
        for section in sections:
            place = place.setdefault(section, {})
        place[last] = value
    if variant.without_credential:
        for name in ("credential", "require_placeholder"):
            local.pop(name, None)
    return document
