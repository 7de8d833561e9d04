"""`outrider trust [FILE]`: a configuration found in the working folder may set hosts and credentials from now on."""

import argparse
import os
from pathlib import Path

from outrider.config.load import FILE_NAME
from outrider.config.trust import trust

HELP = (
    "Trust a configuration file as it is now. One that was only found in the working folder may not say where secrets "
    "and traffic go before; changing the file ends the trust."
)
EXAMPLE = "outrider trust ./outrider.yaml"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "file", nargs="?", type=Path, default=Path(FILE_NAME), help=f"the file to trust (default: ./{FILE_NAME})"
    )


def run(args: argparse.Namespace) -> int:
    trusted = trust(args.file, os.environ)
    print(f"{args.file} is trusted as it is now (noted in {trusted})")
    return 0
