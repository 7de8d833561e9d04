"""The compiled hot path: every module of ext/outrider_ext becomes an extension. All else is in pyproject.toml.

OUTRIDER_STRICT=1 (lint): a warning of Cython's is an error, every module is translated anew, into .make/strict.
The policy packs (policies/) are data beside the sources, and go into the package.
An install from the sdist is not strict: a newer Cython may warn of what was fine when this was released.
"""

import os
import shutil
from pathlib import Path

from Cython.Build import cythonize
from Cython.Compiler import Options
from setuptools import Extension, setup
from setuptools.command.build_py import build_py

SOURCE = Path("ext/outrider_ext")
STRICT = os.environ.get("OUTRIDER_STRICT") == "1"


class BuildPy(build_py):
    """With the policy packs; an editable install finds them where they are."""

    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            shutil.copytree("policies", Path(self.build_lib) / "outrider" / "policies", dirs_exist_ok=True)


Options.warning_errors = STRICT
modules = sorted(p for p in SOURCE.iterdir() if p.suffix in {".py", ".pyx"} and p.stem != "__init__")
setup(
    ext_modules=cythonize(
        [
            Extension(
                f"outrider_ext.{path.stem}", [str(path)], extra_compile_args=["-O3", "-fno-semantic-interposition"]
            )
            for path in modules
        ],
        include_path=["ext"],
        force=STRICT,
        build_dir=".make/strict" if STRICT else None,
        # One place for directives; a module may only tighten them.
        compiler_directives={"language_level": "3", "auto_pickle": False},
    ),
    cmdclass={"build_py": BuildPy},
    options={"build_ext": {"parallel": os.cpu_count() or 1}},
)
