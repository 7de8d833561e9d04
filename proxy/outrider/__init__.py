"""Outrider: a sidecar proxy that governs an app's traffic to LLM providers without a change to the app."""

from functools import cache

__all__ = ["__version__"]


@cache
def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("outrider")
    except PackageNotFoundError:  # a source tree on the path, not installed
        return "0+source"


def __getattr__(name: str) -> str:
    """`__version__` is looked up when it is asked for: finding it takes longer than any module of ours."""
    if name == "__version__":
        return _version()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
