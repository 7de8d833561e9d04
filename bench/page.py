"""Pieces of a page that stands alone: tables, pictures inside it, its style. What is given is text and is escaped."""

import base64
import html
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

STYLE = """
:root { color-scheme: light; --ink: #1f2933; --soft: #66727f; --line: #e3e8ee; --good: #2b8a3e; --bad: #c92a2a; }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); max-width: 1080px; }
body { margin: 2.5rem auto; padding: 0 1.2rem; }
h1 { font-size: 1.7rem; margin: 0 0 .3rem; } h2 { font-size: 1.2rem; margin: 2.4rem 0 .4rem; }
p, figcaption { color: var(--soft); margin: .3rem 0; } figure { margin: 1rem 0; overflow-x: auto; }
img { max-width: 100%; height: auto; } .wide { overflow-x: auto; }
table { border-collapse: collapse; margin: .6rem 0; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .7rem; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap; }
th { color: var(--soft); font-weight: 600; } th:first-child, td:first-child, td.words { text-align: left; }
td.words { white-space: normal; color: var(--soft); } .good { color: var(--good); } .bad { color: var(--bad); }
.good, .bad, tr.own td { font-weight: 600; }
"""


@dataclass(frozen=True, slots=True)
class Cell:
    text: str
    kind: str = ""  # good, bad or words


def paragraph(text: str, kind: str = "") -> str:
    return f'<p class="{kind}">{html.escape(text)}</p>' if kind else f"<p>{html.escape(text)}</p>"


def heading(text: str) -> str:
    return f"<h2>{html.escape(text)}</h2>"


def table(headings: Sequence[str], rows: Iterable[Sequence[str | Cell]], own: str = "") -> str:
    """Rows whose first cell begins with `own` are set off."""
    out = ['<div class="wide"><table><thead><tr>', *(f"<th>{html.escape(text)}</th>" for text in headings)]
    out.append("</tr></thead><tbody>")
    for row in rows:
        cells = [cell if isinstance(cell, Cell) else Cell(cell) for cell in row]
        out.append('<tr class="own">' if own and cells[0].text.startswith(own) else "<tr>")
        out += [f'<td class="{cell.kind}">{html.escape(cell.text)}</td>' for cell in cells]
        out.append("</tr>")
    out.append("</tbody></table></div>")
    return "".join(out)


def picture(png: bytes, says: str) -> str:
    """An image within the page; `says` is what it shows, for who does not see it and as its caption."""
    data = base64.b64encode(png).decode()
    text = html.escape(says)
    return f'<figure><img alt="{text}" src="data:image/png;base64,{data}"><figcaption>{text}</figcaption></figure>'


def whole(title: str, parts: Iterable[str]) -> str:
    head = f'<meta charset="utf-8"><title>{html.escape(title)}</title><style>{STYLE}</style>'
    body = "\n".join((f"<h1>{html.escape(title)}</h1>", *parts))
    return f'<!doctype html>\n<html lang="en"><head>{head}</head><body>\n{body}\n</body></html>\n'
