"""`outrider ca`: what the interception CA is, its trust bundle in any form, and taking over another.

The CA is made if there is none yet: whoever asks for it is about to trust it.
"""

import argparse
import os
import sys
from pathlib import Path
from typing import Any

from outrider.cli import env
from outrider.cli.arguments import actions_of
from outrider.config import Config, load
from outrider.door.ca import CertificateAuthority, import_authority, utc_now
from outrider.door.ca_files import cannot_write, write_file
from outrider.errors import StartError

HELP = "Show the interception CA, write its trust bundle, or take over a CA that clients trust already."
EXAMPLE = "outrider ca bundle --out bundle.pem"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = actions_of(parser)

    show = add("show", _show, "subject, fingerprint, validity and file", "outrider ca show --json")
    show.add_argument("--json", action="store_true", help="as JSON")

    bundle = add("bundle", _bundle, "system roots and this CA, for clients whose roots it replaces", EXAMPLE)
    bundle.add_argument("--out", type=Path, metavar="FILE", help="write there instead of to standard output")
    bundle.add_argument("--ca-only", action="store_true", help="without the system's roots, for clients that add it")
    bundle.add_argument("--format", choices=("pem", "p12"), default="pem", help="p12 is Java's (password: changeit)")

    taken = add("import", _import, "take over mitmproxy's CA, or another Outrider's", "outrider ca import ~/.mitmproxy")
    taken.add_argument("source", type=Path, metavar="DIR", help="a folder with mitmproxy-ca.pem, e.g. ~/.mitmproxy")

    env.add_arguments(add("env", env.run, "the same as `outrider env`", "outrider ca env --format docker"))
    for action in (show, bundle, taken):
        env.add_place_arguments(action)


def _show(args: argparse.Namespace) -> int:
    facts = _facts(env.authority_of(args)[0])
    if args.json:
        import orjson

        sys.stdout.write(orjson.dumps(facts, option=orjson.OPT_INDENT_2).decode() + "\n")
        return 0
    rows = {
        "subject": facts["subject"],
        "sha256": facts["fingerprint_sha256"],
        "valid": f"{facts['not_before']} to {facts['not_after']}",
        "names": ", ".join(facts["permitted"]) or "any",
        "file": facts["path"],
    }
    sys.stdout.write("".join(f"{name:<8} {value}\n" for name, value in rows.items()))
    return 0


def _facts(authority: CertificateAuthority) -> dict[str, Any]:
    return {
        "subject": authority.subject,
        "fingerprint_sha256": authority.fingerprint_sha256,
        "not_before": f"{authority.not_before:%Y-%m-%dT%H:%M:%SZ}",
        "not_after": f"{authority.not_after:%Y-%m-%dT%H:%M:%SZ}",
        "permitted": sorted(authority.permitted),
        "path": str(authority.certificate_path),
    }


def _bundle(args: argparse.Namespace) -> int:
    from outrider.runtimes import merged_bundle, trust_store

    authority, _ = env.authority_of(args)
    content = authority.certificate_pem if args.ca_only else merged_bundle(authority, os.environ)
    if args.format == "p12":
        content = trust_store(content)
    if args.out is None:
        if args.format == "p12" and sys.stdout.isatty():
            raise StartError("A p12 store is no text for a terminal: add --out FILE.", exit_code=2)
        sys.stdout.buffer.write(content)
        return 0
    try:
        write_file(args.out, content)
    except OSError as exc:
        raise cannot_write(args.out, exc, "--out") from exc
    print(f"wrote {args.out}", file=sys.stderr)
    return 0


def _import(args: argparse.Namespace) -> int:
    config: Config = load(args.config, os.environ)
    directory: Path = args.dir or config.ca.dir
    authority = import_authority(args.source, directory, now=utc_now)
    print(f"imported {authority.subject} into {authority.certificate_path.parent}", file=sys.stderr)
    return 0
