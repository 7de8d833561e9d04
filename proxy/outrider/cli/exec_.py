"""`outrider exec -- CMD`: CMD beside a sidecar of its own, on free ports, until CMD ends.

Rules: the sidecar lives in this process and CMD is its child with the same standard streams; the keys that the sidecar
holds are not in the child's environment; signals go to the child and its exit code is ours (128 + n when signal n ended
it; 127 not found, 126 not executable); standard output is the child's alone, ours is one line on standard error.
The admin port is off, and so is the log unless config or --log says where: both would mix with the app.
"""

import argparse
import asyncio
import contextlib
import os
import resource
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from outrider.cli import takeover
from outrider.cli.arguments import add_config
from outrider.cli.env import registry_of
from outrider.config import Config, load
from outrider.errors import StartError
from outrider.providers import BUILT_IN
from outrider.secrets.files import reason
from outrider.secrets.hygiene import forget_variables, harden_process

if TYPE_CHECKING:
    from outrider.runtime import Sidecar

HELP = "Run a command beside a sidecar: its provider calls are intercepted, and it never sees a key."
EXAMPLE = "outrider exec -- python app.py"

FORWARDED: Final = tuple(
    getattr(signal, name) for name in ("SIGHUP", "SIGINT", "SIGQUIT", "SIGTERM", "SIGUSR1", "SIGUSR2", "SIGWINCH")
)
# What a terminal sends to every process of the foreground job by itself, the child among them.
_FROM_TERMINAL: Final = frozenset({signal.SIGINT, signal.SIGQUIT, signal.SIGWINCH})
_ENDING: Final = frozenset({signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM})
_NOT_FOUND, _NOT_EXECUTABLE = 127, 126


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.usage = "outrider exec [--config FILE] [--log FILE] [--keep VAR] [--quiet] -- CMD [ARG ...]"
    add_config(parser)
    parser.add_argument("--log", metavar="FILE", help="write a JSON line per exchange there (default: no log)")
    parser.add_argument(
        "--keep", action="append", default=[], metavar="VAR", help="leave this variable's key with the app (repeatable)"
    )
    parser.add_argument("--quiet", action="store_true", help="do not say on standard error what was done")
    parser.add_argument("command_line", nargs=argparse.REMAINDER, metavar="CMD", help="the command and its arguments")


def run(args: argparse.Namespace) -> int:
    command = args.command_line[1:] if args.command_line[:1] == ["--"] else args.command_line
    if not command:
        raise StartError("exec needs a command to run: outrider exec -- python app.py", exit_code=2)
    core = resource.getrlimit(resource.RLIMIT_CORE)
    harden_process(keep_hard_limit=True)
    environ = dict(os.environ)
    find_executable(command[0], environ)
    with _folder() as folder:
        beside = prepare(args.config, environ, folder, keep=args.keep, log=args.log)
        return run_beside(beside, command, core=core, announce=not args.quiet)


def find_executable(name: str, environ: Mapping[str, str]) -> str:
    """The file that `name` means. Raises: StartError with a shell's exit codes, 127 or 126."""
    path = environ.get("PATH", os.defpath)
    found = shutil.which(name, path=path)
    if found is not None:
        return found
    if "/" in name:
        there = os.path.exists(name)
        where = "is not a file that this user may execute; check its mode" if there else "is not there; check the path"
    else:
        there = shutil.which(name, mode=os.F_OK, path=path) is not None
        where = "is on the PATH but not executable; check its mode" if there else "is not on the PATH; name its path"
    raise StartError(f"{name} {where}", exit_code=_NOT_EXECUTABLE if there else _NOT_FOUND)


@dataclass(frozen=True, slots=True)
class Beside:
    """What a sidecar beside one command is made from. environ: the user's own; settings: what the sidecar reads."""

    config: Config
    environ: Mapping[str, str]
    settings: Mapping[str, str]
    folder: Path
    keep: Collection[str]
    notes: Sequence[str]


def prepare(
    config_file: Path | None,
    environ: Mapping[str, str],
    folder: Path,
    *,
    keep: Collection[str] = (),
    log: str | None = None,
) -> Beside:
    """The configuration of a sidecar on free ports that takes over what `environ` holds. Raises: StartError."""
    config: Config = load(config_file, environ)
    taken = takeover.overlay(config, registry_of(config), environ, keep)
    for name, value in (("proxy", "127.0.0.1:0"), ("transparent", None), ("admin", None)):
        taken.set("listen", name, to=value)
    if log is not None:
        taken.set("telemetry", "log", to=log if log in ("stderr", "stdout", "off") else os.path.abspath(log))
    elif "log" not in config.telemetry.model_fields_set:
        taken.set("telemetry", "log", to="off")
    roots = takeover.user_roots(environ)
    if roots and config.upstream.ca is None:
        file = folder / "user-roots.pem"
        file.write_bytes(roots)
        taken.set("upstream", "ca", to=str(file))
    settings = taken.over(environ)
    return Beside(load(config_file, settings), environ, settings, folder, tuple(keep), taken.notes)


def run_beside(
    beside: Beside, command: Sequence[str], *, core: tuple[int, int] | None = None, announce: bool = True
) -> int:
    """Start the sidecar, run the command, stop the sidecar; the command's exit code. Raises: StartError."""
    import uvloop

    from outrider.runtime import Sidecar

    sidecar = Sidecar(beside.config, beside.settings)

    async def main() -> int:
        child = Child()
        with child.forwarding():
            await sidecar.start()
            try:
                environ, said = dress(sidecar, beside)
                if announce:
                    _say(*said)
                code = await child.run(command, environ, core)
                if announce:
                    _say(*_troubles(sidecar))
                return code
            finally:
                await sidecar.stop()

    return uvloop.run(main())


def dress(sidecar: "Sidecar", beside: Beside) -> tuple[dict[str, str], list[str]]:
    """(the child's environment, what is to be said) for a started sidecar; our own environment loses the keys.

    Raises: StartError when the trust files cannot be written.
    """
    from outrider.runtimes import conflicts, environment, provider_hosts_of, write_trust_files

    environ, registry = beside.environ, sidecar.snapshot.registry
    hosts = provider_hosts_of(registry)
    url = "http://{}:{}".format(*sidecar.proxy_addresses[0])
    try:
        files = write_trust_files(sidecar.ca, beside.folder / "trust", environ)
    except OSError as exc:
        raise StartError(f"{beside.folder} cannot be written: {reason(exc)}; set TMPDIR to another folder") from exc
    sources = sidecar.snapshot.sources
    hidden = takeover.hide(
        sidecar.config, registry, environ, sources=sources, placeholder=sidecar.placeholder, keep=beside.keep
    )
    child = dict(environ)
    for name in ("ALL_PROXY", "all_proxy"):  # now ours to go through
        child.pop(name, None)
    child |= environment(url, files.bundle, files.ca, existing=environ, provider_hosts=hosts)
    for name, value in hidden.variables.items():
        child.pop(name, None)
        if value is not None:
            child[name] = value
    forget_variables(hidden.variables)
    keyed = ", ".join(name for name in dict.fromkeys((*BUILT_IN, *sources)) if name in sources)
    keys = f"{hidden.keys} key{'' if hidden.keys == 1 else 's'} hidden from the app"
    said = [f"intercepting {keyed or 'every provider it knows, with the keys of the app'}; {keys}; {url}"]
    return child, [*said, *beside.notes, *conflicts(environ, provider_hosts=hosts)]


def _troubles(sidecar: "Sidecar") -> Iterator[str]:
    """The log is off, so the trouble that people have most is said here."""
    refused = sorted({name for event, name in sidecar.metrics.events.values if event == "client_untrusting"})
    if refused:
        yield (
            f"a client did not trust the certificate for {', '.join(refused)}: it reads none of the variables that "
            "name the CA; set it in the client itself (its file is in `outrider ca show`), or give it a base URL"
        )


def _say(*sentences: str) -> None:
    with contextlib.suppress(OSError):  # nobody reads our standard error: CMD runs all the same
        print(
            *(f"outrider: {sentence}" for sentence in sentences),
            sep="\n",
            end="\n" if sentences else "",
            file=sys.stderr,
        )


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    """A folder for trust files. Readable for all: a command may change its user, and certificates are public."""
    try:
        folder = tempfile.TemporaryDirectory(prefix="outrider-", ignore_cleanup_errors=True)
    except OSError as exc:
        raise StartError(f"no temporary folder can be made: {reason(exc)}; set TMPDIR to one") from exc
    with folder as name:
        os.chmod(name, 0o755)  # noqa: S103
        yield Path(name)


class Child:
    """One child process that gets the signals that we get; those that come before it is there, as soon as it is.

    opens: how the controlling terminal is looked at (a test hands in its own).
    """

    def __init__(self, is_foreground: Callable[[], bool] | None = None) -> None:
        self._is_foreground = is_foreground or _in_foreground
        self._process: asyncio.subprocess.Process | None = None
        self._early: list[int] = []

    @contextlib.contextmanager
    def forwarding(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        for number in FORWARDED:
            loop.add_signal_handler(number, self.pass_on, number)
        try:
            yield
        finally:
            for number in FORWARDED:
                loop.remove_signal_handler(number)

    def pass_on(self, number: int) -> None:
        if self._process is None:
            self._early.append(number)
        elif number not in _FROM_TERMINAL or not self._is_foreground():
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(number)

    async def run(
        self,
        command: Sequence[str],
        environ: Mapping[str, str],
        core: tuple[int, int] | None = None,
        *,
        stdout: int | None = None,
        on_start: Callable[[asyncio.subprocess.Process], None] | None = None,
    ) -> int:
        """The exit code. core: the core limit to give it back. Raises: StartError, 127 or 126."""
        fatal = [number for number in self._early if number in _ENDING]
        if fatal:  # told to end before it began
            return 128 + fatal[0]
        try:
            with _core_limit(core):
                process = await asyncio.create_subprocess_exec(*command, env=environ, stdout=stdout)
        except OSError as exc:
            code = _NOT_FOUND if isinstance(exc, FileNotFoundError) else _NOT_EXECUTABLE
            raise StartError(f"{command[0]} cannot be run: {reason(exc)}; check it and its interpreter", code) from exc
        self._process = process
        for number in self._early:
            self.pass_on(number)
        if on_start is not None:
            on_start(process)
        code = await process.wait()
        return 128 - code if code < 0 else code

    def kill(self) -> None:
        """End it at once, if it still runs."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()


@contextlib.contextmanager
def _core_limit(limit: tuple[int, int] | None) -> Iterator[None]:
    """What is forked inside gets this core limit; we stay without a dump for the moment, not being dumpable."""
    ours = resource.getrlimit(resource.RLIMIT_CORE)
    if limit is not None:
        resource.setrlimit(resource.RLIMIT_CORE, limit)
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_CORE, ours)


def _in_foreground() -> bool:
    """Whether we are in the foreground job of a terminal, and the child with us."""
    try:
        terminal = os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    except OSError:
        return False
    finally:
        os.close(terminal)
