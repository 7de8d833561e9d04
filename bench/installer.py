"""bench/peers/install NAME... | --list: puts the bench's peers on this machine, each into a folder of its own.

Rules: what is here already is left alone; a folder counts once its stamp is written, so an installation that was cut
short is made anew. What cannot be had is one sentence, and exit 1 after the others were tried. Scripts that packages
bring along are not run. Standard library only.
"""

import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from bench.build import BenchError
from bench.recipes import RECIPES, STAMP, Recipe

ROOT = Path(__file__).resolve().parents[1]
WAIT_S = 900.0
USAGE = f"usage: bench/peers/install --list | NAME...   of: {', '.join(RECIPES)}"


def last_words(text: str) -> str:
    """The line that tells most of a failed command's output: its last error, else its last line."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if line.lower().startswith(("error", "npm error"))]
    return (errors or lines or ["no word of why"])[-1].rstrip(".")[:300]


def run(recipe: Recipe, words: Sequence[str | Path]) -> None:
    """Raises: BenchError in one sentence."""
    command = [str(word) for word in words]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, timeout=WAIT_S)
    except subprocess.TimeoutExpired as exc:
        raise BenchError(f"{recipe.name} cannot be had here: {command[0]} took more than {WAIT_S:.0f} s.") from exc
    except OSError as exc:
        raise BenchError(f"{recipe.name} cannot be had here: {command[0]} does not run: {exc.strerror}.") from exc
    if done.returncode != 0:
        raise BenchError(f"{recipe.name} cannot be had here: {last_words(done.stdout + done.stderr)}.")


def from_debian(recipe: Recipe) -> None:
    run(recipe, [ROOT / "tools" / "debian-packages", recipe.name])
    if not recipe.is_here():
        raise BenchError(f"{recipe.name} cannot be had here: Debian's {recipe.package} needs root and apt-get.")


def from_pip(recipe: Recipe) -> None:
    run(recipe, [sys.executable, "-m", "venv", recipe.folder])
    pip: list[str | Path] = [recipe.folder / "bin/python", "-m", "pip", "--disable-pip-version-check"]
    run(recipe, [*pip, "install", "-q", *recipe.package.split()])


def from_npm(recipe: Recipe) -> None:
    for command in ("node", "npm"):
        if shutil.which(command) is None:
            raise BenchError(f"{recipe.name} cannot be had here: {command} is not installed (Debian: nodejs and npm).")
    quiet = ("--no-audit", "--no-fund", "--no-save", "--ignore-scripts", "--loglevel=error")
    run(recipe, ["npm", "install", *quiet, "--prefix", recipe.folder, *recipe.package.split()])


def from_project(recipe: Recipe) -> None:
    raise BenchError(f"{recipe.name} runs on the project's own packages ({recipe.package}); make setup fetches them.")


SOURCES = {"Debian": from_debian, "pip": from_pip, "npm": from_npm, "project": from_project}


def install(recipe: Recipe) -> None:
    """Nothing when it is here. Raises: BenchError."""
    if recipe.is_here():
        return
    if recipe.is_pinned:
        shutil.rmtree(recipe.folder, ignore_errors=True)
        recipe.folder.mkdir(parents=True)
    try:
        SOURCES[recipe.source](recipe)
    except BaseException:
        if recipe.is_pinned:
            shutil.rmtree(recipe.folder, ignore_errors=True)
        raise
    if recipe.is_pinned:
        (recipe.folder / STAMP).write_text(f"{recipe.package}\n")
        if not recipe.is_here():
            raise BenchError(f"{recipe.name} cannot be had here: {recipe.package} holds no {recipe.program}.")


def listing() -> str:
    """One line per peer: is it here, and what it is made of."""
    lines = []
    for recipe in RECIPES.values():
        what = f"the project's own {recipe.package}" if recipe.source == "project" else recipe.package
        how = "" if recipe.source == "project" else f" ({recipe.source})"
        where = f" in {recipe.folder}" if recipe.is_pinned else ""
        lines.append(f"{recipe.name:11}{'here' if recipe.is_here() else 'absent':8}{what}{how}{where}")
    return "\n".join(lines)


def main(names: Sequence[str]) -> int:
    if list(names) == ["--list"]:
        print(listing())
        return 0
    unknown = [name for name in names if name not in RECIPES]
    if unknown or not names:
        print(f"install: no peer is named {unknown[0]}; {USAGE}" if unknown else USAGE, file=sys.stderr)
        return 2
    failed = False
    for name in names:
        was_here = RECIPES[name].is_here()
        try:
            if not was_here:
                print(f"install: {name}: {RECIPES[name].package}", flush=True)
            install(RECIPES[name])
            print(f"install: {name} is here{' already' if was_here else ''}.", flush=True)
        except BenchError as exc:
            print(f"install: {exc}", file=sys.stderr)
            failed = True
    return int(failed)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
