"""What several commands declare the same way: a command's actions, and options that they share."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

AS_FOR_RUN = "the configuration (default: as `outrider run`)"


class AddAction(Protocol):
    """name, what it does, the one line for the list, an example -> its parser."""

    def __call__(
        self, name: str, run: Callable[[argparse.Namespace], int], line: str, example: str
    ) -> argparse.ArgumentParser: ...


def actions_of(parser: argparse.ArgumentParser, metavar: str = "ACTION") -> AddAction:
    """How the actions of a command are added; each has a run of its own."""
    actions = parser.add_subparsers(dest="action", metavar=metavar, required=True)

    def add(name: str, run: Callable[[argparse.Namespace], int], line: str, example: str) -> argparse.ArgumentParser:
        action = actions.add_parser(name, help=line, epilog=f"example: {example}", allow_abbrev=False)
        action.set_defaults(run=run)
        return action

    return add


def add_config(parser: argparse.ArgumentParser, line: str = AS_FOR_RUN) -> None:
    parser.add_argument("--config", type=Path, metavar="FILE", help=line)
