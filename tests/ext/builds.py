"""Both builds of a pure-mode module: the compiled one and the same source run by the interpreter."""

import importlib
import importlib.util
import sys
from functools import cache
from pathlib import Path
from types import ModuleType

EXT = Path(__file__).resolve().parents[2] / "ext" / "outrider_ext"


@cache
def compiled(name: str) -> ModuleType:
    module = importlib.import_module(f"outrider_ext.{name}")
    assert str(module.__file__).endswith(".so"), f"{name} is not compiled: run make setup"
    return module


@cache
def interpreted(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"outrider_ext_interpreted.{name}", EXT / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def both(name: str) -> list[ModuleType]:
    return [compiled(name), interpreted(name)]
