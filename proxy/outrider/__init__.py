"""Outrider: a sidecar proxy that governs an app's traffic to LLM providers without a change to the app."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("outrider")
except PackageNotFoundError:  # a source tree on the path, not installed
    __version__ = "0+source"

__all__ = ["__version__"]
