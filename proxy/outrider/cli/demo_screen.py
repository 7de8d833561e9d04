"""How `outrider demo` shows itself: Rich on a terminal, plain lines otherwise.

Rules: text from the app is shown as it comes, piece by piece; a line of ours never cuts a line of the app's in two;
nothing is shown that looks like a whole key.
Does not know: what is shown.
"""

import re
import sys
from collections.abc import Sequence
from typing import Any, Final, TextIO

_TELLING: Final = "yellow"  # of what the sidecar did by itself, its words too
STYLES: Final = {
    "app": "cyan",
    "provider": "magenta",
    "sidecar": "green",
    "limit": _TELLING,
    "failover": _TELLING,
    "cache": _TELLING,
}
_KEY: Final = re.compile(r"\bsk-[A-Za-z0-9-]{16,}")
_LABEL_CHARS = 10


def masked(text: str) -> str:
    """Keys with their middle left out: enough to tell one from another."""
    return _KEY.sub(lambda found: f"{found[0][:14]}…{found[0][-4:]}", text)


class Screen:
    """say(label, text) a line of ours; app(text) a piece of the app's output; table(...) at the end."""

    def __init__(self, out: TextIO = sys.stdout, *, rich: bool | None = None) -> None:
        self._out = out
        self._console = _console(out) if rich or (rich is None and out.isatty()) else None
        self._inside_line = False
        self._waiting: list[tuple[str, str]] = []

    def title(self, text: str) -> None:
        if self._console is not None:
            self._console.rule(f"[bold]{text}", align="left")
        else:
            print(f"== {text}", file=self._out, flush=True)

    def say(self, label: str, text: str) -> None:
        """Waits for the end of a line that the app has begun."""
        if self._inside_line:
            self._waiting.append((label, text))
            return
        self._start(label)
        self._write(masked(text), STYLES[label] if STYLES.get(label) == _TELLING else "")
        self._write("\n")

    def app(self, text: str) -> None:
        """text: as it was read, any piece of any number of lines."""
        for piece in text.splitlines(keepends=True):
            if not self._inside_line:
                self._start("app")
            self._write(masked(piece), "bold" if piece.startswith("  ") or self._inside_line else "")
            self._inside_line = not piece.endswith("\n")
            if not self._inside_line:
                waiting, self._waiting = self._waiting, []
                for label, line in waiting:
                    self.say(label, line)

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        if self._console is not None:
            from rich.table import Table

            table = Table(title=title, title_justify="left", header_style="dim")
            for column in columns:
                table.add_column(column)
            for row in rows:
                table.add_row(*row)
            self._console.print(table)
            return
        widths = [max(map(len, column)) for column in zip(columns, *rows, strict=True)]
        print(title, file=self._out)
        for row in (columns, *rows):
            cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
            print(("  " + "  ".join(cells)).rstrip(), file=self._out, flush=True)

    def _start(self, label: str) -> None:
        self._write(label.ljust(_LABEL_CHARS), STYLES.get(label, ""))

    def _write(self, text: str, style: str = "") -> None:
        if self._console is not None:
            self._console.print(text, end="", style=style or None, markup=False, highlight=False, soft_wrap=True)
        else:
            print(text, end="", file=self._out, flush=True)


def _console(out: TextIO) -> Any:
    """Rich's console, or None where it is not installed: plain lines do as well."""
    try:
        from rich.console import Console
    except ImportError:
        return None
    return Console(file=out)
