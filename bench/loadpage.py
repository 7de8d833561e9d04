"""The page of one load test, from the document that bench.loadtest wrote."""

from typing import Any

from bench import page as html
from bench import plots

VERDICT = {True: html.Cell("ok", "good"), False: html.Cell("MISSED", "bad"), None: html.Cell("said")}


def _milliseconds(value: float | None) -> str:
    return "-" if value is None else f"{value:,.1f}"


def _entry(entry: dict[str, Any]) -> list[str]:
    counts = [f"{entry['requests']:,}", f"{entry['failures']:,}"]
    return [f"{entry['name']}", *counts, *(_milliseconds(entry.get(name)) for name in ("p50", "p99", "p99.9"))]


def page(document: dict[str, Any]) -> str:
    plan, machine = document["plan"], document["machine"]
    asked = f"{plan['per_s']:,.0f} requests/s for {plan['seconds']:,.0f} s: {document['what']}."
    where = f"{machine['cpu']}, {machine['cores']} cores, Linux {machine['kernel']}, Python {machine['python']}"
    parts = [
        html.paragraph(asked),
        html.paragraph(
            f"Outrider {document['version']} at {document['revision'] or 'no revision'}; {where}; {document['at']}."
        ),
        html.heading("Passed" if document["passed"] else "Failed"),
        html.table(
            ["", "measured", "limit", "", ""],
            [
                [line["name"], line["shown"], line["limit"], VERDICT[line["is_met"]], html.Cell(line["note"], "words")]
                for line in document["lines"]
            ],
        ),
        html.heading("What users saw"),
        html.paragraph("Milliseconds; of a stream, until its first event where its name does not say otherwise."),
        html.table(["", "calls", "wrong", "p50", "p99", "p99.9"], map(_entry, document["entries"])),
    ]
    if document["errors"]:
        parts.append(
            html.table(
                ["error", "times"], [[html.Cell(text, "words"), f"{n:,}"] for text, n in document["errors"].items()]
            )
        )
    parts.append(html.heading("What the sidecar did"))
    if plots.missing():
        parts.append(html.paragraph(plots.missing()))
    elif len(document["readings"]) > 1:
        says = "Memory, exchanges per second and CPU of the sidecar over the run; the dashed line is the regression."
        parts.append(html.picture(plots.load_over_time(document), says))
    return html.whole(f"Load test: {document['name']}", parts)
