"""What is below never imports what is above (the order below is the architecture's)."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PRODUCT = ROOT / "proxy" / "outrider"

# Lowest first. What stands on one line is one tier: free to import each other, never a line below this one.
TIERS = (
    {"outrider", "outrider.authority", "outrider.errors", "outrider.untrusting"},
    {"outrider.config", "outrider.telemetry", "outrider.secrets", "outrider.store"},
    {"outrider.providers", "outrider.dialects", "outrider.govern"},
    {"outrider.stack"},
    {"outrider.upstream"},
    {"outrider.lanes"},
    {"outrider.door"},
    {"outrider.admin"},
    {"outrider.process", "outrider.runtime", "outrider.snapshot", "outrider.runtimes"},
    {"outrider.workers"},
    {"outrider.supervisor"},
    {"outrider.cli", "outrider.__main__"},
)
HEIGHT = {name: height for height, tier in enumerate(TIERS) for name in tier}
# Beside the product rather than in it: they may import anything below the command line.
BESIDE = {"outrider.mock", "outrider.testing", "outrider.inject"}


def unit_of(module: str) -> str:
    """`outrider.door.ca` -> `outrider.door`; `outrider` for the package itself."""
    return ".".join(module.split(".")[:2])


def module_of(path: Path, root: Path) -> str:
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: Path, module: str) -> Iterator[tuple[int, str]]:
    """(line, absolute module name) of every import, those inside functions and TYPE_CHECKING blocks too.

    A type that only the checker sees is no dependency at run time, but it is one for the reader: it counts.
    """
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*parents, base] if base else parents)
            yield from ((node.lineno, f"{base}.{alias.name}") for alias in node.names)


def wrong_imports() -> list[str]:
    wrong = []
    for path in sorted(PRODUCT.rglob("*.py")):
        module = module_of(path, PRODUCT.parent)
        here = unit_of(module)
        for line, name in imports(path, module):
            if name.split(".")[0] != "outrider":
                continue
            there = unit_of(name)
            there = there if there in HEIGHT or there in BESIDE else "outrider"  # `from outrider import __version__`
            if here in BESIDE:
                bad = there == "outrider.cli"
            elif there in BESIDE:
                bad = here not in {"outrider.cli", "outrider.runtime"}
            else:
                bad = HEIGHT[there] > HEIGHT[here]
            if bad:
                wrong.append(f"{path.relative_to(ROOT)}:{line}: {here} imports {name}, which is above it")
    return wrong


def test_every_unit_of_the_product_has_its_place_in_the_order() -> None:
    units = {unit_of(module_of(path, PRODUCT.parent)) for path in PRODUCT.rglob("*.py")}
    assert not units - set(HEIGHT) - BESIDE


def test_what_is_below_never_imports_what_is_above() -> None:
    wrong = wrong_imports()
    assert not wrong, "\n".join(wrong)


def test_the_compiled_modules_never_import_the_product() -> None:
    root = ROOT / "ext"
    for path in [*root.rglob("*.py"), *root.rglob("*.pyi")]:
        for line, name in imports(path, module_of(path, root)):
            assert name.split(".")[0] != "outrider", f"{path}:{line} imports {name}"
    for path in [*root.rglob("*.pyx"), *root.rglob("*.pxd")]:
        for line in path.read_text(encoding="utf-8").splitlines():
            words = line.split()
            if words[:1] in (["import"], ["cimport"], ["from"]):
                assert words[1].split(".")[0] != "outrider", f"{path}: {line.strip()}"


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("import outrider.door.ca", ["outrider.door.ca"]),
        ("from ..lanes import http1", ["outrider.lanes.http1"]),
        ("from . import ca", ["outrider.door.ca"]),
        ("def f():\n    from outrider.cli.main import main", ["outrider.cli.main.main"]),
    ],
)
def test_imports_are_found_wherever_and_however_they_are_written(tmp_path: Path, source: str, names: list[str]) -> None:
    path = tmp_path / "listener.py"
    path.write_text(source)
    assert [name for _, name in imports(path, "outrider.door.listener")] == names
