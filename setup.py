"""The compiled hot path: every module of ext/outrider_ext becomes an extension. All else is in pyproject.toml.

OUTRIDER_STRICT=1 (lint): a warning of Cython's is an error, every module is translated anew, into .make/strict.
An install from the sdist is not strict: a newer Cython may warn of what was fine when this was released.
"""

import os
from pathlib import Path

from Cython.Build import cythonize
from Cython.Compiler import Options
from setuptools import Extension, setup

SOURCE = Path("ext/outrider_ext")
STRICT = os.environ.get("OUTRIDER_STRICT") == "1"

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
    options={"build_ext": {"parallel": os.cpu_count() or 1}},
)
