"""The README's table in Markdown: a line for each proxy of one run; its machine, versions and date above."""

from bench.figures import Row
from bench.reportdata import OWN, Entry, entry_words, limit, number, rows_of, times_nginx, unit

# (scenario, figure, heading); a column stands where the run has it
COLUMNS = (
    ("base_url", "cpu_us", "CPU: request, HTTP"),
    ("intercepted", "cpu_us", "CPU: request, HTTPS on both sides"),
    ("new_intercepted", "cpu_us", "CPU: new intercepted connection"),
    ("stream", "cpu_us", "CPU: stream event"),
    ("base_url", "p50_us", "added p50"),
    ("base_url", "p99_us", "added p99"),
    ("base_url", "rss_idle_mb", "memory, idle"),
    ("base_url", "start_s", "ready after"),
)
RATIOS = ("cpu_us",)
NAMES = {"haproxy": "HAProxy", "envoy": "Envoy", "litellm": "LiteLLM", "tensorzero": "TensorZero", "portkey": "Portkey"}


def _cell(rows: dict[str, Row], peer: str, figure: str) -> str:
    row = rows.get(peer)
    median = row.median(figure) if row else None
    if row is None or median is None:
        return "–"
    ratio = times_nginx(rows, row, figure) if figure in RATIOS and peer != "nginx" else None
    text = f"{number(median, figure)} {unit(figure)}" + (f", {ratio:.2f} ×" if ratio is not None else "")
    return f"**{text}**" if peer == OWN else text


def _target(entry: Entry, scenario: str, figure: str) -> str:
    found = limit(entry, scenario, figure)
    if found is None:
        return ""
    at_most, is_ratio, is_met = found
    word = {True: "met", False: "**missed**", None: "open"}[is_met]
    return f"≤ {at_most:g} {'× nginx' if is_ratio else unit(figure)}: {word}"


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def markdown(entry: Entry) -> str:
    """Direct is left out: latencies were taken off its own. A proxy with an error is named below, with the reason."""
    cells = {name: rows_of(entry, name) for name in entry["scenarios"]}
    peers = dict.fromkeys(peer for rows in cells.values() for peer in rows if peer != "direct")
    columns = [
        column
        for column in COLUMNS
        if any(row.median(column[1]) is not None for row in cells.get(column[0], {}).values())
    ]
    lines = [_line(["", *(words for _, _, words in columns)]), "|---" * (len(columns) + 1) + "|"]
    errors = []
    for peer in sorted(peers, key=lambda name: name.startswith(OWN)):
        shown = [_cell(cells[scenario], peer, figure) for scenario, figure, _ in columns]
        name = NAMES.get(peer, peer.replace(OWN, "Outrider"))
        if set(shown) != {"–"}:
            lines.append(_line([name, *shown]))
        reasons = {f"{name}: {rows[peer].error}" for rows in cells.values() if peer in rows and rows[peer].error}
        errors += sorted(reason.rstrip(".") + "." for reason in reasons)
    lines.append(_line(["target", *(_target(entry, scenario, figure) for scenario, figure, _ in columns)]))
    return "\n".join((entry_words(entry), "", *lines, *(("", " ".join(errors)) if errors else ())))
