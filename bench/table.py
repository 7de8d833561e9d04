"""The tables for people: for each scenario what it costs, what it adds, the targets; colours only on a terminal."""

from collections.abc import Mapping, Sequence

from bench.figures import (
    FIGURES,
    PACED,
    SCHEDULED,
    TIMES,
    Row,
    heading,
    is_compared,
    is_saturated,
    judge,
    ratio,
)
from bench.scenarios import Scenario

RED, GREEN, DIM, BOLD, PLAIN = "\x1b[31m", "\x1b[32m", "\x1b[2m", "\x1b[1m", "\x1b[0m"
COSTS = tuple(figure for figure in FIGURES if figure not in TIMES)
SPREAD = ("cpu_us", "per_s", "core_pct", *TIMES)  # shown with their least and greatest
# after the figure, its ratio to that row
RATIOS = {"cpu_us": "nginx", "per_s": "direct", "p50_us": "nginx", "open_p50_us": "nginx"}


def paint(text: str, colour: str, colours: bool) -> str:
    return f"{colour}{text}{PLAIN}" if colours else text


def _number(value: float, digits: int) -> str:
    return f"{value:,.{digits}f}"


def _cell(rows: Mapping[str, Row], row: Row, figure: str) -> str:
    median, digits = row.median(figure), FIGURES[figure][1]
    if median is None:
        return "-"
    values = row.values[figure]
    text = _number(median, digits)
    if len(values) > 1 and figure in SPREAD:
        text += f" ({_number(min(values), digits)}–{_number(max(values), digits)})"
    return text if is_compared(rows, row, figure) else f"{text} *"


def columns(cells: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[i]) for row in cells) for i in range(len(cells[0]))]
    lines = []
    for first, *others in cells:
        right = [cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True)]
        lines.append("  ".join([first.ljust(widths[0]), *right]))
    return lines


def _part(scenario: Scenario, rows: Mapping[str, Row], figures: Sequence[str], colours: bool) -> list[str]:
    """Lines of the columns that hold anything; empty when none does."""
    good = [row for row in rows.values() if not row.error]
    shown = [figure for figure in figures if any(row.median(figure) is not None for row in good)]
    if not shown:
        return []
    cells = [[""], *([row.peer] for row in good)]
    for figure in shown:
        cells[0].append(heading(scenario, figure))
        for line, row in zip(cells[1:], good, strict=True):
            line.append(_cell(rows, row, figure))
        if (of := RATIOS.get(figure, "")) in rows:
            cells[0].append(f"× {of}")
            for line, row in zip(cells[1:], good, strict=True):
                value = None if row.peer == "direct" else ratio(rows, row, figure, of)  # its own times are not added
                line.append("-" if value is None else f"{value:.2f}")
    lines = columns(cells)
    return [paint(lines[0], DIM, colours), *lines[1:]]


def _remarks(rows: Mapping[str, Row]) -> list[tuple[str, str]]:
    """(colour, sentence) of errors, absences, marks and notes."""
    remarks = [(DIM if row.is_absent else RED, f"{row.peer}: {row.error}") for row in rows.values() if row.error]
    good = [row for row in rows.values() if not row.error]
    remarks += [(RED, f"{row.peer}: {note}") for row in good for note in sorted(row.notes)]
    if any(row.is_bounded_by_client for row in good):
        remarks.append((DIM, "* bounded by client and upstream, not by the proxy: not to be compared"))
    if any(is_saturated(rows, figure) for figure in (*SCHEDULED, *PACED)):
        remarks.append((DIM, "* direct itself saturates here: not to be compared"))
    return remarks


def render(scenario: Scenario, rows: Mapping[str, Row], colours: bool = False) -> str:
    """The table of one scenario. Rows with an error or an absent proxy keep their place and say why."""
    out = [paint(f"{scenario.name} · {scenario.title}", BOLD, colours)]
    out += _part(scenario, rows, COSTS, colours)
    out += _part(scenario, rows, TIMES, colours)
    out += [paint(sentence, colour, colours) for colour, sentence in _remarks(rows)]
    for verdict in judge(scenario, rows):
        word, colour = {True: ("met", GREEN), False: ("MISSED", RED), None: ("open", DIM)}[verdict.is_met]
        out.append(paint(f"  {word:6} {verdict.words}", colour, colours))
    return "\n".join(out)
