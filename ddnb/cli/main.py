"""The command line: ``python -m ddnb generate --checkpoint maestro-150k -n 8 --seed 0 --out sounds``.

Exit status: 0 done, 1 a check failed, 2 bad input, 130 interrupted. Paths and reports go to the standard output,
everything else to the standard error stream.
"""

from __future__ import annotations

import argparse
import io
import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn, TextIO

from ..clips.provenance import package_version
from ..errors import Cancelled, DdnbError, Interrupted
from ..notices import handle_warnings, ignore_warnings
from . import checkpoints, edits, generation, packs, training
from .common import LOG


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return the exit status."""
    with _tolerant(sys.stdout), _tolerant(sys.stderr):
        return _run(argv)


def _run(argv: Sequence[str] | None) -> int:
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
    except OSError as error:
        LOG.error(f"{error.filename}: {error.strerror}" if error.filename and error.strerror else error)
        return 2
    except (DdnbError, MemoryError, FloatingPointError) as error:
        LOG.error(error)
        return 2
    finally:
        LOG.removeHandler(handler)


@contextmanager
def _tolerant(stream: TextIO | None) -> Iterator[None]:
    """Let a stream write the names that its encoding lacks as escapes: files and pipes on Windows are in cp1252."""
    if not isinstance(stream, io.TextIOWrapper):  # a notebook's, or none at all
        yield
        return
    errors = stream.errors
    stream.reconfigure(errors="backslashreplace")
    try:
        yield
    finally:
        stream.reconfigure(errors=errors)


class _Parser(argparse.ArgumentParser):
    """A parser that answers what it cannot use with a sentence, where argparse prints a page of usage before it."""

    def __init__(self, **options: Any):
        super().__init__(**options)
        self.register("type", int, _whole)
        self.register("type", float, _number)

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"ddnb: {message}. See {self.prog} --help\n")


def _whole(text: str) -> int:
    try:
        return int(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r}: give a whole number, such as 4") from error


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r}: give a number, such as 0.5") from error


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    parser = _Parser(prog="python -m ddnb", description="Generate short sounds by diffusion.")
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
