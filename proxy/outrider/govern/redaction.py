"""What a rule asks to be redacted: the shape shared by configuration, rules and the redacting layer."""

from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict


def _as_tuple(value: object) -> object:
    return tuple(value) if isinstance(value, list) else (value,) if isinstance(value, str) else value


type Names = Annotated[tuple[str, ...], BeforeValidator(_as_tuple)]


class RedactError(ValueError):
    """`redact:` of the configuration cannot be used. problems: sentences, each beginning with its key."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class Redaction(BaseModel):
    """detectors: built-in ones, groups of them (`pii`, `secrets`), or names under `redact.patterns` and `redact.words`.

    restore_in: where a pseudonym in an answer is turned back into the value.
    """

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")

    detectors: Names
    action: Literal["mask", "hash", "pseudonymise", "block"] = "mask"
    where: Annotated[tuple[Literal["request", "answer"], ...], BeforeValidator(_as_tuple)] = ("request", "answer")
    restore_in: Annotated[tuple[Literal["text", "tool_arguments", "urls"], ...], BeforeValidator(_as_tuple)] = ("text",)
