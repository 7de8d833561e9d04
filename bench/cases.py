"""What a micro-benchmark is: cases as data, in the CASES of each `bench_<module>.py`.

Rules: a case is checked before it is measured and again afterwards, and one that does not do what it claims has no
figure. What is imported here is imported by every counted process, under valgrind too, so it is little.
Does not know: how a case is measured.
"""

import contextlib
import importlib
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.build import BenchError

HERE = Path(__file__).resolve().parent
EMPTY = "an empty call"


@dataclass(frozen=True, slots=True)
class Case:
    """One operation. setup() makes its subject, call(subject) does it once, claim(subject, result) says if rightly.

    per_call: how many of what is counted one call does. close(subject) comes in the end, where it is given.
    """

    name: str
    setup: Callable[[], Any]
    call: Callable[[Any], object]
    claim: Callable[[Any, Any], bool]
    per_call: int = 1
    close: Callable[[Any], None] | None = None


def modules() -> list[str]:
    return sorted(path.stem.removeprefix("bench_") for path in HERE.glob("bench_*.py"))


def cases_of(module: str) -> tuple[Case, ...]:
    """Raises: BenchError when the module's own imports fail (not compiled, or its names have changed)."""
    try:
        found: tuple[Case, ...] = importlib.import_module(f"bench.bench_{module}").CASES
    except (ImportError, AttributeError) as exc:
        raise BenchError(f"bench_{module}.py cannot be used: {exc}.") from exc
    return found


@contextlib.contextmanager
def prepared(case: Case) -> Iterator[Any]:
    """Its subject, checked before and after. Raises: BenchError with the sentence of its error row."""
    with contextlib.ExitStack() as stack:
        try:
            subject = case.setup()
            if case.close is not None:
                stack.callback(case.close, subject)
            _check(case, subject)
            yield subject
            _check(case, subject)
        except BenchError:
            raise
        except Exception as exc:
            raise BenchError(f"raised {type(exc).__name__}: {exc}") from exc


def _check(case: Case, subject: Any) -> None:
    if not case.claim(subject, case.call(subject)):
        raise BenchError("did not do what it claims, so it has no figure")


def empty(subject: Any) -> None:
    """What is taken off."""


def run_alone(file: str) -> int:
    """`python -m bench.bench_<module>`."""
    from bench.micro import main  # more than a counted process needs

    name = Path(file).stem
    return main([name.removeprefix("bench_"), *sys.argv[1:]], f"bench.{name}")
