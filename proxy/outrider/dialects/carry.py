"""Whether a call that was made in one dialect can be carried to another: what runs from the table of columns.py.

Rules
- A feature of a call is carried, converted (with a phrase), noted (left out, and said so) or refused (with a sentence).
  Nothing is left out in silence: what no table knows is noted by its name.
- A call to its own dialect is never looked at: everything is carried there.

Does not know: bytes, how anything is written.
"""

from outrider.dialects.base import Notes, UnreadableError
from outrider.dialects.canonical import Media, Part, Request, ToolResult
from outrider.dialects.columns import COLUMNS, Cell
from outrider.dialects.features import FEATURES, NAMED, features_of, media_feature

__all__ = ["CannotCarryError", "check", "docs_table", "is_converted", "remote_media"]


class CannotCarryError(ValueError):
    """The target cannot hold what the call asks for. str() names the feature and says why; safe to show."""

    def __init__(self, feature: str, target: str, reason: str) -> None:
        super().__init__(f"This call uses {feature}, which cannot be carried to {target}: {reason}.")
        self.feature = feature


def check(request: Request, target: str, notes: Notes) -> None:
    """Adds what is converted or left out to notes. Raises: CannotCarryError for what the target cannot hold.

    target: a name in COLUMNS.
    """
    target = _column_of(target, request.model)
    if request.origin == target:
        return
    cells = COLUMNS[target]
    for feature in sorted(features_of(request)):
        name = _row_of(feature)
        cell = cells[name]
        if cell.outcome == "refused":
            raise CannotCarryError(feature, target, cell.phrase)
        if cell.outcome == "noted":
            notes.add(f"{_short(feature)} left out")
        elif cell.outcome == "converted" and cell.phrase:
            notes.add(f"{_short(feature)} {cell.phrase}")


def _column_of(target: str, model: str) -> str:
    """InvokeModel holds bodies of several kinds, by the model; Replicate's inputs are its makers'."""
    if target == "replicate.predictions":
        from outrider.dialects.replicate import column_of

        return column_of(model)
    if target != "bedrock.invoke":
        return target
    from outrider.dialects.bedrock_invoke import family_of

    try:
        return family_of(model)
    except UnreadableError as exc:
        raise CannotCarryError(f"the model {model[:128]}", target, "the kind of its body is not known") from exc


def is_converted(feature: str, request: Request, target: str) -> bool:
    target = _column_of(target, request.model)
    return request.origin != target and COLUMNS[target][feature].outcome == "converted"


def _row_of(feature: str) -> str:
    if feature in FEATURES:
        return feature
    for named in NAMED:
        if feature.startswith(named):
            return named.rstrip()
    raise KeyError(feature)


def _short(feature: str) -> str:
    return feature.removeprefix("the unknown field ").removeprefix("the earlier part ")


def remote_media(request: Request, target: str) -> list[Media]:
    """Those that are given by URL and whose bytes the target wants; whoever may fetch sets `data` and clears `url`."""
    column = _column_of(target, request.model)
    # Claude's body at InvokeModel is Anthropic's own, but that host fetches nothing.
    is_hosted = target == "bedrock.invoke" and column == "anthropic.messages"
    if request.origin == column and not is_hosted:
        return []
    cells = COLUMNS[column]
    found: list[Media] = []
    pending: list[Part] = [*request.system, *(part for message in request.messages for part in message.parts)]
    for part in pending:
        for one in part.parts if isinstance(part, ToolResult) else (part,):
            if isinstance(one, Media) and one.url is not None and (is_hosted or cells[media_feature(one)].fetch):
                found.append(one)
    return found


def docs_table() -> str:
    """COLUMNS as a Markdown table, a row a feature."""
    names = list(COLUMNS)
    lines = ["| feature | " + " | ".join(f"`{name}`" for name in names) + " |", "|---" * (len(names) + 1) + "|"]
    for feature in FEATURES:
        cells = (_printed(COLUMNS[name][feature]) for name in names)
        lines.append(f"| {feature} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _printed(cell: Cell) -> str:
    if cell.fetch:
        return "fetched"
    words = {"carried": "yes", "converted": "converted", "noted": "left out", "refused": "refused"}[cell.outcome]
    return f"{words}: {cell.phrase}" if cell.phrase else words
