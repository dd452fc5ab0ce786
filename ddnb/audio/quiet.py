"""Quiet decoding: libmpg123 writes what it thinks of a file to the standard error stream, and cannot be told not to."""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
import threading
from collections.abc import Iterator

_STDERR = 2
_LOCK = threading.RLock()
_CHATTER = re.compile(
    rb"\[[^\]]*libmpg123[^\]]*\] (warning|error): .*|Warning: (Xing|Real sample|Encountered) .*|"
    rb"Note: (Trying to resync|Skipped \d|Illegal Audio|Hit end).*"
)


@contextlib.contextmanager
def without_chatter() -> Iterator[None]:
    """Drop what libmpg123 writes to the standard error stream; what others write meanwhile comes after it."""
    with _LOCK, contextlib.ExitStack() as stack:
        try:
            kept = os.dup(_STDERR)
            stack.callback(os.close, kept)
            said = stack.enter_context(tempfile.TemporaryFile(buffering=0))
        except OSError:  # a program without a console has no such stream, a full disk no temporary files
            yield
            return
        os.dup2(said.fileno(), _STDERR)
        try:
            yield
        finally:
            os.dup2(kept, _STDERR)
            said.seek(0)
            for line in said.readall().splitlines(keepends=True):
                if not _CHATTER.match(line):
                    os.write(_STDERR, line)
