"""The command line: ``python -m ddnb generate --checkpoint maestro-150k -n 8 --seed 0 --out sounds``.

Exit status: 0 done, 1 a check failed, 2 bad input, 130 interrupted. Paths and reports go to the standard output,
everything else to the standard error stream.
"""

from __future__ import annotations

import argparse
import io
import logging
import sys
from collections.abc import Sequence

from ..clips.provenance import package_version
from ..errors import Cancelled, DdnbError, Interrupted
from ..notices import handle_warnings, ignore_warnings
from . import checkpoints, edits, generation, packs, training
from .common import LOG


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return the exit status."""
    arguments = build_parser().parse_args(argv)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("ddnb: %(message)s"))
    LOG.addHandler(handler)
    LOG.setLevel(logging.INFO)
    try:
        with handle_warnings(LOG.warning), ignore_warnings(Interrupted):  # commands report interrupts themselves
            return arguments.run(arguments)
    except Cancelled as error:
        LOG.error(error)
        return 130
    except KeyboardInterrupt:
        LOG.error("interrupted")
        return 130
    except (DdnbError, OSError, MemoryError, FloatingPointError) as error:
        LOG.error(error)
        return 2
    finally:
        LOG.removeHandler(handler)


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    parser = argparse.ArgumentParser(prog="python -m ddnb", description="Generate short sounds by diffusion.")
    parser.add_argument("--version", action="version", version=f"ddnb {package_version()}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for group in (generation, edits, training, packs, checkpoints):
        group.add_commands(commands)
    return parser


def cli() -> None:
    """Run the ``ddnb`` command. What a console or a file cannot show of a name is written as its code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    sys.exit(main())
