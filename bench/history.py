"""One JSON line per run in bench/results, so that a change can be compared with the last."""

import datetime
import json
import platform
import subprocess
from pathlib import Path
from typing import Any

from bench.figures import Row, judge
from bench.scenarios import BY_NAME

RESULTS = Path(__file__).resolve().parent / "results"


def machine() -> dict[str, Any]:
    model = ""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    cores = sum(line.startswith("processor") for line in Path("/proc/cpuinfo").read_text().splitlines())
    return {"cpu": model, "cores": cores, "kernel": platform.release(), "python": platform.python_version()}


def revision() -> str:
    """The commit, with + when the tree differs from it; empty outside git."""
    git = ["git", "-C", str(RESULTS.parent.parent)]
    try:
        done = subprocess.run([*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            return ""
        dirty = subprocess.run([*git, "status", "--porcelain"], capture_output=True, text=True, check=False).stdout
    except FileNotFoundError:
        return ""
    return done.stdout.strip() + ("+" if dirty else "")


def record(
    results: dict[str, dict[str, Row]],
    versions: dict[str, str],
    settings: dict[str, Any],
    at: datetime.datetime,
    config: str = "default",
) -> dict[str, Any]:
    """The run as one JSON object; every figure with all its repeats. `config` is the base of Outrider's rows."""
    scenarios: dict[str, Any] = {}
    for name, rows in results.items():
        cells = {
            peer: {"error": row.error} if row.error else row.values | {"busy": row.busy} for peer, row in rows.items()
        }
        verdicts = {v.key: {"met": v.is_met, "words": v.words} for v in judge(BY_NAME[name], rows)}
        notes = {peer: sorted(row.notes) for peer, row in rows.items() if row.notes}
        scenarios[name] = {"rows": cells, "targets": verdicts, "notes": notes}
    return {
        "at": at.isoformat(timespec="seconds"),
        "revision": revision(),
        "machine": machine(),
        "versions": versions,
        "config": config,
        "settings": settings,
        "scenarios": scenarios,
    }


def append(entry: dict[str, Any], path: Path | None = None) -> Path:
    target = path or RESULTS / "history.jsonl"
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("a", encoding="utf-8") as out:
        out.write(json.dumps(entry, separators=(",", ":"), ensure_ascii=False) + "\n")
    return target
