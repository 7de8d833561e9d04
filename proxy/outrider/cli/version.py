"""`outrider version`."""

import argparse
import platform
import ssl
from importlib.metadata import version

from outrider import __version__

HELP = "Print the versions of outrider, Python, OpenSSL and the event loop."
EXAMPLE = "outrider version"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    pass


def run(args: argparse.Namespace) -> int:
    from outrider_ext import http1

    compiled = "compiled" if str(http1.__file__).endswith(".so") else "interpreted"
    print(f"outrider {__version__} ({compiled})")
    print(f"Python {platform.python_version()}, uvloop {version('uvloop')}, {ssl.OPENSSL_VERSION}")
    return 0
