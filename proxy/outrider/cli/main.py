"""`outrider COMMAND`: each command is a module beside this one, imported only when it is the one asked for.

A command module has HELP (one line), EXAMPLE (one shell line), add_arguments(parser) and run(args) -> exit code; where
it has actions (`arguments.actions_of`), each of these has its own run.
"""

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import NoReturn

from outrider.errors import StartError

# name -> (module, one line for the list): the list must not import them all.
COMMANDS = {
    "run": ("run", "run the sidecar"),
    "exec": ("exec_", "run a command beside a sidecar: outrider exec -- python app.py"),
    "demo": ("demo", "see it work without a key or a network"),
    "check": ("check", "validate the configuration"),
    "policy": ("policy", "try rules without a sidecar: test, explain, schema"),
    "trust": ("trust", "let a configuration found in the working folder set hosts and credentials"),
    "keys": ("keys", "make a virtual key for a principal, or take keys back"),
    "cache": ("cache", "make a running sidecar forget remembered answers"),
    "ca": ("ca", "show the interception CA, or write its trust bundle"),
    "env": ("env", "print the variables by which each runtime finds the sidecar and trusts it"),
    "mock": ("mock", "run a provider emulator"),
    "audit": ("audit", "verify the audit log, or follow it"),
    "version": ("version", "print versions"),
}


class _Parser(argparse.ArgumentParser):
    """Argparse's own, but with one sentence for what is wrong."""

    def error(self, message: str) -> NoReturn:
        print(f"outrider: {message}; see `{self.prog} --help`", file=sys.stderr)
        raise SystemExit(2)


class _ShowVersion(argparse.Action):
    """As argparse's "version", but the version is looked up only then."""

    def __init__(self, option_strings: Sequence[str], dest: str, **_: object) -> None:
        super().__init__(option_strings, argparse.SUPPRESS, nargs=0, help="print the version")

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> NoReturn:
        from outrider import __version__

        print(f"outrider {__version__}")
        parser.exit()


def build_parser(only: str | None) -> argparse.ArgumentParser:
    """The parser; with `only`, that command's arguments alone are imported and declared."""
    parser = _Parser(
        prog="outrider",
        description="A sidecar proxy for LLM traffic.",
        epilog="example: outrider exec -- python app.py",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action=_ShowVersion)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, (module_name, line) in COMMANDS.items():
        if only is not None and name != only:
            commands.add_parser(name, help=line)
            continue
        module = importlib.import_module(f"outrider.cli.{module_name}") if name == only else None
        command = commands.add_parser(
            name,
            help=line,
            description=module.HELP if module else line,
            epilog=f"example: {module.EXAMPLE}" if module else None,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        if module is not None:
            module.add_arguments(command)
            command.set_defaults(run=getattr(module, "run", None))
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    words = list(sys.argv[1:] if argv is None else argv)
    if not words:
        build_parser(None).print_help(sys.stderr)
        return 2
    only = words[0] if words[0] in COMMANDS else None
    if only is None and not words[0].startswith("-"):
        return _unknown(words[0])
    _without_plugins()
    args = build_parser(only).parse_args(words)
    try:
        return int(args.run(args))
    except StartError as exc:
        print(f"outrider: {exc}", file=sys.stderr)
        return exc.exit_code
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # `outrider ca show | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as exc:  # a disk that is full, a folder that went away: what no command foresaw
        about = f"{exc.filename}: " if exc.filename else ""
        print(f"outrider: {about}{(exc.strerror or str(exc)).lower()}; correct that and run it again", file=sys.stderr)
        return 1


def _without_plugins() -> None:
    """Pydantic would search all that is installed for plugins of its own: 20 ms, 1 MB, and code that nobody chose."""
    finds_none = ModuleType("pydantic.plugin._loader")
    finds_none.get_plugins = tuple  # type: ignore[attr-defined]
    sys.modules.setdefault(finds_none.__name__, finds_none)


def _unknown(word: str) -> int:
    import difflib

    near = difflib.get_close_matches(word, COMMANDS, n=1)
    meant = f"; did you mean `outrider {near[0]}`?" if near else ""
    print(f"outrider: there is no command {word!r}{meant or '; `outrider --help` lists them'}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    raise SystemExit(main())
