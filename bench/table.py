"""The tables for people: one per scenario, the targets below it, colours only on a terminal."""

from collections.abc import Sequence

from bench.figures import FIGURES, Row, judge, ratio_to_nginx
from bench.scenarios import Scenario

RED, GREEN, DIM, BOLD, PLAIN = "\x1b[31m", "\x1b[32m", "\x1b[2m", "\x1b[1m", "\x1b[0m"


def paint(text: str, colour: str, colours: bool) -> str:
    return f"{colour}{text}{PLAIN}" if colours else text


def _number(value: float, digits: int) -> str:
    return f"{value:,.{digits}f}"


def _cell(row: Row, figure: str, digits: int) -> str:
    median = row.median(figure)
    if median is None:
        return "-"
    values = row.values[figure]
    text = _number(median, digits)
    if len(values) > 1 and figure in ("cpu_us", "per_s", "p50_us", "p99_us"):
        text += f" ({_number(min(values), digits)}–{_number(max(values), digits)})"
    if figure == "per_s" and row.is_bounded_by_client:
        text += " *"
    return text


def columns(cells: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[i]) for row in cells) for i in range(len(cells[0]))]
    lines = []
    for first, *others in cells:
        right = [cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True)]
        lines.append("  ".join([first.ljust(widths[0]), *right]))
    return lines


def render(scenario: Scenario, rows: dict[str, Row], colours: bool = False) -> str:
    """The table of one scenario. Rows with an error or an absent proxy keep their place and say why."""
    headings = [heading.format(unit=scenario.unit, timed=scenario.timed) for heading, _ in FIGURES.values()]
    cells = [["", headings[0], "× nginx", *headings[1:]]]
    good = [row for row in rows.values() if not row.error]
    for row in good:
        figures = [_cell(row, figure, digits) for figure, (_, digits) in FIGURES.items()]
        ratio = ratio_to_nginx(rows, row, "cpu_us")
        cells.append([row.peer, figures[0], "-" if ratio is None else f"{ratio:.2f}", *figures[1:]])
    lines = columns(cells)
    out = [paint(f"{scenario.name} · {scenario.title}", BOLD, colours), paint(lines[0], DIM, colours), *lines[1:]]
    for row in rows.values():
        if row.error:
            out.append(paint(f"{row.peer}: {row.error}", RED, colours))
    if any(row.is_bounded_by_client for row in good):
        out.append(paint("* bounded by client and upstream, not by the proxy: not to be compared", DIM, colours))
    for verdict in judge(scenario, rows):
        word, colour = {True: ("met", GREEN), False: ("MISSED", RED), None: ("open", DIM)}[verdict.is_met]
        out.append(paint(f"  {word:6} {verdict.words}", colour, colours))
    return "\n".join(out)
